"""Upsampling onto finer maps, the padding that covers every pixel, and the halo."""

from __future__ import annotations

import random
from fractions import Fraction
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fullconv.errors import ModelError
from fullconv.geometry import (
    Field,
    Layer,
    SkipGeometry,
    Tap,
    Upsampling,
    aligned_crop,
    bilinear_kernel,
)
from fullconv.net.classifiers.backbones import CLASSIFIERS
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from refusals import refuses
from supports import reads, spans

torch.set_num_threads(1)


def reference_filler(size: int) -> list[float]:
    """Return the one-dimensional filter of `upsample_filt` in the reference code's surgery.py."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 == 1 else factor - 0.5
    return [1 - abs(t - center) / factor for t in range(size)]


@pytest.mark.parametrize("kernel", [*range(1, 17), 31, 32, 63, 64])
def test_bilinear_kernel_equals_the_reference_filler(kernel):
    factor = (kernel + 1) // 2
    up = aligned_crop(Field(factor, ((0, 0),), Fraction(kernel % 2 == 0, 2)), Field())
    assert up.kernel == kernel
    assert bilinear_kernel(up) == pytest.approx(reference_filler(kernel), abs=1e-15)


@given(st.integers(1, 9), st.fractions(-20, 20, max_denominator=8), st.fractions(-9, 9, max_denominator=8))
def test_upsampled_cells_lie_on_the_finer_cells(factor, coarse_at, fine_at):
    """Upsampling the coordinates of the coarse cells gives the coordinates of the finer cells."""
    coarse, fine = Field(3 * factor, ((0, 0),), coarse_at), Field(3, ((0, 0),), fine_at)
    up = aligned_crop(coarse, fine)
    cells = 6
    ramp = torch.tensor([float(coarse_at + j * coarse.stride) for j in range(cells)], dtype=torch.float64)
    kernel = torch.tensor(bilinear_kernel(up), dtype=torch.float64)
    out = nn.functional.conv_transpose1d(ramp[None, None], kernel[None, None], stride=factor)[0, 0]
    assert len(out) == up.layer.output_size(cells)
    checked = 0
    for index, value in enumerate(out.tolist()):
        at = fine_at + (index - up.crop) * fine.stride
        if coarse_at <= at <= coarse_at + (cells - 1) * coarse.stride:
            assert value == pytest.approx(float(at), abs=1e-9)
            checked += 1
    assert checked >= (cells - 1) * factor


def test_upsampling_by_a_fraction_is_refused():
    with refuses("stride-not-multiple", "stride 3", "stride 2"):
        aligned_crop(Field(3), Field(2))


SPECS = [(model, stride) for model in CLASSIFIERS for stride in (32, 16, 8, 4)]


@cache
def geometry_of(model: str, stride: int) -> SkipGeometry:
    if stride > 4:
        return SkipGeometry(geometry_of(model, 4).taps[: {32: 1, 16: 2, 8: 3}[stride]])
    with torch.device("meta"):
        return build(NetSpec(model, 2, stride)).geometry[0]


def covers(geometry: SkipGeometry, before: int, size: int, after: int) -> bool:
    """Compute sizes forward; return whether the output has a value for the first and the last pixel."""
    try:
        sizes = [tap.size(before + size + after) for tap in geometry.taps]
    except ModelError:
        return False
    cells = sizes[0]
    for up, fine in zip(geometry.upsamplings, sizes[1:], strict=False):
        low, high = max(0, up.crop), min(up.layer.output_size(cells), fine + up.crop)
        cells = high - low
    final = geometry.upsamplings[-1]
    start = final.crop + before
    return cells > 0 and start >= 0 and start + size <= final.layer.output_size(cells)


@pytest.mark.parametrize(("model", "stride"), SPECS)
def test_padding_of_classifiers_is_the_smallest_that_covers_every_pixel(model, stride):
    geometry = geometry_of(model, stride)
    rng = random.Random(stride)
    for size in [*range(1, 20), *(rng.randint(20, 700) for _ in range(30))]:
        before, after = geometry.padding(size)
        assert covers(geometry, before, size, after), size
        assert before == 0 or not covers(geometry, before - 1, size, after + 64), size
        assert after == 0 or not covers(geometry, before, size, after - 1), size


@st.composite
def skip_networks(draw) -> SkipGeometry:
    """Draw a network with a few taps at coarser and coarser strides."""
    tap, taps = Tap(), []
    for _ in range(draw(st.integers(1, 3))):
        for kernel, stride, pad in draw(st.lists(st.tuples(*map(st.integers, (1, 1, 0), (5, 3, 3))), max_size=3)):
            tap = tap.after(Layer(kernel, stride, (pad, pad)))
        tap = tap.after(Layer(2, 2, ceil_mode=draw(st.booleans())))
        taps.append(tap)
    return SkipGeometry(tuple(taps[::-1]))


@given(skip_networks(), st.integers(1, 60))
@settings(max_examples=300)
def test_padding_of_random_networks_is_the_smallest_that_covers_every_pixel(geometry, size):
    before, after = geometry.padding(size)
    assert covers(geometry, before, size, after)
    assert before == 0 or not covers(geometry, before - 1, size, after + 200)
    assert after == 0 or not covers(geometry, before, size, after - 1)


def pixel_support(geometry: SkipGeometry, size: int) -> Tensor:
    """Return which input pixels each output pixel depends on, by running the network with positive weights."""
    before, after = geometry.padding(size)
    maps = []
    for tap in geometry.taps:
        maps.append(reads(list(tap.layers), before + size + after)[:, before : before + size].double())
    score = maps[0]
    for up, fine in zip(geometry.upsamplings, [*maps[1:], None], strict=True):
        kernel = torch.tensor(bilinear_kernel(up), dtype=torch.float64)[None, None]
        full = nn.functional.conv_transpose1d(score.T[:, None], kernel, stride=up.factor)[:, 0].T
        if fine is None:
            start = up.crop + geometry.lead
            return full[start : start + size] > 0
        rows = up.fused_size(len(score), len(fine))
        low, cut = max(0, up.crop), max(0, -up.crop)
        score = full[low : low + rows] + fine[cut : cut + rows]
    raise AssertionError


@given(skip_networks(), st.integers(20, 90))
@settings(max_examples=60)
def test_no_output_pixel_depends_on_pixels_beyond_its_halo(geometry, size):
    """This holds at the borders, too."""
    before, after = geometry.field.halo
    supports = spans(pixel_support(geometry, size))
    for pixel, span in enumerate(supports):
        if span:
            assert max(0, geometry.field.first(pixel)) <= span[0]
            assert span[1] <= min(size - 1, geometry.field.last(pixel))
            assert pixel - before <= span[0]
            assert span[1] <= pixel + after


@pytest.mark.parametrize(("model", "stride"), [("vgg16", 8), ("digits", 8), ("alexnet", 16), ("resnet18", 4)])
def test_the_halo_of_classifiers_is_exact(model, stride):
    geometry = geometry_of(model, stride)
    before, after = geometry.field.halo
    size = before + after + 3 * int(geometry.taps[0].field.stride)
    supports = spans(pixel_support(geometry, size))
    middle = range(before, size - after)
    assert all(supports[p] == (geometry.field.first(p), geometry.field.last(p)) for p in middle)
    assert max(p - supports[p][0] for p in middle) == before
    assert max(supports[p][1] - p for p in middle) == after


def test_upsampling_by_one_is_the_identity():
    up = aligned_crop(Field(), Field())
    assert up == Upsampling(1, 1, Fraction(0), 0)
    assert bilinear_kernel(up) == (1.0,)
