"""Compare tiled with whole-image prediction: labels that differ, and the cost of the halo, for several tile sizes.

    python benchmarks/tiling.py [--models vgg16,resnet18,mobilenet_v2] [--stride 8] [--size 1536x1536]
                                [--tiles 640,768,1024] [--rounds 3] [--threads N] [--json FILE]

Prints a Markdown table. Networks have random weights, and the image is noise over coarse blobs, since only the
arithmetic must agree. Whole-image and tiled predictions take turns, and the last column is the ratio of their times
within a round. The column before it is the number of computed pixels relative to the image, which follows from the
halo. Time is wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fullconv.arrays import UInt8
from fullconv.errors import UsageError
from fullconv.labels import LabelSet
from fullconv.net.fcn.network import rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.runtime.tiles import TiledRunner
from fullconv.runtime.verify import verify_tiles

CLASSES = 21


def build_network(model: str, stride: int) -> TorchRunner:
    """Return the skip network with random score layers, so that its logits depend on every tap."""
    torch.manual_seed(0)
    net = rebuild(NetSpec(model, CLASSES, stride))
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    return TorchRunner(net, LabelSet.named([str(number) for number in range(CLASSES)]), "cpu")


def draw_picture(height: int, width: int) -> UInt8:
    """Return coarse blobs with noise, H x W x 3 uint8."""
    chance = np.random.default_rng(0)
    blobs = chance.integers(0, 192, (height // 64 + 1, width // 64 + 1, 3), np.uint8).repeat(64, 0).repeat(64, 1)
    pixels: UInt8 = blobs[:height, :width] + chance.integers(0, 64, (height, width, 3), np.uint8)
    return pixels


def measure_once(runner: TorchRunner | TiledRunner, image: UInt8) -> float:
    """Return the seconds of one label map."""
    start = time.perf_counter()
    runner.label_maps(image[None])
    return time.perf_counter() - start


def measure(tiled: TiledRunner, runner: TorchRunner, image: UInt8, rounds: int) -> dict[str, Any]:
    """Return shape of tiles, computed pixels, differences, and the seconds of each round."""
    tiles = tiled.tiles((image.shape[0], image.shape[1]))
    computed = sum(len(rows.read) * len(columns.read) for rows, columns in tiles)
    verification = verify_tiles(tiled, image)  # these calls also warm up
    pairs = [(measure_once(runner, image), measure_once(tiled, image)) for _ in range(rounds)]
    shape = f"{len(tiles[0][0].read)}x{len(tiles[0][1].read)}"
    return {
        "shape": shape,
        "computed": computed / verification.pixels,
        "verification": asdict(verification),
        "seconds": pairs,
    }


def make_row(model: str, halo: str, tile: int, result: dict[str, Any]) -> str:
    """Return one line of the table."""
    verification, ratios = result["verification"], [tiled / whole for whole, tiled in result["seconds"]]
    whole = np.median([pair[0] for pair in result["seconds"]])
    cells = [model, halo, str(tile), f"{verification['tiles']} of {result['shape']}"]
    cells += [
        f"{verification['differing']} ({verification['ties']} ties)",
        f"{verification['largest'] / verification['logit_range']:.1e}",
    ]
    cells += [f"{whole:.2f}", f"{result['computed']:.2f}", f"{np.median(ratios):.2f}"]
    return f"| {' | '.join(cells)} |"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="vgg16,resnet18,mobilenet_v2")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--size", default="1536x1536", help="height x width")
    parser.add_argument("--tiles", default="640,768,1024")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    return parser.parse_args()


def main() -> None:
    """Measure, and print a Markdown table."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    height, width = (int(side) for side in options.size.split("x"))
    image = draw_picture(height, width)
    about = f"fullconv {version('fullconv')}, torch {version('torch')}, Python {platform.python_version()}"
    print(f"{about}, {options.threads} threads, {height} x {width}, medians of {options.rounds} rounds\n")
    heads = ["backbone", "halo", "tile", "tiles", "labels that differ", "logits differ, of their range"]
    heads += ["whole, s", "pixels computed, x image", "time, x whole"]
    print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    records = []
    for model in options.models.split(","):
        runner = build_network(model, options.stride)
        halo = f"{runner.info.windows[0].before} + {runner.info.windows[0].after}"
        for tile in map(int, options.tiles.split(",")):
            try:
                tiled = TiledRunner(runner, tile)
            except UsageError as error:
                print(f"{model}: {error}", file=sys.stderr)
                continue
            result = measure(tiled, runner, image, options.rounds)
            print(make_row(model, halo, tile, result), flush=True)
            records.append({"model": model, "tile": tile, **result})
    if options.json:
        options.json.write_text(json.dumps({"environment": about, "measured": records}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
