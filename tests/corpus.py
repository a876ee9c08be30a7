"""Small data sets, each with one fault that real data sets have.

Every function takes an empty folder, writes the base set without faults there, adds one fault, and returns the file or
folder that the message must name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from corpus_annotations import (
    coco_box_only,
    coco_odd_polygon,
    coco_odd_polygons,
    coco_of_another_size,
    coco_other_names,
    coco_truncated,
    coco_unknown_category,
    coco_unknown_image,
    coco_without_an_image,
    empty_polygon,
    label_studio_image_twice,
    labelme_line,
    labelme_loose_box,
    labelme_next_to_splits,
    labelme_outside,
    labelme_twice,
    labelme_unknown_type,
    labelme_without_shapes,
)
from corpus_base import COLORS, STEMS, base, image, label_map, mask, masks, name_classes, save, scene
from corpus_images import (
    array_with_nan,
    damaged_array,
    dark_among_bytes,
    folder_for_an_image,
    folder_loop_for_an_image,
    grey_among_colour,
    grey_with_alpha,
    heights_without_a_range,
    html_after_a_comment,
    html_image,
    larger_than_any_image,
    mixed_channels,
    not_finite,
    other_band_count,
    phone_image,
    several_pages,
    stack_of_planes,
    symlink_loop,
    text_for_an_image,
    truncated_image,
    zero_bytes,
)
from corpus_lists import listed_absent, listed_twice, voc_without_lists
from corpus_masks import (
    all_ignored,
    antialiased_colours,
    antialiased_grey,
    background_image,
    class_of_no_mask,
    colour_masks,
    grey_levels,
    jpeg_mask,
    jpegs_without_names,
    mask_of_several_pages,
    no_colour_table,
    only_background,
    palette_in_another_order,
    some_of_0_255,
    unknown_colour,
    unknown_label,
    unlabelled_split,
)

__all__ = ["COLORS", "FAULTS", "base", "colour_masks", "image", "label_map", "mask", "name_classes", "save", "scene"]


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


def no_masks(root: Path) -> Path:
    base(root)
    shutil.rmtree(root / "masks")
    (root / "dataset.yaml").unlink()
    return root / "masks" / "train"


def empty_validation(root: Path) -> Path:
    base(root)
    for path in (root / "images" / "val").iterdir():
        path.unlink()
    return root / "images" / "val"


def misspelt_key(root: Path) -> Path:
    base(root)
    (root / "dataset.yaml").write_text("names: [ground, roof, tree]\npallete: []\n", encoding="utf-8")
    return root / "dataset.yaml"


def misspelt_key_next_to_classes_txt(root: Path) -> Path:
    base(root)
    (root / "classes.txt").write_text("ground\nroof\ntree\n", encoding="utf-8")
    (root / "dataset.yaml").write_text("chanels: 4\n", encoding="utf-8")
    return root / "dataset.yaml"


def dataset_yml(root: Path) -> Path:
    base(root)
    return (root / "dataset.yaml").rename(root / "dataset.yml")


def stray_split(root: Path) -> Path:
    base(root)
    save(root / "images" / "validation" / "f.png", scene(41))
    return root / "images" / "validation"


def loose_image(root: Path) -> Path:
    base(root)
    return save(root / "images" / "f.png", scene(41))


def nested_pairs(root: Path) -> Path:
    base(root)
    for folder in ("images", "masks"):
        subfolder = root / folder / "train" / "more"
        subfolder.mkdir()
        (root / folder / "train" / "c.png").rename(subfolder / "c.png")
    return root / "images" / "train" / "more"


def truncated_mask(root: Path) -> Path:
    base(root)
    path = mask(root, "b")
    path.write_bytes(path.read_bytes()[:-40])
    return path


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


def absent_class(root: Path) -> Path:
    base(root)
    for stem in STEMS["val"]:
        path = mask(root, stem, split="val")
        target = np.array(Image.open(path))
        target[target == 2] = 1
        save(path, target)
    return root


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
    import rasterio  # noqa: F401  (only it reads the tag)

    base(root)
    image(root, "b").unlink()
    rgb = np.maximum(scene(1), 1)
    rgb[:10, :10] = 0
    tags = ImageFileDirectory_v2()
    tags[42113] = "0"
    save(image(root, "b", ".tif"), rgb, tiffinfo=tags)
    return mask(root, "b")


FAULTS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    make.__name__: (kind, make)
    for kind, make in (
        ("missing-mask", missing_mask),
        ("orphan-mask", orphan_mask),
        ("duplicate-stem", duplicate_stem),
        ("no-common-stem", no_common_stem),
        ("missing-folder", missing_folder),
        ("missing-folder", no_masks),
        ("empty-split", empty_validation),
        ("missing-list", voc_without_lists),
        ("unknown-split", stray_split),
        ("ambiguous-split", labelme_next_to_splits),
        ("loose-images", loose_image),
        ("nested-images", nested_pairs),
        ("missing-image", coco_without_an_image),
        ("ambiguous-image", label_studio_image_twice),
        ("duplicate-image", labelme_twice),
        ("listed-absent", listed_absent),
        ("listed-twice", listed_twice),
        ("outside-data", labelme_outside),
        ("class-mismatch", coco_other_names),
        ("invalid-annotations", coco_truncated),
        ("unknown-image", coco_unknown_image),
        ("unknown-class", coco_unknown_category),
        ("damaged-shape", coco_odd_polygons),
        ("unsupported-shape", labelme_unknown_type),
        ("no-shapes", labelme_without_shapes),
        ("class-names", misspelt_key),
        ("class-names", misspelt_key_next_to_classes_txt),
        ("class-names", dataset_yml),
        ("image-stack", stack_of_planes),
        ("image-stack", mask_of_several_pages),
        ("empty-file", zero_bytes),
        ("html-file", html_image),
        ("html-file", html_after_a_comment),
        ("truncated-file", truncated_image),
        ("truncated-file", truncated_mask),
        ("not-finite", not_finite),
        ("not-finite", array_with_nan),
        ("value-range", heights_without_a_range),
        ("not-a-file", folder_for_an_image),
        ("not-a-file", folder_loop_for_an_image),
        ("missing-file", symlink_loop),
        ("not-an-image", text_for_an_image),
        ("unsupported-format", phone_image),
        ("too-large", larger_than_any_image),
        ("unreadable-file", damaged_array),
        ("band-count", other_band_count),
        ("size-mismatch", size_mismatch),
        ("size-mismatch", coco_of_another_size),
        ("exif-rotation", exif_rotation),
        ("jpeg-mask", jpeg_mask),
        ("mask-0-255", some_of_0_255),
        ("antialiased", antialiased_grey),
        ("unknown-label", unknown_label),
        ("unknown-colour", unknown_colour),
        ("no-colour-table", no_colour_table),
        ("grey-levels", grey_levels),
        ("only-background", only_background),
        ("unlabelled-split", unlabelled_split),
        ("absent-class", absent_class),
        ("absent-class", class_of_no_mask),
        ("all-ignored", all_ignored),
        ("background-image", background_image),
        ("in-two-splits", copied_to_val),
        ("in-two-splits", resized_to_val),
        ("thin-objects", thin_objects),
        ("nodata-labelled", nodata_labelled),
        ("mixed-channels", mixed_channels),
        ("alpha", grey_with_alpha),
        ("doubtful-range", dark_among_bytes),
        ("moved-pixels", antialiased_colours),
        ("moved-pixels", jpegs_without_names),
        ("palette-order", palette_in_another_order),
        ("grey-among-colour", grey_among_colour),
        ("several-pages", several_pages),
        ("empty-polygon", empty_polygon),
        ("no-area", coco_box_only),
        ("no-area", labelme_line),
        ("skipped-shape", coco_odd_polygon),
        ("box-over-shape", labelme_loose_box),
    )
}
"""By name: the kind that `check` must find, and the function that writes the data set."""
