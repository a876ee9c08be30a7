"""Faults of images, for corpus.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from corpus_base import SIZE, STEMS, base, image, save, scene


def zero_bytes(root: Path) -> Path:
    base(root)
    image(root, "b").write_bytes(b"")
    return image(root, "b")


def truncated_image(root: Path) -> Path:
    base(root)
    path = image(root, "b")
    path.write_bytes(path.read_bytes()[:-1500])
    return path


def html_image(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    path = image(root, "b", ".jpg")
    path.write_text("<!DOCTYPE html>\n<html><title>404 Not Found</title></html>\n")
    return path


def not_finite(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    grey = np.full(SIZE, 0.5, np.float32)
    grey[3, 4] = np.nan
    return save(image(root, "b", ".tif"), grey)


def folder_for_an_image(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    image(root, "b").mkdir()
    return image(root, "b")


def symlink_loop(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    image(root, "b").symlink_to(image(root, "b").name)
    return image(root, "b")


def mixed_channels(root: Path) -> Path:
    base(root)
    rgba = np.dstack([scene(1), np.full(SIZE, 200, np.uint8)])
    return save(image(root, "b"), rgba)


def grey_with_alpha(root: Path) -> Path:
    base(root)
    for number, (split, stem) in enumerate((split, stem) for split, stems in STEMS.items() for stem in stems):
        grey = Image.fromarray(scene(number)).convert("LA" if stem == "b" else "L")
        grey.save(image(root, stem, split=split))
    return image(root, "b")


def grey_among_colour(root: Path) -> Path:
    base(root)
    Image.fromarray(scene(1)).convert("L").save(image(root, "b"))
    return image(root, "b")


def several_pages(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    pages = [Image.fromarray(scene(number)) for number in (1, 50)]
    pages[0].save(image(root, "b", ".tif"), save_all=True, append_images=pages[1:])
    return image(root, "b", ".tif")
