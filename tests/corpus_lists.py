"""Faults of lists of images as VOC has them, for corpus.py."""

from __future__ import annotations

from pathlib import Path

from corpus_base import COLORS, STEMS, label_map, save, scene

__all__ = ["listed_absent", "listed_twice", "voc_without_lists"]

LISTS = Path("ImageSets", "Segmentation")


def _voc(root: Path) -> Path:
    """Write the base set with VOC's folders and lists and custom classes. Return the folder of the lists."""
    (root / LISTS).mkdir(parents=True)
    number = 0
    for split, stems in STEMS.items():
        for stem in stems:
            save(root / "JPEGImages" / f"{stem}.png", scene(number))
            save(root / "SegmentationClass" / f"{stem}.png", label_map(number))
            number += 1
        (root / LISTS / f"{split}.txt").write_text("\n".join(stems) + "\n", encoding="utf-8")
    (root / "classes.txt").write_text("\n".join(COLORS) + "\n", encoding="utf-8")
    return root / LISTS


def listed_absent(root: Path) -> Path:
    lists = _voc(root)
    (lists / "train.txt").write_text("a\nb\nc\nghost\n", encoding="utf-8")
    return lists


def listed_twice(root: Path) -> Path:
    lists = _voc(root)
    (lists / "train.txt").write_text("a\nb\nc\nb\n", encoding="utf-8")
    return lists


def voc_without_lists(root: Path) -> Path:
    lists = _voc(root)
    (root / "classes.txt").unlink()
    for path in lists.iterdir():
        path.unlink()
    return lists
