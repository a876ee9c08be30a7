"""Fixed upsampling by matrix products equals the transposed convolution with the bilinear kernel."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from fullconv.geometry import Field, Upsampling, aligned_crop, bilinear_kernel
from fullconv.net.fcn.upsample import Upsample

torch.set_num_threads(1)


def upsample_by_torch(coarse: Tensor, axes: tuple[Upsampling, Upsampling], size: tuple[int, int]) -> Tensor:
    """Return torch's own transposed convolution, channel by channel, cropped from a canvas of zeros."""
    rows, columns = (torch.tensor(bilinear_kernel(axis), dtype=coarse.dtype) for axis in axes)
    kernel = torch.outer(rows, columns).expand(coarse.shape[1], 1, -1, -1)
    stride = (axes[0].factor, axes[1].factor)
    full = functional.conv_transpose2d(coarse, kernel, stride=stride, groups=coarse.shape[1])
    canvas = functional.pad(full, (100, 100 + size[1], 100, 100 + size[0]))
    top, left = 100 + axes[0].crop, 100 + axes[1].crop
    return canvas[:, :, top : top + size[0], left : left + size[1]]


@st.composite
def upsamplings(draw) -> Upsampling:
    """Draw any factor and phase, and cells that start before, at or after the finer grid's first."""
    factor = draw(st.integers(1, 8))
    start = draw(st.fractions(-2 * factor, 2 * factor, max_denominator=4))
    return aligned_crop(Field(factor, ((0, 0),), start), Field())


cases = {
    "vertical": upsamplings(),
    "horizontal": upsamplings(),
    "cells": st.tuples(st.integers(1, 5), st.integers(1, 5)),
    "size": st.tuples(st.integers(1, 40), st.integers(1, 40)),
}


@given(**cases)
def test_fixed_equals_the_transposed_convolution_forward_and_backward(vertical, horizontal, cells, size):
    coarse = torch.randn(2, 3, *cells, dtype=torch.float64, requires_grad=True)
    logits = Upsample(3, vertical, horizontal)(coarse, size)
    expected = upsample_by_torch(coarse, (vertical, horizontal), size)
    torch.testing.assert_close(logits, expected)
    seed = torch.randn(expected.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad(out, coarse, seed)[0] for out in (logits, expected)]
    torch.testing.assert_close(*gradients)


@given(**cases)
def test_learned_starts_equal_to_fixed(vertical, horizontal, cells, size):
    for axis, coarse, fine in zip((vertical, horizontal), cells, size, strict=True):
        assume(-fine < axis.crop < axis.layer.output_size(coarse))
    coarse = torch.randn(1, 3, *cells)
    fixed, learned = (Upsample(3, vertical, horizontal, mode)(coarse, size) for mode in ("fixed", "learned"))
    torch.testing.assert_close(fixed, learned)
    assert fixed.shape == (1, 3, *size)


def make_upsampling(factor: int, start: Fraction | int = Fraction(1, 2)) -> Upsampling:
    return aligned_crop(Field(factor, ((0, 0),), Fraction(start)), Field())


def test_only_learned_has_parameters_and_mixes_classes():
    fixed, learned = (Upsample(2, make_upsampling(4), make_upsampling(2), mode) for mode in ("fixed", "learned"))
    assert not list(fixed.parameters())
    assert not fixed.state_dict()
    assert [name for name, _ in learned.named_parameters()] == ["weight"]
    assert learned.weight.shape == (2, 2, 8, 4)
    assert learned.weight[0, 1].abs().max() == 0
    learned(torch.randn(1, 2, 3, 3), (12, 6)).square().sum().backward()
    assert learned.weight.grad is not None
    assert all(learned.weight.grad[i, j].abs().max() > 0 for i in range(2) for j in range(2))


@pytest.mark.parametrize("mode", ["fixed", "learned"])
@pytest.mark.parametrize(
    ("factor", "start"), [(2, Fraction(1, 2)), (8, Fraction(7, 2)), (2, 0), (8, 0), (5, Fraction(1, 3))]
)
def test_constant_map_stays_constant_between_the_outer_cells(mode, factor, start):
    up, cells = make_upsampling(factor, start), 4
    inner = range(-(-start.numerator // start.denominator), int(start) + (cells - 1) * factor + 1)
    out = Upsample(1, up, up, mode)(torch.full((1, 1, cells, cells), 3.0), (inner.stop, inner.stop))
    torch.testing.assert_close(out[0, 0, inner.start :, inner.start :], torch.full((len(inner), len(inner)), 3.0))


@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_window_beyond_the_transposed_convolution_is_zero(mode):
    up = Upsample(1, make_upsampling(4), make_upsampling(4), mode)
    reach = up.axes[0].layer.output_size(2)
    out = up(torch.ones(1, 1, 2, 2), (3 + reach + 5, reach + 5), start=(-3, 0))[0, 0]
    assert out[3 : 3 + reach, :reach].min() > 0
    assert out.count_nonzero() == reach * reach


def test_start_moves_the_window():
    up, coarse = Upsample(2, make_upsampling(4), make_upsampling(4)), torch.randn(1, 2, 5, 5)
    crop = up.axes[0].crop
    torch.testing.assert_close(up(coarse, (9, 8), (crop + 2, crop + 3)), up(coarse, (11, 11))[:, :, 2:, 3:])


def test_dtype_is_kept():
    up = Upsample(1, make_upsampling(2), make_upsampling(2))
    assert up(torch.ones(1, 1, 2, 2, dtype=torch.float64), (4, 4)).dtype == torch.float64
    assert up(torch.ones(1, 1, 2, 2, dtype=torch.bfloat16), (4, 4)).dtype == torch.bfloat16
