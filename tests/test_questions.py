"""What is ambiguous ends in a question, and the command or the line of dataset.yaml in it settles the question."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from typer.testing import CliRunner

from fullconv.arrays import UInt8
from fullconv.cli.app import app
from fullconv.data.classes import KEYS
from fullconv.data.dataset import DataSet
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.data.statistics import read_training_data
from fullconv.errors import DataError

Maps = dict[str, UInt8]
"""The right label map of each image, by its path below the data set's folder."""

TWO = ("background", "foreground")

COLORS = np.array([(0, 0, 0), (220, 20, 60), (70, 70, 200)], np.uint8)


def put(path: Path, pixels: Any, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def picture(seed: int, height: int = 24, width: int = 32) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def draw(seed: int, classes: int = 2) -> UInt8:
    """Return class ids: a rectangle of each class on class 0."""
    found = np.zeros((24, 32), np.uint8)
    for label in range(1, classes):
        top, left = 1 + seed % 3 + 7 * (label - 1), 2 + seed % 5
        found[top : top + 6, left : left + 20] = label
    return found


@dataclass(frozen=True)
class Question:
    """An ambiguous data set, the kind of its fault, which of the answers in the message is taken, and what it gives."""

    build: Callable[[Path], Maps]
    kind: str
    classes: tuple[str, ...]
    answer: Callable[[str], str] = str
    correct: Callable[[str], str] = str
    edit: Callable[[Path, str], object] | None = None
    given: ReadingOptions = BY_FILES


def swap(one: str, other: str) -> Callable[[str], str]:
    """Return the edit of a user who sees that two words of the proposal are the wrong way round."""
    return lambda line: line.replace(one, "?").replace(other, one).replace("?", other)


def command(number: int) -> Callable[[str], str]:
    """Return the choice of one of the commands in a message."""
    return lambda message: f"`{list(answers(message))[number]}`"


def choose(start: str) -> Callable[[str], str]:
    """Return the choice of the first command in a message that begins so."""
    return lambda message: next(f"`{answer}`" for answer in answers(message) if answer.startswith(start))


def answers(message: str) -> Iterator[str]:
    """Return the texts in backticks."""
    yield from re.findall(r"`([^`]+)`", message)


def options_in(answer: str) -> ReadingOptions:
    """Return the options of a command."""
    found: dict[str, Any] = {}
    words = shlex.split(answer)
    for option, value in zip(words[::2], words[1::2], strict=True):
        name = option.removeprefix("--").replace("-", "_")
        found[name] = [*found.get(name, []), value] if name in ("images", "masks") else value
    return ReadingOptions(**found)


def apply(root: Path, message: str, correct: Callable[[str], str] = str) -> ReadingOptions:
    """Do what a message says; return the options that its command names."""
    options = BY_FILES
    path = root / "dataset.yaml"
    values = yaml.safe_load(path.read_text()) if path.is_file() else {}
    for answer in answers(message):
        if answer.startswith("--"):
            options = options_in(answer)
        elif answer.partition(":")[0] in KEYS:
            values |= yaml.safe_load(correct(answer))
    if values:
        path.write_text(yaml.safe_dump(values, sort_keys=False))
    return options


def maps_of(dataset: DataSet) -> Maps:
    return {
        sample.image.relative_to(dataset.root).as_posix(): dataset.read(sample)[1]
        for samples in dataset.splits.values()
        for sample in samples
    }


def ask(root: Path, kind: str, given: ReadingOptions = BY_FILES) -> list[str]:
    """Return the messages of the faults of this kind, which stop reading."""
    with pytest.raises(DataError) as caught:
        read_training_data(root, given)
    faults = [fault for fault in caught.value.faults if fault.kind == kind]
    assert faults, f"{kind} is not in {caught.value}"
    return [str(fault) for fault in faults]


def pairs(root: Path, stored: Callable[[int, UInt8], Any], classes: int = 2, count: int = 6) -> Maps:
    """Write `img/IMG_1.png` and so on, with masks in `gt` of the same names."""
    truth = {}
    for number in range(1, count + 1):
        ids = draw(number, classes)
        put(root / "img" / f"IMG_{number}.png", picture(number))
        put(root / "gt" / f"IMG_{number}.png", stored(number, ids))
        truth[f"img/IMG_{number}.png"] = ids
    return truth


def two_levels(root: Path) -> Maps:
    return pairs(root, lambda number, ids: ids * np.uint8(255 if number % 2 else 1))


def two_levels_with_names(root: Path) -> Maps:
    truth = two_levels(root)
    (root / "classes.txt").write_text("wood\ncrack\n")
    return truth


def colors_with_names(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: COLORS[ids], 3)
    (root / "classes.txt").write_text("road\nperson\ncar\n")
    return truth


def too_many_values(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: ids * np.uint8(60), 4)
    (root / "classes.txt").write_text("soil\nroot\n")
    return {name: np.where(ids >= 2, np.uint8(255), ids) for name, ids in truth.items()}


def one_strange_mask(root: Path) -> Maps:
    def stored(number: int, ids: UInt8) -> UInt8:
        return np.where(ids == 2, np.uint8(7), ids) if number == 3 else ids

    truth = pairs(root, stored, 3)
    (root / "classes.txt").write_text("soil\nroot\nstone\n")
    return {name: np.where(ids == 2, np.uint8(255), ids) if "_3" in name else ids for name, ids in truth.items()}


def color_not_in_table(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: COLORS[ids], 3)
    (root / "class_dict.csv").write_text("name,r,g,b\nsky,0,0,0\nroof,220,20,60\n")
    return {name: np.where(ids == 2, np.uint8(255), ids) for name, ids in truth.items()}


def color_not_in_palette(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: COLORS[ids], 3)
    (root / "dataset.yaml").write_text("names: [sky, roof]\npalette: [[0, 0, 0], [220, 20, 60]]\n")
    return {name: np.where(ids == 2, np.uint8(255), ids) for name, ids in truth.items()}


def number_not_in_table(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: np.array([0, 40, 90], np.uint8)[ids], 3)
    (root / "labels.json").write_text('{"0": "sky", "40": "roof"}')
    return {name: np.where(ids == 2, np.uint8(255), ids) for name, ids in truth.items()}


def numbers_and_colors(root: Path) -> Maps:
    return pairs(root, lambda number, ids: COLORS[ids] if number % 2 else ids)


def one_mask_in_colors(root: Path) -> Maps:
    return pairs(root, lambda number, ids: COLORS[ids] if number == 2 else ids, 3)


def two_palettes(root: Path) -> Maps:
    def stored(number: int, ids: UInt8) -> UInt8:
        return ids

    truth = pairs(root, stored)
    for number in range(1, 7):
        image = Image.fromarray(draw(number))
        image.putpalette([0, 0, 0, 220, 20, 60] if number % 2 else [0, 0, 0, 70, 70, 200])
        image.save(root / "gt" / f"IMG_{number}.png")
    return truth


def two_palettes_by_color(root: Path) -> Maps:
    two_palettes(root)
    return {f"img/IMG_{number}.png": draw(number) * np.uint8(2 - number % 2) for number in range(1, 7)}


def smooth(root: Path) -> Maps:
    """Masks whose pixels have any grey level, as probabilities that were saved as images have."""

    def stored(number: int, ids: UInt8) -> UInt8:
        noise = np.random.default_rng(number).integers(0, 120, ids.shape)
        noise[0, 0] = noise[12, 12] = 0
        return np.where(ids == 1, 255 - noise, noise).astype(np.uint8)

    return pairs(root, stored)


def many_colors(root: Path) -> Maps:
    """Every object has a bright colour of its own."""

    def stored(number: int, ids: UInt8) -> UInt8:
        bright = np.random.default_rng(number).integers(180, 256, (24, 1, 3), dtype=np.uint8)
        return np.where(ids[..., None] == 1, bright, np.uint8(0))

    return pairs(root, stored, count=12)


def two_rules(root: Path) -> Maps:
    """Every image has two masks of its number, by two programs that call them differently."""
    truth = {}
    for number in range(1, 7):
        ids = draw(number)
        put(root / "img" / f"IMG_{number}.png", picture(number))
        put(root / "gt" / f"{number}_a.png", draw(number + 1) * np.uint8(255))
        put(root / "gt" / f"{number}_b.png", ids * np.uint8(255))
        truth[f"img/IMG_{number}.png"] = ids
    return truth


def two_raters(root: Path) -> Maps:
    truth = {}
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            ids = draw(number)
            put(root / split / "images" / f"{number:02}_{split}.png", picture(number))
            put(root / split / "manual1" / f"{number:02}_{split}.png", draw(number + 1) * np.uint8(255))
            put(root / split / "manual2" / f"{number:02}_{split}.png", ids * np.uint8(255))
            truth[f"{split}/images/{number:02}_{split}.png"] = ids
    return truth


def gt_and_labels(root: Path) -> Maps:
    truth = {}
    for number in range(6):
        ids = draw(number)
        put(root / "photos" / f"plot{number}.png", picture(number))
        put(root / "gt" / f"plot{number}.png", ids * np.uint8(255))
        put(root / "labels" / f"plot{number}.png", draw(number + 1) * np.uint8(255))
        truth[f"photos/plot{number}.png"] = ids
    return truth


def half_labelled(root: Path) -> Maps:
    truth = {}
    for number in range(40):
        put(root / "photos" / f"DSC_{number:04}.jpg", picture(number))
        if number < 20:
            put(root / "labels" / f"DSC_{number:04}_mask.png", draw(number) * np.uint8(255))
            truth[f"photos/DSC_{number:04}.jpg"] = draw(number)
    return truth


def masks_of_others(root: Path) -> Maps:
    """Masks of two fields in one folder, with the images of one of them."""
    truth = {}
    for number in range(6):
        put(root / "photos" / f"north_{number}.png", picture(number))
        put(root / "labels" / f"north_{number}.png", draw(number) * np.uint8(255))
        put(root / "labels" / f"south_{number}.png", draw(number + 1) * np.uint8(255))
        truth[f"photos/north_{number}.png"] = draw(number)
    return truth


def tables_of_colors(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: COLORS[ids], 3)
    (root / "class_dict.csv").write_text("name,r,g,b\nroad,0,0,0\nperson,70,70,200\ncar,220,20,60\n")
    (root / "label_colors.txt").write_text("0 0 0 road\n220 20 60 person\n70 70 200 car\n")
    return truth


def tables_of_numbers(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: ids, 3)
    (root / "codes.txt").write_text("sky\ntree\nroof\n")
    (root / "labels.json").write_text('{"0": "sky", "1": "roof", "2": "tree"}')
    return truth


def other_bands(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: ids * np.uint8(255))
    for number in range(1, 7):
        bands, shown = (4, "minisblack") if number == 2 else (3, "rgb")
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32, bands), dtype=np.uint8)
        (root / "img" / f"IMG_{number}.png").unlink()
        tifffile.imwrite(root / "img" / f"IMG_{number}.tif", pixels, photometric=shown, planarconfig="contig")
    return {name.replace(".png", ".tif"): ids for name, ids in truth.items()}


