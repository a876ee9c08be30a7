"""Measure how long it takes to recognise data sets of many pairs, and how often each mask is decoded.

    python benchmarks/recognition.py [--pairs 5000 50000] [--size 64]

Writes pairs of small PNG files into a temporary folder, in two layouts: `images` and `masks` with class ids, and
`photo` and `gt` with 0 and 255. Prints the seconds, wall clock and processor, of `find_dataset` and of
`read_training_data`, and the number of decoded masks per pair in each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_training_data

DIFFERENT = 50
"""So many different pairs are drawn; the others are copies."""


def write_pairs(root: Path, folders: tuple[str, str], top: int, pairs: int, size: int) -> None:
    """Write pairs of an image and a mask of two or three classes."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(pairs):
        files = [root / folder / f"{number:06d}.png" for folder in folders]
        if number >= DIFFERENT:
            for folder, file in zip(folders, files, strict=True):
                shutil.copyfile(root / folder / f"{number % DIFFERENT:06d}.png", file)
            continue
        mask = np.zeros((size, size), np.uint8)
        top_row, left = rng.integers(0, size // 2, 2)
        mask[top_row : top_row + size // 3, left : left + size // 3] = top
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(files[0])
        Image.fromarray(mask).save(files[1])


def count_decoded(work: Callable[[], object], folder: Path) -> tuple[str, int]:
    """Return the seconds of the work, wall clock and processor, and how often a file of the folder was decoded."""
    load, decoded = ImageFile.load, 0
    prefix = str(folder) + os.sep

    def count_and_load(image: ImageFile) -> object:
        nonlocal decoded
        decoded += bool(image.tile) and str(getattr(image.fp, "name", "")).startswith(prefix)
        return load(image)

    ImageFile.load = count_and_load  # type: ignore[assignment, method-assign]
    try:
        begin, processor = time.perf_counter(), time.process_time()
        work()
        seconds = time.perf_counter() - begin, time.process_time() - processor
        return f"{seconds[0]:.1f} ({seconds[1]:.1f}) s", decoded
    finally:
        ImageFile.load = load  # type: ignore[method-assign]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[5000, 50000])
    parser.add_argument("--size", type=int, default=64, help="width and height of the images, in pixels")
    options = parser.parse_args()
    print(f"{'pairs':>7}  {'layout':<14}  {'find_dataset':>16}  {'read_training_data':>18}  masks decoded per pair")
    for pairs in options.pairs:
        for folders, top in ((("images", "masks"), 1), (("photo", "gt"), 255)):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "data"
                write_pairs(root, folders, top, pairs, options.size)
                found, once = count_decoded(partial(find_dataset, root), root / folders[1])
                read, again = count_decoded(partial(read_training_data, root), root / folders[1])
            name, counts = "/".join(folders), f"{once / pairs:.2f} and {again / pairs:.2f}"
            print(f"{pairs:>7}  {name:<14}  {found:>16}  {read:>18}  {counts}")


if __name__ == "__main__":
    main()
