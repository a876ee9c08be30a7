"""Label maps of shapes: the same as with one mask for each shape, at a cost that follows the size of the input."""

from __future__ import annotations

import time
import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullconv.arrays import Float64, Mask, UInt8
from fullconv.data.annotations.patch import Patch
from fullconv.data.annotations.rle import rasterize_brush
from fullconv.data.annotations.shapes import Rasterizer, Size, draw, fill_each, fill_rings
from refusals import refuses

corners = st.tuples(st.integers(-30, 70), st.integers(-30, 70))
polygons = st.lists(st.lists(corners, min_size=1, max_size=7), min_size=1, max_size=4)
sides = st.integers(1, 30)


def parity(rings: list[Float64], size: Size) -> Mask:
    """Return the pixels by the even-odd rule: one comparison for each row, column and edge."""
    x, y = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    odd = np.zeros(size, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            if y0 < y1:
                odd ^= (y >= y0) & (y < y1) & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x)
    return odd


def mask_of(rasterizer: Rasterizer, size: Size) -> Mask:
    patch, mask = rasterizer(size), np.zeros(size, bool)
    mask[patch.slices] = patch.mask
    return mask


def draw_by_masks(size: Size, masks: list[tuple[int, Mask]], uncovered: int, by_area: bool) -> UInt8:
    """Draw with all masks in memory, as before."""
    if by_area:
        masks = sorted(masks, key=lambda pair: -int(pair[1].sum()))
    label_map = np.full(size, uncovered, np.uint8)
    for label, mask in masks:
        label_map[mask] = label
    return label_map


@given(st.lists(polygons, min_size=1, max_size=5), sides, sides, st.integers(1, 40), st.booleans())
def test_label_maps_are_those_of_one_mask_for_each_shape(
    drawn: list[list[list[tuple[int, int]]]], height: int, width: int, crossings: int, by_area: bool
) -> None:
    size = height, width
    shapes: list[tuple[int, Rasterizer]] = []
    masks: list[tuple[int, Mask]] = []
    for label, rings in enumerate(drawn):
        arrays = [np.array(ring, np.float64) / 2 for ring in rings]
        shapes += [
            (3 * label, partial(fill_rings, tuple(arrays))),
            (3 * label + 1, partial(fill_each, tuple(arrays))),
            (3 * label + 2, partial(fill_rings, tuple(arrays[:1]), crossings=crossings)),
        ]
        each = np.any([parity([array], size) for array in arrays], axis=0)
        masks += [(3 * label, parity(arrays, size)), (3 * label + 1, each)]
        masks += [(3 * label + 2, parity(arrays[:1], size))]
    for (_, rasterizer), (_, mask) in zip(shapes, masks, strict=True):
        assert np.array_equal(mask_of(rasterizer, size), mask)
        assert rasterizer(size).pixels == mask.sum()
    assert np.array_equal(draw(size, shapes, 99, by_area), draw_by_masks(size, masks, 99, by_area))


def test_masks_and_polygons_are_painted_by_area_in_any_mixture() -> None:
    square = np.array([(0, 0), (6, 0), (6, 6), (0, 6)], np.float64)
    shapes: list[tuple[int, Rasterizer]] = [
        (1, lambda size: Patch(2, 2, np.ones((3, 3), bool))),
        (2, partial(fill_rings, (square,))),
        (3, lambda size: Patch(0, 0, np.eye(4, dtype=bool))),
    ]
    label_map = draw((8, 8), shapes, 0, by_area=True)
    assert np.unique(label_map, return_counts=True)[1].tolist() == [28, 7, 25, 4]
    assert label_map[3, 3] == 3


@pytest.mark.parametrize("by_area", [False, True])
def test_a_thousand_large_regions_fit_into_memory_and_time(by_area: bool) -> None:
    size, started = (4000, 4000), time.process_time()
    shapes: list[tuple[int, Rasterizer]] = [
        (i % 200, partial(fill_rings, (np.array([(i, i), (3999, i / 2), (4000 - i, 3990), (3, 3999)], np.float64),)))
        for i in range(1000)
    ]
    label_map = draw(size, shapes, 255, by_area)
    assert label_map[2000, 2000] == 199
    assert time.process_time() - started < 80
    tracemalloc.start()  # which makes it slow, so only some are drawn again: the map takes 2**24 bytes
    try:
        draw(size, shapes[::20], 255, by_area)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_a_zigzag_costs_what_its_crossings_cost() -> None:
    """10,000 corners cross 2,000 rows each: 20 million crossings on 4 megapixels."""
    x, y = np.arange(10_000) / 5, np.arange(10_000) % 2 * 2000.0
    started = time.process_time()
    patch = fill_rings((np.stack([x, y], 1),), (2000, 2000))
    assert time.process_time() - started < 20
    assert 0 < patch.pixels < 2000 * 2000


def test_brushes_that_claim_other_sizes_are_refused_before_they_are_unpacked() -> None:
    bits = f"{2**32 - 1:032b}" + f"{7:05b}" + f"{15:04b}" * 4 + ("1" + "00" + f"{2**16 - 1:016b}" + f"{255:08b}") * 9
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    with refuses("damaged-shape", "1073741823 pixels", "40x30"):
        rasterize_brush(data, (30, 40))