def far_value(root: Path) -> Maps:
    truth = pairs(root, lambda number, ids: ids * np.uint8(255))
    for number in range(1, 7):
        heights = np.random.default_rng(number).uniform(100, 200, (24, 32)).astype(np.float32)
        heights[:3] = -9999
        (root / "img" / f"IMG_{number}.png").unlink()
        tifffile.imwrite(root / "img" / f"IMG_{number}.tif", heights)
    return {name.replace(".png", ".tif"): ids for name, ids in truth.items()}


def in_two_places(image: str, other_image: str, mask: str, other_mask: str) -> Callable[[Path], Maps]:
    """Write other pixels with each of the other names, if there are any. {} in a name is the number."""

    def build(root: Path) -> Maps:
        truth = {}
        for number in range(6):
            put(root / image.format(number), picture(number))
            put(root / mask.format(number), draw(number) * np.uint8(255))
            if other_image:
                put(root / other_image.format(number), picture(number + 50))
            if other_mask:
                put(root / other_mask.format(number), draw(number + 1) * np.uint8(255))
            truth[image.format(number)] = draw(number)
        return truth

    return build


BOX = ((2, 2), (20, 2), (20, 12), (2, 12))
BOX_MAP = np.zeros((24, 32), np.uint8)
BOX_MAP[2:12, 2:20] = 1


