"""The geometry agrees with torch: sizes with those of real layers, fields with the support of real gradients."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fullconv.geometry import Field, Layer, SkipGeometry, Tap, chain_size
from fullconv.geometry.spread import spread
from refusals import refuses
from supports import reads, spans

torch.set_num_threads(1)


def draw_layer(rng: random.Random) -> tuple[Layer, str]:
    """Draw a layer that torch accepts; return it with the kind of the torch layer."""
    kind = rng.choice(["conv", "max", "max", "transposed"])
    kernel, stride, dilation = rng.randint(1, 5), rng.randint(1, 4), rng.randint(1, 3)
    if kind == "max":
        pad = rng.randint(0, kernel // 2)
        return Layer(kernel, stride, (pad, pad), dilation, ceil_mode=rng.random() < 0.6), kind
    pad = rng.randint(0, 4)
    extra = rng.randint(0, max(stride, dilation) - 1) if kind == "transposed" else 0
    return Layer(kernel, stride, (pad, pad), dilation, transposed=kind == "transposed", output_padding=extra), kind


def as_torch(layer: Layer, kind: str) -> nn.Module:
    kernel, stride, pad, dilation = layer.kernel, layer.stride, layer.padding[0], layer.dilation
    if kind == "max":
        return nn.MaxPool1d(kernel, stride, pad, dilation, ceil_mode=layer.ceil_mode)
    if kind == "conv":
        return nn.Conv1d(1, 1, kernel, stride, pad, dilation, bias=False, device="meta")
    return nn.ConvTranspose1d(1, 1, kernel, stride, pad, layer.output_padding, 1, False, dilation, device="meta")


def torch_size(modules: list[nn.Module], size: int) -> int:
    """Return the output size in torch, or 0 if torch rejects the input."""
    x = torch.empty(1, 1, size, device="meta")
    try:
        for module in modules:
            x = module(x)
    except (RuntimeError, ValueError):
        return 0
    return x.shape[2]


def test_output_sizes_equal_those_of_torch():
    rng = random.Random(0)
    rejected = 0
    for _ in range(3000):
        chain = [draw_layer(rng) for _ in range(rng.randint(1, 4))]
        layers, modules, size = [layer for layer, _ in chain], [as_torch(*one) for one in chain], rng.randint(1, 40)
        expected = torch_size(modules, size)
        if expected < 1:
            rejected += 1
            with refuses("input-too-small", "is too small for"):
                chain_size(layers, size)
        else:
            assert chain_size(layers, size) == expected, (layers, size)
    assert 100 < rejected < 2000


def test_layer_input_size_is_the_smallest_that_suffices():
    rng = random.Random(1)
    for _ in range(1000):
        layer, kind = draw_layer(rng)
        out = rng.randint(1, 20)
        size, module = layer.input_size(out), [as_torch(layer, kind)]
        assert torch_size(module, size) >= out, (layer, out)
        assert size == 1 or torch_size(module, size - 1) < out, (layer, out)


def test_tap_input_size_is_the_smallest_image_that_suffices():
    rng = random.Random(2)
    for _ in range(500):
        chain = [draw_layer(rng) for _ in range(rng.randint(1, 4))]
        tap, out = Tap(Field(), tuple(layer for layer, _ in chain)), rng.randint(1, 9)
        size, modules = tap.input_size(out), [as_torch(*one) for one in chain]
        assert torch_size(modules, size) >= out
        assert size == 1 or torch_size(modules, size - 1) < out


@pytest.mark.parametrize("bad", [{"kernel": 0}, {"kernel": 1, "stride": 0}, {"kernel": 1, "padding": (0, -1)}])
def test_layers_with_impossible_numbers_are_refused(bad):
    with refuses("invalid-layer"):
        Layer(**bad)


def inner(layers: list[Layer], size: int, cell: int) -> bool:
    """Return whether no layer needs padding to compute `cell`, so that its whole span lies in the image."""
    needed = {cell}
    for index in range(len(layers))[::-1]:
        layer, before = layers[index], chain_size(layers[:index], size)
        pad, d = layer.padding[0], layer.dilation
        taps = {(c, t) for c in needed for t in range(layer.kernel)}
        if layer.transposed:
            needed = {(c + pad - d * t) // layer.stride for c, t in taps if (c + pad - d * t) % layer.stride == 0}
        else:
            needed = {c * layer.stride - pad + d * t for c, t in taps}
        if any(not 0 <= c < before for c in needed):
            return False
    return True


def check_fields(rng: random.Random, simple_transposed: bool) -> tuple[int, int]:
    """Check every cell of one random chain; return how many were compared for equality and for inclusion."""
    layers: list[Layer] = []
    for _ in range(rng.randint(1, 4)):
        layer, _ = draw_layer(rng)
        if layer.transposed and simple_transposed:
            kernel = max(layer.kernel, layer.stride)
            layer = Layer(kernel, layer.stride, layer.padding, transposed=True)
        layers.append(layer)
    size = Tap(Field(), tuple(layers)).input_size(rng.randint(3, 12)) + rng.randint(0, 9)
    field, equal, within = Field().through(layers), 0, 0
    for cell, span in enumerate(spans(reads(layers, size))):
        first, last = max(0, field.first(cell)), min(size - 1, field.last(cell))
        if simple_transposed and inner(layers, size, cell):
            assert span == (field.first(cell), field.last(cell)), (layers, size, cell)
            equal += 1
        elif span:
            assert first <= span[0], (layers, size, cell)
            assert span[1] <= last, (layers, size, cell)
            within += 1
    return equal, within


@pytest.mark.parametrize("simple_transposed", [True, False])
def test_fields_equal_the_support_of_the_gradient(simple_transposed):
    """Fields are never too small. They are exact where no padding is needed and transposed layers have no holes."""
    rng = random.Random(3)
    counts = [check_fields(rng, simple_transposed) for _ in range(400)]
    assert sum(equal for equal, _ in counts) > (1000 if simple_transposed else -1)
    assert sum(within for _, within in counts) > 1000


layers_without_transposed = st.lists(
    st.builds(
        lambda k, s, before, after, d: Layer(k, s, (before, after), d),
        *(st.integers(1, 5), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=5,
)


@given(layers_without_transposed, st.integers(-5, 5))
def test_stride_receptive_field_and_offset_follow_from_the_spans(layers, cell):
    field = Field().through(layers)
    first, last = field.first(cell), field.last(cell)
    assert field.receptive_field == last - first + 1
    assert field.offset + cell * field.stride == Fraction(first + last, 2)
    assert field.first(cell + 1) - first == field.stride


@given(layers_without_transposed, st.integers(1, 5), st.integers(-5, 5), st.integers(-9, 9))
def test_shift_moves_the_spans_and_join_covers_both(layers, factor, cells, cell):
    finer = Field().through([*layers, Layer(2 * factor, factor, transposed=True)])
    moved = finer.shift(cells)
    assert (moved.first(cell), moved.last(cell)) == (finer.first(cell + cells), finer.last(cell + cells))
    assert moved.offset == finer.offset + cells * finer.stride
    both = finer.join(moved)
    assert both.first(cell) == min(finer.first(cell), moved.first(cell))
    assert both.last(cell) == max(finer.last(cell), moved.last(cell))
    assert both.stride == finer.stride
    with refuses("strides-differ"):
        finer.join(finer.after(Layer(1, 2)))


def test_only_outputs_at_stride_1_have_a_halo():
    assert Field().through([Layer(3, padding=(1, 1))] * 2).halo == (2, 2)
    assert Field().after(Layer(3)).shift(-2).halo == (2, 0)
    with refuses("halo-needs-stride-1", "stride 2"):
        _ = Field().after(Layer(2, 2)).halo


def vgg16(pad: int, ceil_mode: bool) -> dict[str, Tap]:
    """Return the poolings of VGG16 and an fc6 without padding, as in the reference code's net.py."""
    taps, tap, pad_of_next = {}, Tap(), pad
    for number, depth in enumerate((2, 2, 3, 3, 3), 1):
        for _ in range(depth):
            tap, pad_of_next = tap.after(Layer(3, padding=(pad_of_next, pad_of_next))), 1
        tap = taps[f"pool{number}"] = tap.after(Layer(2, 2, ceil_mode=ceil_mode))
    taps["fc6"] = tap.after(Layer(7))
    return taps


