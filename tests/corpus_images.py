"""Data sets with a fault in their images, for corpus.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from corpus_base import SIZE, STEMS, UInt8, base, image, save, scene


def remove_images(root: Path) -> list[tuple[Path, UInt8]]:
    """Delete the images of the base set and return their paths and pixels, to be saved in another form."""
    paths = sorted((root / "images").rglob("*.png"))
    pixels = [np.array(Image.open(path)) for path in paths]
    for path in paths:
        path.unlink()
    return [*zip(paths, pixels, strict=True)]


def describe(root: Path, keys: str) -> None:
    (root / "dataset.yaml").write_text(f"names: [ground, roof, tree]\n{keys}", encoding="utf-8")


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


def html_after_a_comment(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    path = image(root, "b", ".jpg")
    path.write_text('<?xml version="1.0"?>\n<!-- saved page -->\n<html><title>404 Not Found</title></html>\n')
    return path


def phone_image(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    path = image(root, "b", ".heic")
    path.write_bytes(b"\0\0\0\x18ftypheic")
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


def folder_loop_for_an_image(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    image(root, "b").symlink_to(root)
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


def stack_of_planes(root: Path) -> Path:
    base(root)
    path = image(root, "b")
    plane = np.array(Image.open(path).convert("L"))
    path.unlink()
    tifffile.imwrite(path.with_suffix(".tif"), np.stack([plane] * 7), imagej=True, metadata={"axes": "ZYX"})
    return path.with_suffix(".tif")


def six_bands(root: Path) -> Path:
    base(root)
    describe(root, "range: [0, 1000]\n")
    for path, rgb in remove_images(root):
        np.save(path.with_suffix(".npy"), np.dstack([rgb, rgb[::-1]]).astype(np.float32) * 3)
    return root


def other_band_count(root: Path) -> Path:
    six_bands(root)
    path = image(root, "b", ".npy")
    np.save(path, np.load(path)[..., :5])
    return path


def array_with_nan(root: Path) -> Path:
    six_bands(root)
    path = image(root, "b", ".npy")
    array = np.load(path)
    array[3, 4, 5] = np.nan
    np.save(path, array)
    return path


def four_declared(root: Path) -> Path:
    base(root)
    describe(root, "channels: 4\n")
    for path, rgb in remove_images(root):
        save(path, np.dstack([rgb, rgb[::-1, :, 0]]))
    return root


def heights(root: Path) -> Path:
    base(root)
    describe(root, "range: [-50, 300]\n")
    for path, rgb in remove_images(root):
        save(path.with_suffix(".tif"), rgb[..., 0].astype(np.float32) - 20)
    return root


def damaged_array(root: Path) -> Path:
    six_bands(root)
    path = image(root, "b", ".npy")
    path.write_bytes(path.read_bytes()[:8])
    return path


def text_for_an_image(root: Path) -> Path:
    base(root)
    image(root, "b").write_text("see the other folder\n", encoding="utf-8")
    return image(root, "b")


def larger_than_any_image(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    path = image(root, "b", ".ppm")
    path.write_bytes(b"P6 70000 70000 255\n" + bytes(100))
    return path


def dark_among_bytes(root: Path) -> Path:
    """A picture of a 12-bit camera among pictures of 8 bits."""
    base(root)
    path = image(root, "b")
    pixels = np.array(Image.open(path)).astype(np.uint16) * 12
    path.unlink()
    tifffile.imwrite(path.with_suffix(".tif"), pixels, photometric="rgb")
    return root


def heights_without_a_range(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    return save(image(root, "b", ".tif"), np.full(SIZE, 250.5, np.float32))
