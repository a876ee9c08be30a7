"""A folder of microscope-like pictures with masks, to train on from the first command: not the digits.

    python benchmarks/cells.py DIR [--count 25] [--size 320x240] [--seed 0]
    fullconv check DIR && fullconv train DIR

Cells are soft, uneven blobs with a darker nucleus inside, over a background that is lit unevenly; some debris looks
like nuclei and belongs to the background. Classes: background, cell, nucleus. Rims that nobody could draw, a pixel
wide, are ignored (255).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.files import write_text
from fullconv.images import write_image, write_label_map
from fullconv.labels import IGNORE_INDEX, LabelSet

LABELS = LabelSet.named(["background", "cell", "nucleus"])

Floats = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]


def blob(chance: np.random.Generator, size: tuple[int, int], center: Floats, radius: float) -> Floats:
    """H x W: below 1 inside of a round outline with a few soft bumps, above 1 outside."""
    y, x = np.mgrid[: size[0], : size[1]] - center[:, None, None]
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    outline = np.full(size, radius)
    for wave in (2, 3, 5):
        outline += radius * chance.uniform(0, 0.25 / wave) * np.cos(wave * angle + chance.uniform(0, 2 * np.pi))
    found: Floats = distance / outline
    return found


def lighting(chance: np.random.Generator, size: tuple[int, int]) -> Floats:
    """H x W around 1: brighter towards one side."""
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None] - 0.5
    turn = chance.uniform(0, 2 * np.pi)
    light: Floats = 1 + chance.uniform(0.1, 0.3) * (np.cos(turn) * x + np.sin(turn) * y)
    return light


def picture(seed: list[int], size: tuple[int, int]) -> tuple[UInt8, UInt8]:
    """H x W x 3 uint8 and its label map, H x W uint8."""
    chance = np.random.default_rng(seed)
    tint = np.array([0.86, 0.80, 0.88])
    image = np.ones((*size, 3)) * tint
    target = np.zeros(size, np.uint8)
    for _ in range(int(chance.integers(0, 5))):  # debris
        shape = blob(chance, size, chance.uniform(0, size), chance.uniform(2, 6))[..., None]
        image = np.where(shape < 1, image * chance.uniform(0.4, 0.7), image)
    for _ in range(int(chance.integers(4, 12))):
        center, radius = chance.uniform(0, size), chance.uniform(0.06, 0.12) * min(size)
        cell = blob(chance, size, center, radius)
        body = np.clip(1.15 - cell, 0, 1)[..., None]
        image *= 1 - body * (1 - tint * chance.uniform(0.75, 0.95) / tint.max()) * np.array([0.6, 1.1, 0.5])
        nucleus = blob(chance, size, center + chance.normal(0, radius / 6, 2), radius * chance.uniform(0.3, 0.5))
        image = np.where(nucleus[..., None] < 1, image * np.array([0.55, 0.42, 0.72]), image)
        target[cell < 1] = 1
        target[(cell >= 1) & (cell < 1 + 1 / radius)] = IGNORE_INDEX
        target[nucleus < 1] = 2
    image *= lighting(chance, size)[..., None]
    image += chance.normal(0, 0.025, image.shape)
    return (255 * np.clip(image, 0, 1)).astype(np.uint8), target


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--size", default="320x240", help="width x height")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    for number in range(options.count):
        image, target = picture([options.seed, number], (height, width))
        write_image(options.folder / "images" / f"cells-{number:03d}.png", image)
        write_label_map(options.folder / "masks" / f"cells-{number:03d}.png", target, LABELS)
    write_text(options.folder / "classes.txt", "\n".join(LABELS.class_names) + "\n")


if __name__ == "__main__":
    main()
