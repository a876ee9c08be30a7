"""The base set without faults, and functions to change it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.arrays import UInt8

__all__ = [
    "COLORS", "SIZE", "STEMS", "UInt8", "base", "image", "label_map", "mask", "masks", "name_classes", "save", "scene",
]  # fmt: skip

SIZE = (48, 64)
COLORS = {"ground": (0, 0, 0), "roof": (200, 0, 0), "tree": (0, 160, 0)}
STEMS = {"train": ("a", "b", "c"), "val": ("d", "e")}


def scene(seed: int, size: tuple[int, int] = SIZE) -> UInt8:
    """Return a smooth random picture; other seeds give other pictures."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def label_map(seed: int = 0, size: tuple[int, int] = SIZE) -> UInt8:
    """Return ground with a roof and a tree; the first row is 255."""
    target = np.zeros(size, np.uint8)
    target[size[0] // 8 : size[0] // 2, size[1] // 8 : size[1] // 2] = 1
    target[size[0] // 2 : -4, size[1] // 2 + seed % 8 :] = 2
    target[0] = 255
    return target


def save(path: Path, array: npt.NDArray[np.generic], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def image(root: Path, stem: str, suffix: str = ".png", split: str = "train") -> Path:
    return root / "images" / split / f"{stem}{suffix}"


def mask(root: Path, stem: str, suffix: str = ".png", split: str = "train") -> Path:
    return root / "masks" / split / f"{stem}{suffix}"


def masks(root: Path) -> list[Path]:
    return sorted((root / "masks").rglob("*.png"))


def name_classes(root: Path, names: tuple[str, ...] = tuple(COLORS), palette: bool = False) -> None:
    lines = [f"names: [{', '.join(names)}]"]
    if palette:
        lines.append(f"palette: [{', '.join(str(list(COLORS[name])) for name in names)}]")
    (root / "dataset.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def base(root: Path) -> Path:
    """Write three training pairs and two validation pairs without faults."""
    for number, (split, stem) in enumerate((split, stem) for split, stems in STEMS.items() for stem in stems):
        save(image(root, stem, split=split), scene(number))
        save(mask(root, stem, split=split), label_map(number))
    name_classes(root)
    return root