def write_labelme(path: Path, image: str, label: str = "cell") -> None:
    shape = {"label": label, "points": BOX, "shape_type": "polygon"}
    document = {"imagePath": image, "imageHeight": 24, "imageWidth": 32, "imageData": None, "shapes": [shape]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def write_coco(path: Path, names: list[str]) -> None:
    box = [coordinate for corner in BOX for coordinate in corner]
    images = [{"id": n, "file_name": name, "width": 32, "height": 24} for n, name in enumerate(names)]
    shape = {"category_id": 1, "segmentation": [box], "bbox": [2, 2, 18, 10], "area": 180, "iscrowd": 0}
    shapes = [{"id": n, "image_id": n, **shape} for n in range(len(names))]
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 1, "name": "cell"}]
    path.write_text(json.dumps({"images": images, "annotations": shapes, "categories": categories}))


def photos_on_their_side(root: Path) -> Maps:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(4):
        put(root / f"IMG_{number}.jpg", picture(number), exif=exif)
        write_labelme(root / f"IMG_{number}.json", f"IMG_{number}.jpg")
    return {f"IMG_{number}.jpg": BOX_MAP for number in range(4)}


def drop_orientation(root: Path, message: str) -> None:
    """Do what exiftool does."""
    found = re.search(r"run: exiftool -Orientation= (\S+)$", message)
    assert found is not None, message
    with Image.open(found[1]) as image:
        image.load()
        image.save(found[1], exif=Image.Exif())


