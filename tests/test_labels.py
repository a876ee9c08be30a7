"""Class names and colours: the default colours differ for every kind of colour vision, and mistakes are refused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fullconv.data.classes import VOC_LABELS
from fullconv.labels import DISTINCT_COLORS, LabelSet, default_palette, legal_ids, voc_palette
from refusals import refuses

VISION = {
    "all cones": np.eye(3),
    "no red cones": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green cones": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
"""Matrices for linear RGB. Source: Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of
Color Vision Deficiency, 2009, severity 1."""


def lab(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Convert linear sRGB to CIELAB, white point D65."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear.clip(0, 1) @ (matrix / matrix.sum(1, keepdims=True)).T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def least_distance(palette: tuple[tuple[int, int, int], ...], vision: npt.NDArray[np.float64]) -> float:
    """Return the smallest distance in CIELAB between two of the colours."""
    values = np.array(palette) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = lab(linear @ vision.T)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    return float(apart[~np.eye(len(seen), dtype=bool)].min())


@pytest.mark.parametrize("vision", VISION)
def test_twelve_default_colors_are_distinct_without_red_or_green_cones(vision: str) -> None:
    assert least_distance(LabelSet.named([f"c{i}" for i in range(12)]).palette, VISION[vision]) > 16


def test_the_first_twelve_voc_colors_are_not_distinct_without_red_cones() -> None:
    assert least_distance(voc_palette(12), VISION["no red cones"]) < 2


@pytest.mark.parametrize("classes", [1, 2, 12, 13, 255])
def test_all_default_colors_differ_and_none_is_white(classes: int) -> None:
    palette = default_palette(classes)
    assert len(palette) == len(set(palette)) == classes
    assert (255, 255, 255) not in palette
    assert palette[:12] == DISTINCT_COLORS[:classes]


def test_voc_labels_have_the_voc_palette() -> None:
    assert VOC_LABELS.palette == voc_palette(21)


@pytest.mark.parametrize(
    ("code", "names", "colors"),
    [
        ("class-count-out-of-range", 0, 0),
        ("class-count-out-of-range", 256, 256),
        ("palette-size-differs", 2, 3),
    ],
)
def test_wrong_numbers_of_classes_and_colors_are_refused(code: str, names: int, colors: int) -> None:
    with refuses(code, names):
        LabelSet(tuple(f"c{i}" for i in range(names)), tuple((i, 0, 0) for i in range(colors)))


def test_repeated_class_names_are_refused() -> None:
    with refuses("class-names-repeat", "sky"):
        LabelSet.named(["sky", "road", "sky"])


def test_label_maps_come_back_from_their_colors() -> None:
    labels = LabelSet.named(["sky", "road"])
    label_map = np.array([[0, 1], [255, 1]], np.uint8)
    np.testing.assert_array_equal(labels.from_colors(labels.colorize(label_map)), label_map)


def test_colors_that_belong_to_no_class_are_refused() -> None:
    with refuses("color-without-class", "#010203"):
        LabelSet.named(["sky"]).from_colors(np.array([[[1, 2, 3]]], np.uint8))


def test_large_masks_of_colors_are_read_in_bands() -> None:
    labels = LabelSet.named(["sky", "road", "tree"])
    label_map = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (2_100_000, 1))
    colors = labels.colorize(label_map)
    np.testing.assert_array_equal(labels.from_colors(colors), label_map)
    colors[-1] = (1, 2, 3)
    with refuses("color-without-class", "#010203"):
        labels.from_colors(colors)


def test_the_ids_of_one_class_are_no_range() -> None:
    assert legal_ids(1) == "the only class is 0"
    assert legal_ids(3) == "the 3 classes are 0 to 2"
