"""Colours of classes: all differ, for every kind of colour vision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fullconv.data.names import VOC_LABELS
from fullconv.labels import APART, LabelSet, default_palette, voc_palette

VISION = {
    "all cones": np.eye(3),
    "no red cones": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green cones": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
"""On linear RGB. Source: Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision
Deficiency, 2009, severity 1."""


def lab(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIELAB of linear sRGB, white D65."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear.clip(0, 1) @ (matrix / matrix.sum(1, keepdims=True)).T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def least_distance(palette: tuple[tuple[int, int, int], ...], vision: npt.NDArray[np.float64]) -> float:
    """Between any two of the colours, as seen."""
    values = np.array(palette) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = lab(linear @ vision.T)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    return float(apart[~np.eye(len(seen), dtype=bool)].min())


@pytest.mark.parametrize("vision", VISION)
def test_twelve_classes_are_told_apart_by_everyone(vision: str) -> None:
    assert least_distance(LabelSet.named([f"c{i}" for i in range(12)]).palette, VISION[vision]) > 16


def test_vocs_colours_are_not() -> None:
    assert least_distance(voc_palette(12), VISION["no red cones"]) < 2


@pytest.mark.parametrize("classes", [1, 2, 12, 13, 255])
def test_all_colours_differ_and_none_is_white(classes: int) -> None:
    palette = default_palette(classes)
    assert len(palette) == len(set(palette)) == classes
    assert (255, 255, 255) not in palette
    assert palette[:12] == APART[:classes]


def test_voc_keeps_its_own() -> None:
    assert VOC_LABELS.palette == voc_palette(21)
