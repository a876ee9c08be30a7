"""Images that belong together, such as the frames of a video, are found by their names."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fullconv.data.held_out import series_of, show_series


def names_of(parts: Sequence[str], count: int = 3) -> list[str]:
    return [f"{part}_{number:04d}" for part in parts for number in range(count)]


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("0016E5_00390", "0016E5"),
        ("drive1_0001", "drive1"),
        ("scene_4_2_7", "scene_4"),
        ("scene4_2x7", "scene4"),
        ("tile3x4", "tile"),
        ("scene_4_r2_c7", "scene_4"),
        ("field-x512_y0", "field"),
        ("videos/b/0001", "videos/b/"),
        ("2007_000032", "2007_000032"),
        ("photo", "photo"),
        ("17", "17"),
    ],
)
def test_the_series_of_a_name(name: str, series: str) -> None:
    assert series_of(name) == series


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (["img"], False),
        (["a1", "a2"], False),
        (["a1", "a2", "b7"], True),
        (["ADE_train", "ADE_val", "ADE_test"], False),
    ],
)
def test_three_parts_before_the_number_are_series_but_a_counter_and_splits_are_not(
    parts: list[str], shown: bool
) -> None:
    assert show_series(names_of(parts)) == shown
    assert not show_series([f"{part}_1" for part in parts])
    assert not show_series(["0000", "0001", "0002"] * 2)