def annotated_twice(root: Path) -> Maps:
    for name in "abc":
        put(root / f"{name}.png", picture(ord(name)))
        write_labelme(root / f"{name}.json", f"{name}.png")
    write_labelme(root / "a (1).json", "a.png", "nucleus")
    return {f"{name}.png": BOX_MAP for name in "abc"}


def remove_second(root: Path, message: str) -> None:
    found = re.search(r"; remove (.+?\.json) or (.+?\.json)$", message)
    assert found is not None, message
    Path(found[2]).unlink()


def one_name_in_two_folders(root: Path) -> Maps:
    for folder in "ab":
        for number in range(3):
            put(root / "images" / folder / f"{number}.png", picture(number + ord(folder)))
    write_coco(root / "annotations" / "instances.json", ["0.png", "1.png"])
    return {"images/b/0.png": BOX_MAP, "images/b/1.png": BOX_MAP}


def write_file_name(root: Path, message: str) -> None:
    found = re.search(r"its image '(.+?)' may be .*; write (\S+) or (\S+) as its file_name$", message)
    assert found is not None, message
    path = root / "annotations" / "instances.json"
    path.write_text(path.read_text().replace(f'"{found[1]}"', f'"{found[3]}"'))


def two_files_of_train(root: Path) -> Maps:
    for number in range(4):
        put(root / "images" / f"{number}.png", picture(number))
    write_coco(root / "annotations" / "instances_train.json", ["0.png", "1.png"])
    write_coco(root / "annotations" / "instances_train_b.json", ["2.png", "3.png"])
    return {f"images/{number}.png": BOX_MAP for number in range(4)}


def file_without_split(root: Path) -> Maps:
    truth = two_files_of_train(root)
    (root / "annotations" / "instances_train_b.json").rename(root / "annotations" / "instances_b.json")
    return truth


def rename(root: Path, message: str) -> None:
    found = re.search(r"^(.+?): .*; rename (.+?) to (\S+\.json)", message)
    assert found is not None, message
    path = Path(found[1] if found[2] == "it" else found[2])
    path.rename(path.with_name(found[3]))


