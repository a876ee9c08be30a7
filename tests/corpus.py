"""Small data sets, each with one fault: what people bring, made on purpose.

Every function takes an empty folder, makes the good base set there, breaks one thing, and returns the file or folder
that a message must name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFilter
from PIL.TiffImagePlugin import ImageFileDirectory_v2

__all__ = ["FAULTS", "HANDLED", "base"]

UInt8 = npt.NDArray[np.uint8]
SIZE = (48, 64)
COLORS = {"ground": (0, 0, 0), "roof": (200, 0, 0), "tree": (0, 160, 0)}
STEMS = {"train": ("a", "b", "c"), "val": ("d", "e")}


def scene(seed: int, size: tuple[int, int] = SIZE) -> UInt8:
    """A smooth random picture, unlike those of other seeds."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def label_map(seed: int = 0, size: tuple[int, int] = SIZE) -> UInt8:
    """Ground with a roof and a tree, each a third of the height, and a thin border of 255."""
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
    """Three pairs to train on and two to validate on, with nothing to find."""
    for number, (split, stem) in enumerate((split, stem) for split, stems in STEMS.items() for stem in stems):
        save(image(root, stem, split=split), scene(number))
        save(mask(root, stem, split=split), label_map(number))
    name_classes(root)
    return root


def missing_mask(root: Path) -> Path:
    base(root)
    mask(root, "b").unlink()
    return image(root, "b")


