"""What is ambiguous ends in a question, and the command or the line of dataset.yaml in it settles the question."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.data.classes import KEYS
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import survey, usable_dataset
from fullconv.data.reading import BY_FILES, ReadingOptions
from fullconv.errors import DataError

Maps = dict[str, UInt8]
"""The right label map of each image, by its path below the data set's folder."""

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


def swap(one: str, other: str) -> Callable[[str], str]:
    """Return the edit of a user who sees that two words of the proposal are the wrong way round."""
    return lambda line: line.replace(one, "?").replace(other, one).replace("?", other)


def command(number: int) -> Callable[[str], str]:
    """Return the choice of one of the commands in a message."""
    return lambda message: f"`{list(answers(message))[number]}`"


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


def read(root: Path, options: ReadingOptions = BY_FILES) -> DataSet:
    return usable_dataset(survey(root, options))


def maps_of(dataset: DataSet) -> Maps:
    return {
        sample.image.relative_to(dataset.root).as_posix(): dataset.read(sample)[1]
        for samples in dataset.splits.values()
        for sample in samples
    }


def ask(root: Path, kind: str) -> str:
    """Return the message of the fault of this kind, which stops reading."""
    with pytest.raises(DataError) as caught:
        read(root)
    faults = [fault for fault in caught.value.faults if fault.kind == kind]
    assert faults, f"{kind} is not in {caught.value}"
    return str(faults[0])


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


QUESTIONS: dict[str, Question] = {
    "0/1 and 0/255": Question(two_levels, "mask-0-255", ("background", "foreground")),
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
    "grey levels": Question(smooth, "grey-levels", ("background", "foreground")),
    "many colours": Question(many_colors, "no-colour-table", ("background", "foreground")),
    "two masks of each number": Question(two_rules, "ambiguous-image", ("background", "foreground"), command(1)),
    "two raters": Question(two_raters, "ambiguous-image", ("background", "foreground"), command(1)),
    "gt and labels": Question(gt_and_labels, "ambiguous-image", ("background", "foreground"), command(0)),
    "half of the images have masks": Question(half_labelled, "missing-mask", ("background", "foreground")),
    "masks without images": Question(masks_of_others, "orphan-mask", ("background", "foreground")),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_answer_in_the_question_settles_it(name: str, tmp_path: Path) -> None:
    question = QUESTIONS[name]
    truth = question.build(tmp_path)
    message = ask(tmp_path, question.kind)
    options = apply(tmp_path, question.answer(message), question.correct)
    dataset = read(tmp_path, options)
    assert dataset.labels.class_names == question.classes
    found = maps_of(dataset)
    assert found.keys() == truth.keys()
    for image, ids in truth.items():
        np.testing.assert_array_equal(found[image], ids, err_msg=image)