def line_of_two_images(root: Path) -> Maps:
    for folder in "ab":
        for number in range(2):
            put(root / "images" / folder / f"{number}.png", picture(number + ord(folder)))
            path = root / "labels" / folder / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("0 0 0 0.5 0 0.5 0.5 0 0.5\n")
    (root / "train.txt").write_text("0.png\n")
    (root / "val.txt").write_text("images/b/1.png\n")
    (root / "data.yaml").write_text("names: [cell]\ntrain: train.txt\nval: val.txt\n")
    quarter = np.zeros((24, 32), np.uint8)
    quarter[:12, :16] = 1
    return {"images/b/0.png": quarter, "images/b/1.png": quarter}


def masks_0_255(root: Path) -> Maps:
    return pairs(root, lambda number, ids: ids * np.uint8(255))


def write_down(root: Path, message: str) -> None:
    """Run the command of the message."""
    (line,) = answers(message)
    found = CliRunner().invoke(app, [*shlex.split(line)[1:], "--html", str(root.with_suffix(".html"))])
    assert found.exit_code == 0, found.output


def declared_nodata(root: Path) -> Maps:
    """Masks of 0 to 2 that declare 0 as nodata, as QGIS does; here nobody looked at these pixels."""
    truth = pairs(root, lambda number, ids: ids, 3)
    for number in range(1, 7):
        (root / "gt" / f"IMG_{number}.png").unlink()
        tifffile.imwrite(root / "gt" / f"IMG_{number}.tif", draw(number, 3), extratags=[(42113, "s", 1, "0", True)])
    return {name: np.where(ids == 0, 255, ids - 1).astype(np.uint8) for name, ids in truth.items()}