def orphan_mask(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    return mask(root, "b")


def duplicate_stem(root: Path) -> Path:
    base(root)
    return save(image(root, "b", ".tif"), scene(40))


def no_common_stem(root: Path) -> Path:
    base(root)
    for path in (root / "masks" / "train").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    return root / "masks" / "train"


def missing_folder(root: Path) -> Path:
    base(root)
    shutil.rmtree(root / "masks" / "val")
    return root / "masks" / "val"


def empty_validation(root: Path) -> Path:
    base(root)
    shutil.rmtree(root / "images" / "val")
    return root


def misspelt_key(root: Path) -> Path:
    base(root)
    (root / "dataset.yaml").write_text("names: [ground, roof, tree]\npallete: []\n", encoding="utf-8")
    return root / "dataset.yaml"


def stray_split(root: Path) -> Path:
    base(root)
    save(root / "images" / "validation" / "f.png", scene(41))
    return root / "images" / "validation"


def zero_bytes(root: Path) -> Path:
    base(root)
    image(root, "b").write_bytes(b"")
    return image(root, "b")


def truncated_image(root: Path) -> Path:
    base(root)
    path = image(root, "b")
    path.write_bytes(path.read_bytes()[:-1500])
    return path


def truncated_mask(root: Path) -> Path:
    base(root)
    path = mask(root, "b")
    path.write_bytes(path.read_bytes()[:-40])
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


def size_mismatch(root: Path) -> Path:
    base(root)
    return save(mask(root, "b"), label_map(1, (40, 64)))


def exif_rotation(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    save(image(root, "b", ".jpg"), scene(1), exif=exif, quality=95)
    return mask(root, "b")


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
    return path


def unknown_colour(root: Path) -> Path:
    colour_masks(root)
    rgb = np.array(Image.open(mask(root, "b")))
    rgb[20:40, 4:20] = (1, 2, 3)
    return save(mask(root, "b"), rgb)


def no_colour_table(root: Path) -> Path:
    colour_masks(root)
    name_classes(root)
    return mask(root, "b")


def unknown_label(root: Path) -> Path:
    base(root)
    target = label_map(1)
    target[20:40, 4:20] = 7
    return save(mask(root, "b"), target)


def grey_levels(root: Path) -> Path:
    base(root)
    (root / "dataset.yaml").unlink()
    for path in masks(root):
        save(path, label_map() * np.uint8(100))
    return mask(root, "a")


def only_background(root: Path) -> Path:
    base(root)
    for path in masks(root):
        save(path, np.zeros(SIZE, np.uint8))
    return root


def absent_class(root: Path) -> Path:
    base(root)
    for stem in STEMS["val"]:
        path = mask(root, stem, split="val")
        target = np.array(Image.open(path))
        target[target == 2] = 1
        save(path, target)
    return root


def all_ignored(root: Path) -> Path:
    base(root)
    return save(mask(root, "b"), np.full(SIZE, 255, np.uint8))


def background_image(root: Path) -> Path:
    base(root)
    return save(mask(root, "b"), np.zeros(SIZE, np.uint8))


def copied_to_val(root: Path) -> Path:
    base(root)
    shutil.copyfile(image(root, "b"), image(root, "e", split="val"))
    return image(root, "e", split="val")


def resized_to_val(root: Path) -> Path:
    base(root)
    image(root, "e", split="val").unlink()
    small = Image.fromarray(scene(1)).resize((56, 42), Image.Resampling.BICUBIC)
    small.save(image(root, "e", ".jpg", "val"), quality=85)
    save(mask(root, "e", split="val"), label_map(1, (42, 56)))
    return image(root, "e", ".jpg", "val")


def thin_objects(root: Path) -> Path:
    base(root)
    for path in masks(root):
        target = np.array(Image.open(path))
        target[target == 2] = 0
        target[6:44, 50:53] = 2
        save(path, target)
    return root


def nodata_labelled(root: Path) -> Path:
    base(root)
    image(root, "b").unlink()
    rgb = np.maximum(scene(1), 1)
    rgb[:10, :10] = 0
    return_to = mask(root, "b")
    tags = ImageFileDirectory_v2()
    tags[42113] = "0"
    save(image(root, "b", ".tif"), rgb, tiffinfo=tags)
    return return_to


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


def labelme(root: Path) -> None:
    """The good base set, but for its ignored border, as labelme has it."""
    for number, (split, stem) in enumerate((split, stem) for split, stems in STEMS.items() for stem in stems):
        path = save(root / split / f"{stem}.png", scene(number))
        boxes = {"roof": [(8, 6), (32, 6), (32, 24), (8, 24)], "tree": [(40, 24), (64, 24), (64, 44), (40, 44)]}
        shapes = [{"label": name, "points": points, "shape_type": "polygon"} for name, points in boxes.items()]
        values = {"shapes": shapes, "imagePath": path.name, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
        path.with_suffix(".json").write_text(json.dumps(values), encoding="utf-8")


def empty_polygon(root: Path) -> Path:
    labelme(root)
    path = root / "train" / "b.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["shapes"].append({"label": "roof", "points": [(50, 9), (52, 9)], "shape_type": "polygon"})
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


FAULTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    make.__name__: (kind, make)
    for kind, make in (
        ("missing-mask", missing_mask),
        ("orphan-mask", orphan_mask),
        ("duplicate-stem", duplicate_stem),
        ("no-common-stem", no_common_stem),
        ("missing-folder", missing_folder),
        ("empty-split", empty_validation),
        ("layout", stray_split),
        ("class-names", misspelt_key),
        ("empty-file", zero_bytes),
        ("html-file", html_image),
        ("truncated-file", truncated_image),
        ("truncated-file", truncated_mask),
        ("not-finite", not_finite),
        ("unreadable-file", folder_for_an_image),
        ("unreadable-file", symlink_loop),
        ("mixed-channels", mixed_channels),
        ("size-mismatch", size_mismatch),
        ("exif-rotation", exif_rotation),
        ("jpeg-mask", jpeg_mask),
        ("mask-0-255", mask_0_255),
        ("antialiased", antialiased_grey),
        ("antialiased", antialiased_colours),
        ("unknown-label", unknown_label),
        ("unknown-colour", unknown_colour),
        ("no-colour-table", no_colour_table),
        ("grey-levels", grey_levels),
        ("only-background", only_background),
        ("absent-class", absent_class),
        ("all-ignored", all_ignored),
        ("background-image", background_image),
        ("in-two-splits", copied_to_val),
        ("in-two-splits", resized_to_val),
        ("thin-objects", thin_objects),
        ("nodata-labelled", nodata_labelled),
        ("alpha", grey_with_alpha),
        ("grey-among-colour", grey_among_colour),
        ("several-pages", several_pages),
        ("empty-polygon", empty_polygon),
    )
}
"""By name: the one kind that the doctor must find, and what makes it."""


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
    return root


def unicode_and_blanks(root: Path) -> Path:
    root = base(root / "Bäume und Dächer")
    for path in (image(root, "b"), mask(root, "b")):
        path.rename(path.with_name("屋根 no. 1 <&>.png"))
    return root


def loop_of_folders(root: Path) -> Path:
    base(root)
    (root / "images" / "train" / "again").symlink_to(root)
    return root


def nodata_mask(root: Path) -> Path:
    base(root)
    mask(root, "b").unlink()
    tags = ImageFileDirectory_v2()
    tags[42113] = "99"
    save(mask(root, "b", ".tif"), np.where(label_map(1) == 255, 99, label_map(1)).astype(np.uint8), tiffinfo=tags)
    return root


def extreme_sizes(root: Path) -> Path:
    base(root)
    for stem, size in (("one", (1, 1)), ("flat", (1, 400)), ("tall", (400, 1))):
        save(image(root, stem), scene(60, size))
        save(mask(root, stem), np.ones(size, np.uint8))
    return root


# fmt: off
HANDLED: dict[str, Callable[[Path], Path]] = {make.__name__: make for make in (
    base, palette_masks, turned_with_its_mask, sixteen_bits, cmyk, one_bit, unicode_and_blanks, loop_of_folders,
    nodata_mask, extreme_sizes,
)}
# fmt: on
"""What is handled without a word; they return the data set, or a file in it."""
