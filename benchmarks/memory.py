"""Peak memory of predicting large images, each in a process of its own: in windows it must not grow with the image.

    pip install -e ".[geo]"
    python benchmarks/memory.py [--sides 1000,4000,16000,30000] [--model street] [--tile 1536]
                                [--kind tiles|strips|png|jpeg] [--folder DIR]

Prints a markdown table. The images are squares of random colours, made beside the results in a folder that stays where
--folder names one: stopped, a run goes on with the tiles that are missing, and what is done is not done again
(`memory.json`). Peak memory is VmHWM (Linux) of the process that predicts, with Python and the network in it; the
seconds are those of the last process, so that of an image that was resumed they tell of a part. Files are TIFF in
tiles, TIFF in strips, PNG or JPEG. With `--tile 0` an image is predicted as `fullconv predict` does by default: up to
64 million pixels in memory, computed in tiles of its own choice, with an overlay.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.shutil import copy
from rasterio.windows import Window as Place

if TYPE_CHECKING:
    from fullconv.run.runner import Runner

SUFFIXES = {"tiles": ".tif", "strips": ".tif", "png": ".png", "jpeg": ".jpg"}
BAND = 512


def make_image(path: Path, side: int, kind: str) -> None:
    """A square of random colours in blocks of 8 pixels, band by band, through a TIFF where GDAL only copies."""
    profile: dict[str, Any] = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8"}
    profile |= {"compress": "deflate", "zlevel": 1, "interleave": "pixel", "BIGTIFF": "IF_SAFER"}
    profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(0.25, 0, 5e5, 0, -0.25, 4.6e6)}
    if kind != "strips":
        profile |= {"tiled": True, "blockxsize": BAND, "blockysize": BAND}
    chance = np.random.default_rng(side)
    first = path.with_name(f"making-{path.name}.tif")
    with rasterio.open(first, "w", **profile) as target:
        for top in range(0, side, BAND):
            rows = min(BAND, side - top)
            blocks = chance.integers(0, 256, (3, -(-rows // 8), -(-side // 8)), np.uint8)
            band = blocks.repeat(8, 1).repeat(8, 2)[:, :rows, :side]
            target.write(band, window=Place(0, top, side, rows))
    if kind in ("png", "jpeg"):
        copy(first, path, driver=kind.upper())
        first.unlink()
    else:
        first.replace(path)


def predict_one(options: argparse.Namespace) -> None:
    """In a process of its own: predict, and print the peak as JSON."""
    from fullconv.run.load import load_runner
    from fullconv.run.models import model_path

    runner = load_runner(model_path(options.model))
    before, start = resident("VmHWM"), time.perf_counter()
    tiles, resumed = (in_windows if options.tile else by_default)(runner, options)
    taken = {"seconds": time.perf_counter() - start, "tiles": tiles, "resumed": resumed}
    print(json.dumps({**taken, "peak": resident("VmHWM"), "before": before}))


def in_windows(runner: Runner, options: argparse.Namespace) -> tuple[int, int]:
    """Read and written in windows: how many tiles, and how many of them were there from before."""
    from fullconv.run.large import large_targets, predict_large
    from fullconv.run.tiles import TiledRunner

    tiled = TiledRunner(runner, options.tile)
    targets = large_targets(options.image, {"labels": options.image.with_name(f"labels-{options.image.name}")})
    found = predict_large(tiled, options.image, targets)
    return found.tiles, found.resumed


def by_default(runner: Runner, options: argparse.Namespace) -> tuple[int, int]:
    """As the command does it: how many tiles."""
    from fullconv.images import read_header
    from fullconv.run.large import goes_in_windows
    from fullconv.run.predict import predict_files
    from fullconv.run.tiles import TiledRunner, in_memory

    assert not goes_in_windows(runner, options.image), "more than 64 million pixels: give a tile"
    report = predict_files(runner, [options.image], options.image.with_name("results"))
    assert not report.failed, report.failed
    size = read_header(options.image, None).stored
    chosen = in_memory(runner, size)
    return len(chosen.tiles(size)) if isinstance(chosen, TiledRunner) else 1, 0


def resident(field: str) -> int:
    """Bytes of this process in memory: VmHWM at most so far."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def measure(side: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One image, in a process of its own; the image is made unless it is there."""
    path = folder / f"{options.kind}-{side}{SUFFIXES[options.kind]}"
    if not path.exists():
        make_image(path, side, options.kind)
    words = ["--image", path, "--model", options.model, "--tile", options.tile]
    run = subprocess.run([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(run.stdout)
    return {**found, "file": path.stat().st_size}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="1000,4000,16000,30000")
    parser.add_argument("--model", default="street", help="of fullconv predict")
    parser.add_argument("--tile", type=int, default=1536, help="0: as predict does by default")
    parser.add_argument("--kind", choices=SUFFIXES, default="tiles")
    parser.add_argument("--folder", type=Path, help="for images, results and memory.json; a temporary one")
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = arguments()
    if options.image:
        predict_one(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        records = folder / "memory.json"
        known: dict[str, Any] = json.loads(records.read_text("utf-8")) if records.exists() else {}
        print(f"{options.model}, {f'tiles of {options.tile}' if options.tile else 'as by default'}\n")
        print("| image | file | MiB of pixels | peak MiB | of it before the image | tiles | s |")
        print(f"|---|---|{'---:|' * 5}", flush=True)
        for side in map(int, options.sides.split(",")):
            key = f"{options.kind} {side} {options.model} {options.tile}"
            if key not in known:
                known[key] = measure(side, folder, options)
                records.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
            found = known[key]
            sizes = [f"{size / 2**20:,.0f}" for size in (3 * side**2, found["peak"], found["before"])]
            tiles = f"{found['tiles']}" + (f" ({found['resumed']} from before)" if found["resumed"] else "")
            print(f"| {side:,} x {side:,} | {options.kind} | {' | '.join(sizes)} | {tiles} | {found['seconds']:.0f} |")


if __name__ == "__main__":
    main()