def full_ade20k(root: Path) -> Maps:
    """Images with the 300 objects that their JSON files name, of which the masks show the first three."""
    truth = {}
    numbers = np.array([2978, 312, 976])
    things = {value: f"thing {value}" for value in [*numbers.tolist(), *range(1, 298)]}
    objects = [{"name": name, "name_ndx": value, "parts": {"part_level": 0}} for value, name in things.items()]
    for split in ("training", "validation"):
        for number in range(2):
            folder, stem = root / "images" / "ADE" / split / "urban", f"ADE_{split[:5]}_{number:08}"
            ids = draw(number, 3)
            codes = numbers[ids]
            put(folder / f"{stem}.jpg", picture(number))
            put(folder / f"{stem}_seg.png", np.stack([codes // 256 * 10, codes % 256, codes * 0], 2).astype(np.uint8))
            (folder / f"{stem}.json").write_text(json.dumps({"annotation": {"object": objects}}))
            truth[(folder / f"{stem}.jpg").relative_to(root).as_posix()] = np.array([1, 255, 0], np.uint8)[ids]
    return truth


def write_line(root: Path, message: str) -> None:
    found = re.search(r"^(.+?): .*; write (\S+) or (\S+) there$", message)
    assert found is not None, message
    Path(found[1]).write_text(f"{found[3]}\n")


QUESTIONS: dict[str, Question] = {
    "0/1 and 0/255": Question(two_levels, "mask-0-255", TWO),
    "0/1 and 0/255, named": Question(two_levels_with_names, "mask-0-255", ("wood", "crack")),
    "colours and classes.txt": Question(
        colors_with_names, "no-colour-table", ("road", "person", "car"), correct=swap("person", "car")
    ),
    "more values than names": Question(too_many_values, "unknown-label", ("soil", "root")),
    "one mask with another label": Question(one_strange_mask, "unknown-label", ("soil", "root", "stone")),
    "colour not in class_dict.csv": Question(color_not_in_table, "unknown-colour", ("sky", "roof")),
    "colour not in the palette": Question(color_not_in_palette, "unknown-colour", ("sky", "roof")),
    "number not in labels.json": Question(number_not_in_table, "unknown-label", ("sky", "roof")),
    "numbers and colours": Question(numbers_and_colors, "no-colour-table", ("background", "class_1")),
    "one mask in colours": Question(
        one_mask_in_colors, "no-colour-table", ("background", "class_1", "class_2"), correct=swap("#dc143c", "#4646c8")
    ),
    "palettes, by number": Question(two_palettes, "no-colour-table", ("class_0", "class_1"), command(0)),
    "palettes, by colour": Question(
        two_palettes_by_color,
        "no-colour-table",
        ("class_0", "red", "blue"),
        command(1),
        lambda line: "values: {'#000000': class_0, '#dc143c': red, '#4646c8': blue}",
    ),
    "grey levels": Question(smooth, "grey-levels", TWO),
    "many colours": Question(many_colors, "no-colour-table", TWO),
    "tables of colours that disagree": Question(tables_of_colors, "class-names", ("road", "person", "car"), command(1)),
    "tables of numbers that disagree": Question(tables_of_numbers, "class-names", ("sky", "roof", "tree"), command(1)),
    "images of other bands": Question(other_bands, "band-count", TWO),
    "-9999 among heights": Question(far_value, "value-range", TWO),
    "EXIF orientation": Question(photos_on_their_side, "exif-rotation", ("background", "cell"), edit=drop_orientation),
    "two annotations of one image": Question(
        annotated_twice, "duplicate-image", ("background", "cell"), edit=remove_second
    ),
    "one name in two folders": Question(
        one_name_in_two_folders, "ambiguous-image", ("background", "cell"), edit=write_file_name
    ),
    "two files of train": Question(two_files_of_train, "ambiguous-split", ("background", "cell"), edit=rename),
    "a file without a split": Question(file_without_split, "ambiguous-split", ("background", "cell"), edit=rename),
    "a line for two images": Question(line_of_two_images, "ambiguous-image", ("background", "cell"), edit=write_line),
    "strictly": Question(masks_0_255, "inferred", TWO, edit=write_down, given=ReadingOptions(strict=True)),
    "declared nodata": Question(
        declared_nodata,
        "inferred",
        TWO,
        choose("--mask-nodata"),
        given=ReadingOptions(strict=True),
    ),
    "ADE20K with 300 classes": Question(
        full_ade20k,
        "class-names",
        ("thing 976", "thing 2978"),
        correct=lambda line: "names: [thing 976, thing 2978]",
    ),
    "masks of two types": Question(
        in_two_places("img/{}.jpg", "", "gt/{}.tif", "gt/{}.png"), "ambiguous-image", TWO, command(1)
    ),
    "images of two types": Question(
        in_two_places("img/{}.png", "img/{}.jpg", "gt/{}.png", ""), "ambiguous-image", TWO, command(1)
    ),
    "two folders of images": Question(
        in_two_places("rgb/{}.png", "photos/{}.png", "gt/{}.png", ""), "ambiguous-image", TWO, command(1)
    ),
    "raters a and b": Question(
        in_two_places("img/{}.png", "", "masks_b/{}.png", "masks_a/{}.png"), "ambiguous-image", TWO, command(1)
    ),
    "masks of two words": Question(
        in_two_places("scan{}.jpg", "", "scan{}_label.png", "scan{}_mask.png"), "ambiguous-image", TWO, command(0)
    ),
    "masks of two words, the other": Question(
        in_two_places("scan{}.jpg", "", "scan{}_mask.png", "scan{}_label.png"), "ambiguous-image", TWO, command(1)
    ),
    "two masks of each number": Question(two_rules, "ambiguous-image", TWO, command(1)),
    "two raters": Question(two_raters, "ambiguous-image", TWO, command(1)),
    "gt and labels": Question(gt_and_labels, "ambiguous-image", TWO, command(0)),
    "half of the images have masks": Question(half_labelled, "missing-mask", TWO),
    "masks without images": Question(masks_of_others, "orphan-mask", TWO),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_answer_in_the_question_settles_it(name: str, tmp_path: Path) -> None:
    question = QUESTIONS[name]
    truth = question.build(tmp_path)
    messages = ask(tmp_path, question.kind, question.given)
    options = apply(tmp_path, question.answer("\n".join(messages)), question.correct)
    for message in messages if question.edit is not None else ():
        question.edit(tmp_path, message)
    if question.edit is write_down:
        options = question.given
    dataset = read_training_data(tmp_path, options)[0]
    assert dataset.labels.class_names == question.classes
    found = maps_of(dataset)
    assert found.keys() == truth.keys()
    for image, ids in truth.items():
        np.testing.assert_array_equal(found[image], ids, err_msg=image)
