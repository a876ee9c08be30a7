"""Labels that differ only by case or blanks are one class, and the data set says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.data.layouts import find_dataset
from fullconv.data.reading import ReadingOptions


def put(root: Path, labels: list[str], names: str = "") -> None:
    """Write two images, each with a square of the first label and one of the second."""
    for number in range(2):
        Image.fromarray(np.full((12, 16, 3), 90 + number, np.uint8)).save(root / f"{number}.png")
        shapes = [
            {"label": label, "points": [[x, 2], [x + 4, 2], [x + 4, 6], [x, 6]], "shape_type": "polygon"}
            for label, x in zip(labels, (1, 8), strict=True)
        ]
        values = {"imagePath": f"{number}.png", "imageHeight": 12, "imageWidth": 16, "shapes": shapes}
        (root / f"{number}.json").write_text(json.dumps(values))
    if names:
        (root / "labels.txt").write_text(names)


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        (["Cat", "cat "], "", ("background", "Cat")),
        (["cat", "CAT"], "_background_\ncat\ndog\n", ("_background_", "cat", "dog")),
        (["traffic light", "Trafficlight"], "", ("background", "Trafficlight")),
    ],
)
def test_spellings_of_a_label_are_one_class(
    tmp_path: Path, labels: list[str], names: str, classes: tuple[str, ...]
) -> None:
    put(tmp_path, labels, names)
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == classes
    expected = np.zeros((12, 16), np.uint8)
    expected[2:6, 1:5] = expected[2:6, 8:12] = 1
    assert np.array_equal(dataset.read(dataset.split("train")[0])[1], expected)
    assert "differ only by case or blanks" in dataset.about
    assert all(repr(label) in dataset.about for label in labels)


def test_other_labels_stay_two_classes(tmp_path: Path) -> None:
    put(tmp_path, ["cat", "cats"])
    dataset = find_dataset(tmp_path)
    assert dataset.labels.class_names == ("background", "cat", "cats")
    assert "differ only" not in dataset.about


def test_spellings_survive_the_choice_of_unlabelled_pixels(tmp_path: Path) -> None:
    put(tmp_path, ["Cat", "cat"], "Cat\ndog\n")
    dataset = find_dataset(tmp_path, ReadingOptions(unlabelled="dog"))
    assert dataset.labels.class_names == ("Cat", "dog")
    target = dataset.read(dataset.split("train")[0])[1]
    assert (target == 0).sum() == 32
    assert (target == 1).sum() == target.size - 32
