"""Faults of masks, for corpus.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from corpus_base import COLORS, SIZE, STEMS, base, label_map, mask, masks, name_classes, save, scene


def jpeg_mask(root: Path) -> Path:
    base(root)
    mask(root, "b").unlink()
    return save(mask(root, "b", ".jpg"), label_map(1), quality=90)


def mask_0_255(root: Path) -> Path:
    base(root)
    name_classes(root, ("ground", "roof"))
    for path in masks(root):
        save(path, np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8))
    return mask(root, "b")


def antialiased_grey(root: Path) -> Path:
    base(root)
    name_classes(root, ("ground", "roof"))
    for path in masks(root):
        save(path, (np.asarray(Image.open(path)) == 1).astype(np.uint8))
    smooth = Image.fromarray(np.where(label_map(1) == 1, 255, 0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    smooth.save(mask(root, "b"))
    return mask(root, "b")


def colour_masks(root: Path) -> None:
    base(root)
    name_classes(root, palette=True)
    table = np.array([*COLORS.values(), *[(255, 255, 255)] * 253], np.uint8)
    for path in masks(root):
        save(path, table[np.asarray(Image.open(path))])


def antialiased_colours(root: Path) -> Path:
    colour_masks(root)
    path = mask(root, "b")
    Image.open(path).filter(ImageFilter.GaussianBlur(0.7)).save(path)
    return root


def unknown_colour(root: Path) -> Path:
    colour_masks(root)
    rgb = np.array(Image.open(mask(root, "b")))
    rgb[20:40, 4:20] = (90, 40, 220)
    return save(mask(root, "b"), rgb)


def no_colour_table(root: Path) -> Path:
    colour_masks(root)
    name_classes(root)
    return root


def unknown_label(root: Path) -> Path:
    base(root)
    target = label_map(1)
    target[20:40, 4:20] = 7
    return save(mask(root, "b"), target)


def grey_levels(root: Path) -> Path:
    base(root)
    (root / "dataset.yaml").unlink()
    for number, path in enumerate(masks(root)):
        save(path, scene(number)[..., 0])
    return root


def only_background(root: Path) -> Path:
    base(root)
    for path in masks(root):
        save(path, np.zeros(SIZE, np.uint8))
    return root


def all_ignored(root: Path) -> Path:
    base(root)
    return save(mask(root, "b"), np.full(SIZE, 255, np.uint8))


def background_image(root: Path) -> Path:
    base(root)
    return save(mask(root, "b"), np.zeros(SIZE, np.uint8))


def colours_without_names(root: Path) -> Path:
    base(root)
    (root / "dataset.yaml").unlink()
    table = np.array([*COLORS.values(), *[COLORS["ground"]] * 253], np.uint8)
    for path in masks(root):
        save(path, table[np.asarray(Image.open(path))])
    return mask(root, "b")


def jpegs_without_names(root: Path) -> Path:
    base(root)
    (root / "dataset.yaml").unlink()
    for path in masks(root):
        save(path.with_suffix(".jpg"), np.array(Image.open(path)) % 255 * np.uint8(100))
        path.unlink()
    return root


def some_of_0_255(root: Path) -> Path:
    base(root)
    name_classes(root, ("ground", "roof"))
    for path in masks(root):
        top = 255 if path.stem in "bd" else 1
        save(path, np.where(np.array(Image.open(path)) == 1, top, 0).astype(np.uint8))
    return mask(root, "b")


def mask_of_several_pages(root: Path) -> Path:
    base(root)
    first = Image.open(mask(root, "b"))
    mask(root, "b").unlink()
    first.save(mask(root, "b").with_suffix(".tif"), save_all=True, append_images=[first, first])
    return mask(root, "b").with_suffix(".tif")


def levels_for_ids(root: Path) -> Path:
    base(root)
    for path in masks(root):
        save(path, np.array([0, 128, 255], np.uint8)[np.array(Image.open(path)) % 255])
    return mask(root, "b")


def unlabelled_split(root: Path) -> Path:
    base(root)
    for stem in STEMS["val"]:
        save(mask(root, stem, split="val"), np.full(SIZE, 255, np.uint8))
    return root


def class_of_no_mask(root: Path) -> Path:
    base(root)
    (root / "dataset.yaml").write_text("names: [ground, roof, tree, pond]\n", encoding="utf-8")
    return root


def palette_in_another_order(root: Path) -> Path:
    base(root)
    name_classes(root, palette=True)
    colors = [COLORS[name] for name in ("ground", "tree", "roof")]
    indexed = Image.open(mask(root, "b"))
    indexed.putpalette([*[value for color in colors for value in color], *[255] * 759])
    indexed.save(mask(root, "b"))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for folder, target in (("images", "JPEGImages"), ("masks", "SegmentationClass")):
        (root / target).mkdir()
        for path in sorted((root / folder).rglob("*.png")):
            path.rename(root / target / path.name)
        shutil.rmtree(root / folder)
    for split, stems in STEMS.items():
        (lists / f"{split}.txt").write_text("\n".join(stems), encoding="utf-8")
    return root / "SegmentationClass" / "b.png"
