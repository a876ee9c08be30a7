"""Draw a data set of microscope-like pictures with masks, to try `fullconv check` and `fullconv train` on.

    python benchmarks/cells.py DIR [--count 25] [--size 320x240] [--seed 0]
    fullconv check DIR && fullconv train DIR

Cells are soft, uneven blobs with a darker nucleus, on an unevenly lit background. Some debris looks like nuclei and
belongs to the background. The classes are background, cell and nucleus. A rim of one pixel around each cell, which
nobody could draw exactly, is ignored (255).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fullconv.arrays import Float64, UInt8
from fullconv.files import write_text
from fullconv.images import write_image, write_label_map
from fullconv.labels import IGNORE_INDEX, LabelSet

LABELS = LabelSet.named(["background", "cell", "nucleus"])


def draw_blob(chance: np.random.Generator, size: tuple[int, int], center: Float64, radius: float) -> Float64:
    """Return H x W distances, below 1 inside a round outline with soft bumps, above 1 outside."""
    y, x = np.mgrid[: size[0], : size[1]] - center[:, None, None]
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    outline = np.full(size, radius)
    for wave in (2, 3, 5):
        outline += radius * chance.uniform(0, 0.25 / wave) * np.cos(wave * angle + chance.uniform(0, 2 * np.pi))
    scaled: Float64 = distance / outline
    return scaled


def draw_lighting(chance: np.random.Generator, size: tuple[int, int]) -> Float64:
    """Return H x W factors around 1, larger towards one side."""
    y, x = np.mgrid[: size[0], : size[1]] / np.array(size)[:, None, None] - 0.5
    turn = chance.uniform(0, 2 * np.pi)
    light: Float64 = 1 + chance.uniform(0.1, 0.3) * (np.cos(turn) * x + np.sin(turn) * y)
    return light


def draw_picture(seed: list[int], size: tuple[int, int]) -> tuple[UInt8, UInt8]:
    """Return an image, H x W x 3 uint8, and its label map, H x W uint8."""
    chance = np.random.default_rng(seed)
    tint = np.array([0.86, 0.80, 0.88])
    image = np.ones((*size, 3)) * tint
    target = np.zeros(size, np.uint8)
    for _ in range(int(chance.integers(0, 5))):  # debris
        shape = draw_blob(chance, size, chance.uniform(0, size), chance.uniform(2, 6))[..., None]
        image = np.where(shape < 1, image * chance.uniform(0.4, 0.7), image)
    for _ in range(int(chance.integers(4, 12))):
        center, radius = chance.uniform(0, size), chance.uniform(0.06, 0.12) * min(size)
        cell = draw_blob(chance, size, center, radius)
        body = np.clip(1.15 - cell, 0, 1)[..., None]
        image *= 1 - body * (1 - tint * chance.uniform(0.75, 0.95) / tint.max()) * np.array([0.6, 1.1, 0.5])
        nucleus = draw_blob(chance, size, center + chance.normal(0, radius / 6, 2), radius * chance.uniform(0.3, 0.5))
        image = np.where(nucleus[..., None] < 1, image * np.array([0.55, 0.42, 0.72]), image)
        target[cell < 1] = 1
        target[(cell >= 1) & (cell < 1 + 1 / radius)] = IGNORE_INDEX
        target[nucleus < 1] = 2
    image *= draw_lighting(chance, size)[..., None]
    image += chance.normal(0, 0.025, image.shape)
    return (255 * np.clip(image, 0, 1)).astype(np.uint8), target


def main() -> None:
    """Write images, masks and classes.txt."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--size", default="320x240", help="width x height")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    for number in range(options.count):
        image, target = draw_picture([options.seed, number], (height, width))
        write_image(options.folder / "images" / f"cells-{number:03d}.png", image)
        write_label_map(options.folder / "masks" / f"cells-{number:03d}.png", target, LABELS)
    write_text(options.folder / "classes.txt", "\n".join(LABELS.class_names) + "\n")


if __name__ == "__main__":
    main()
