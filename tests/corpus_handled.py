"""Small unusual data sets without faults."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from corpus import exif_rotation
from corpus_base import COLORS, STEMS, base, image, label_map, mask, masks, name_classes, save, scene
from corpus_images import four_declared, heights, six_bands
from corpus_masks import colours_without_names, levels_for_ids, mask_0_255

__all__ = ["HANDLED", "unicode_and_blanks"]


def composed_and_decomposed(root: Path) -> Path:
    base(root)
    for path, form in ((image(root, "b"), "NFC"), (mask(root, "b"), "NFD")):
        path.rename(path.with_name(unicodedata.normalize(form, "É.png")))
    return root


def palette_masks(root: Path) -> Path:
    base(root)
    for path in masks(root):
        indexed = Image.open(path)
        indexed.putpalette([*[value for color in COLORS.values() for value in color], *[255] * 759])
        indexed.save(path)
    return root


def turned_with_its_mask(root: Path) -> Path:
    exif_rotation(root)
    return save(mask(root, "b"), np.rot90(label_map(1), -1))


def sixteen_bits(root: Path) -> Path:
    base(root)
    for number, (split, stem) in enumerate((split, stem) for split, stems in STEMS.items() for stem in stems):
        save(image(root, stem, split=split), scene(number)[..., 0].astype(np.uint16) * np.uint16(257))
        save(mask(root, stem, split=split), label_map(number).astype(np.uint16))
    return root


def cmyk(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    Image.fromarray(scene(1)).convert("CMYK").save(image(root, "b", ".jpg"))
    return root


def one_bit(root: Path) -> Path:
    base(root)
    name_classes(root, ("ground", "roof"))
    for path in masks(root):
        save(path, np.asarray(Image.open(path)) == 1)
    for number, (split, stem) in enumerate((split, stem) for split, stems in STEMS.items() for stem in stems):
        save(image(root, stem, split=split), scene(number)[..., 0] > 127)
    return root


def unicode_and_blanks(root: Path) -> Path:
    root = base(root / "Bäume und Dächer")
    for path in (image(root, "b"), mask(root, "b")):
        path.rename(path.with_name("屋根 no. 1 <&>.png"))
    return root


def loop_of_folders(root: Path) -> Path:
    base(root)
    for folder in (root / "images" / "train" / "again", root / "masks" / "train" / "again.d"):
        folder.symlink_to(folder.parents[1])
    (root / "images" / "train" / "inner").mkdir()
    (root / "images" / "train" / "inner" / "loop").symlink_to(root / "images" / "train")
    return root


def nodata_mask(root: Path) -> Path:
    base(root)
    mask(root, "b").unlink()
    tags = ImageFileDirectory_v2()
    tags[42113] = "99"
    save(mask(root, "b", ".tif"), np.where(label_map(1) == 255, 99, label_map(1)).astype(np.uint8), tiffinfo=tags)
    return root


def one_named_class(root: Path) -> Path:
    base(root)
    name_classes(root, ("roof",))
    for path in masks(root):
        save(path, np.where(np.array(Image.open(path)) == 1, 0, 255).astype(np.uint8))
    return root


def extreme_sizes(root: Path) -> Path:
    base(root)
    for stem, size in (("one", (1, 1)), ("flat", (1, 400)), ("tall", (400, 1))):
        save(image(root, stem), scene(60, size))
        save(mask(root, stem), np.ones(size, np.uint8))
    return root


# fmt: off
HANDLED: dict[str, Callable[[Path], Path]] = {make.__name__: make for make in (
    base, palette_masks, turned_with_its_mask, sixteen_bits, cmyk, one_bit, unicode_and_blanks, composed_and_decomposed,
    loop_of_folders,
    nodata_mask, mask_0_255, levels_for_ids, colours_without_names, one_named_class, extreme_sizes,
    six_bands, four_declared, heights,
)}
# fmt: on
"""By name: functions that write a data set without faults and return the data set or a file in it."""
