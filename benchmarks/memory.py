"""Measure the peak memory of predicting large images. With tiles it must not grow with the size of the image.

    pip install -e ".[geo]"
    python benchmarks/memory.py [--sides 1000,4000,16000,30000] [--model street] [--tile 1536]
                                [--kind tiles|strips|png|jpeg] [--folder DIR]

Prints a Markdown table. The images are squares of random colours, written as TIFF in tiles, TIFF in strips, PNG or
JPEG. With --folder, images and results stay in that folder: a stopped run resumes with the missing tiles, and
measurements in `memory.json` are not repeated.

Each image is predicted in a new process. Peak memory is the VmHWM (Linux) of that process, including Python and the
network. Seconds are those of the last process, so for a resumed image they cover only a part. With `--tile 0`, images
are predicted as `fullconv predict` does by default: in memory up to 64 million pixels, in tiles that it chooses, with
an overlay.
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
from rasterio.windows import Window as RasterWindow

if TYPE_CHECKING:
    from fullconv.runtime.runner import Runner

SUFFIXES = {"tiles": ".tif", "strips": ".tif", "png": ".png", "jpeg": ".jpg"}
BAND = 512


def make_image(path: Path, side: int, kind: str) -> None:
    """Write a square of random colours in blocks of 8 pixels, band by band.

    GDAL cannot write PNG and JPEG in windows, so these are copied from a TIFF.
    """
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
            target.write(band, window=RasterWindow(0, top, side, rows))
    if kind in ("png", "jpeg"):
        copy(first, path, driver=kind.upper())
        first.unlink()
    else:
        first.replace(path)


def predict_one(options: argparse.Namespace) -> None:
    """Predict one image in this process, and print the peak memory as JSON."""
    from fullconv.runtime.load import load_runner
    from fullconv.runtime.models import model_path

    runner = load_runner(model_path(options.model))
    before, start = read_resident("VmHWM"), time.perf_counter()
    tiles, resumed = (predict_in_windows if options.tile else predict_by_default)(runner, options)
    result = {"seconds": time.perf_counter() - start, "tiles": tiles, "resumed": resumed}
    print(json.dumps({**result, "peak": read_resident("VmHWM"), "before": before}))


def predict_in_windows(runner: Runner, options: argparse.Namespace) -> tuple[int, int]:
    """Read and write the image in windows; return the number of tiles, and of those that existed before."""
    from fullconv.predict.large import large_targets, predict_large
    from fullconv.runtime.tiles import TiledRunner

    tiled = TiledRunner(runner, options.tile)
    targets = large_targets(options.image, {"labels": options.image.with_name(f"labels-{options.image.name}")})
    result = predict_large(tiled, options.image, targets)
    return result.tiles, result.resumed


def predict_by_default(runner: Runner, options: argparse.Namespace) -> tuple[int, int]:
    """Predict as the command does by default; return the number of tiles, and 0 (none existed before)."""
    from fullconv.images import read_header
    from fullconv.predict.large import goes_in_windows
    from fullconv.predict.predict_files import predict_files
    from fullconv.runtime.tiles import TiledRunner, in_memory

    assert not goes_in_windows(runner, options.image), "the image has more than 64 million pixels; give --tile"
    report = predict_files(runner, [options.image], options.image.with_name("results"))
    assert not report.failed, report.failed
    size = read_header(options.image, None).stored
    chosen = in_memory(runner, size)
    return len(chosen.tiles(size)) if isinstance(chosen, TiledRunner) else 1, 0


def read_resident(field: str) -> int:
    """Return a memory field of this process in bytes; VmHWM is the peak so far."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
    assert match is not None
    return 1024 * int(match[1])


def measure(side: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one image in a new process; create the image if it does not exist."""
    path = folder / f"{options.kind}-{side}{SUFFIXES[options.kind]}"
    if not path.exists():
        make_image(path, side, options.kind)
    words = ["--image", path, "--model", options.model, "--tile", options.tile]
    run = subprocess.run([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(run.stdout)
    return {**result, "file": path.stat().st_size}


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="1000,4000,16000,30000")
    parser.add_argument("--model", default="street", help="as for fullconv predict")
    parser.add_argument("--tile", type=int, default=1536, help="side in pixels; 0: as predict does by default")
    parser.add_argument("--kind", choices=SUFFIXES, default="tiles")
    parser.add_argument(
        "--folder", type=Path, help="folder for images, results and memory.json; default: a temporary one"
    )
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, and print a Markdown table."""
    options = parse_arguments()
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
            record = known[key]
            sizes = [f"{size / 2**20:,.0f}" for size in (3 * side**2, record["peak"], record["before"])]
            tiles = str(record["tiles"]) + (f" ({record['resumed']} resumed)" if record["resumed"] else "")
            print(f"| {side:,} x {side:,} | {options.kind} | {' | '.join(sizes)} | {tiles} | {record['seconds']:.0f} |")


if __name__ == "__main__":
    main()