def test_vgg16_has_the_stride_and_receptive_field_of_the_paper():
    """Source: section 4.1 and table 1: stride 32, receptive field 404."""
    field = vgg16(1, False)["fc6"].field
    assert (field.stride, field.receptive_field) == (32, 404)
    assert chain_size(vgg16(1, False)["fc6"].layers, 224) == 1


@pytest.mark.parametrize(("skips", "crops"), [([], (19,)), (["pool4"], (-5, 27)), (["pool4", "pool3"], (-5, -9, 31))])
def test_geometry_gives_the_crops_of_the_reference_code(skips, crops):
    """The reference code pads conv1_1 by 100 and crops 19; 5 and 27; 5, 9 and 31. Negative crops are of the skip."""
    taps = vgg16(100, True)
    geometry = SkipGeometry((taps["fc6"], *(taps[skip] for skip in skips)))
    assert tuple(up.crop for up in geometry.upsamplings) == crops
    assert [up.kernel for up in geometry.upsamplings] == [2 * up.factor for up in geometry.upsamplings]
    assert all(geometry.padding(size) == (0, 0) for size in range(1, 701))


@given(st.integers(0, 200), st.integers(1, 50))
def test_chosen_items_are_evenly_spread(total: int, most: int) -> None:
    chosen = spread(range(total), most)
    assert len(chosen) == min(total, most)
    steps = [second - first for first, second in pairwise(chosen)]
    assert not steps or (min(steps) >= 1 and max(steps) - min(steps) <= 1)
    assert not chosen or abs(chosen[0] - (total - 1 - chosen[-1])) <= 1, "no more is left out at one end"
