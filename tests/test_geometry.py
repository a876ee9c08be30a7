"""The arithmetic against torch itself: sizes of real layers, and fields as the support of real gradients."""

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
    chain_size,
)
from fullconv.net.backbones import CLASSIFIERS
from fullconv.net.fcn import build
from fullconv.net.spec import NetSpec

torch.set_num_threads(1)


def draw_layer(rng: random.Random) -> tuple[Layer, str]:
    """A layer that torch accepts, and which torch layer it is."""
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
    """What torch makes of an input of `size`; 0 where it refuses."""
    x = torch.empty(1, 1, size, device="meta")
    try:
        for module in modules:
            x = module(x)
    except (RuntimeError, ValueError):
        return 0
    return x.shape[2]


def test_sizes_are_those_of_torch():
    rng = random.Random(0)
    refused = 0
    for _ in range(3000):
        chain = [draw_layer(rng) for _ in range(rng.randint(1, 4))]
        layers, modules, size = [layer for layer, _ in chain], [as_torch(*one) for one in chain], rng.randint(1, 40)
        expected = torch_size(modules, size)
        if expected < 1:
            refused += 1
            with pytest.raises(ModelError, match="too small for"):
                chain_size(layers, size)
        else:
            assert chain_size(layers, size) == expected, (layers, size)
    assert 100 < refused < 2000


def test_input_size_is_the_smallest():
    rng = random.Random(1)
    for _ in range(1000):
        layer, kind = draw_layer(rng)
        out = rng.randint(1, 20)
        size, module = layer.input_size(out), [as_torch(layer, kind)]
        assert torch_size(module, size) >= out, (layer, out)
        assert size == 1 or torch_size(module, size - 1) < out, (layer, out)


def test_a_tap_knows_the_smallest_image():
    rng = random.Random(2)
    for _ in range(500):
        chain = [draw_layer(rng) for _ in range(rng.randint(1, 4))]
        tap, out = Tap(Field(), tuple(layer for layer, _ in chain)), rng.randint(1, 9)
        size, modules = tap.input_size(out), [as_torch(*one) for one in chain]
        assert torch_size(modules, size) >= out
        assert size == 1 or torch_size(modules, size - 1) < out


@pytest.mark.parametrize("bad", [{"kernel": 0}, {"kernel": 1, "stride": 0}, {"kernel": 1, "padding": (0, -1)}])
def test_impossible_layers_are_refused(bad):
    with pytest.raises(ModelError, match="no such layer"):
        Layer(**bad)


def reads(layers: list[Layer], size: int) -> Tensor:
    """cells x pixels: whether a pixel reaches a cell, from torch's own layers with positive weights."""
    x = torch.eye(size, dtype=torch.float64)[:, None]
    for layer in layers:
        weight = torch.ones(1, 1, layer.kernel, dtype=torch.float64)
        if layer.transposed:
            x = nn.functional.conv_transpose1d(
                x, weight, None, layer.stride, layer.padding[0], layer.output_padding, 1, layer.dilation
            )
        else:
            room = x.shape[2] + sum(layer.padding) - layer.reach - 1
            partial = -room % layer.stride if layer.ceil_mode else 0
            x = nn.functional.pad(x, (layer.padding[0], layer.padding[1] + partial))
            x = nn.functional.conv1d(x, weight, None, layer.stride, 0, layer.dilation)
    return x[:, 0].T > 0


def spans(support: Tensor) -> list[tuple[int, int] | None]:
    found = [row.nonzero().flatten().tolist() for row in support]
    return [(seen[0], seen[-1]) if seen else None for seen in found]


def inner(layers: list[Layer], size: int, cell: int) -> bool:
    """Whether `cell` needs no padding anywhere on its way down, so that nothing of its span is missing."""
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
    """Every cell of one random chain; how many were compared for equality and for inclusion."""
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
def test_fields_are_the_support_of_the_gradient(simple_transposed):
    """Exact away from padding, unless a transposed layer is dilated or shorter than its stride; never too small."""
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
def test_stride_receptive_field_and_offset_are_those_of_the_spans(layers, cell):
    field = Field().through(layers)
    first, last = field.first(cell), field.last(cell)
    assert field.receptive_field == last - first + 1
    assert field.offset + cell * field.stride == Fraction(first + last, 2)
    assert field.first(cell + 1) - first == field.stride


@given(layers_without_transposed, st.integers(1, 5), st.integers(-5, 5), st.integers(-9, 9))
def test_shifted_and_joined(layers, factor, cells, cell):
    finer = Field().through([*layers, Layer(2 * factor, factor, transposed=True)])
    moved = finer.shifted(cells)
    assert (moved.first(cell), moved.last(cell)) == (finer.first(cell + cells), finer.last(cell + cells))
    assert moved.offset == finer.offset + cells * finer.stride
    both = finer.joined(moved)
    assert both.first(cell) == min(finer.first(cell), moved.first(cell))
    assert both.last(cell) == max(finer.last(cell), moved.last(cell))
    assert both.stride == finer.stride
    with pytest.raises(ModelError, match="cannot be joined"):
        finer.joined(finer.after(Layer(1, 2)))


def test_a_halo_is_asked_of_pixels_only():
    assert Field().through([Layer(3, padding=(1, 1))] * 2).halo == (2, 2)
    assert Field().after(Layer(3)).shifted(-2).halo == (2, 0)
    with pytest.raises(ModelError, match="stride 2"):
        _ = Field().after(Layer(2, 2)).halo


def vgg16(pad: int, ceil_mode: bool) -> dict[str, Tap]:
    """The poolings of VGG16 and a fc6 without padding, as in the reference code's net.py."""
    taps, tap, pad_of_next = {}, Tap(), pad
    for number, depth in enumerate((2, 2, 3, 3, 3), 1):
        for _ in range(depth):
            tap, pad_of_next = tap.after(Layer(3, padding=(pad_of_next, pad_of_next))), 1
        tap = taps[f"pool{number}"] = tap.after(Layer(2, 2, ceil_mode=ceil_mode))
    taps["fc6"] = tap.after(Layer(7))
    return taps


def test_vgg16_is_the_papers():
    """The paper, section 4.1 and table 1: 32 pixel stride, receptive field 404."""
    field = vgg16(1, False)["fc6"].field
    assert (field.stride, field.receptive_field) == (32, 404)
    assert chain_size(vgg16(1, False)["fc6"].layers, 224) == 1


@pytest.mark.parametrize(("skips", "crops"), [([], (19,)), (["pool4"], (-5, 27)), (["pool4", "pool3"], (-5, -9, 31))])
def test_the_reference_codes_net_gives_its_published_crops(skips, crops):
    """It pads conv1_1 by 100, and crops 19; 5 and 27; 5, 9 and 31. Negative here where it crops the skip."""
    taps = vgg16(100, True)
    geometry = SkipGeometry((taps["fc6"], *(taps[skip] for skip in skips)))
    assert tuple(up.crop for up in geometry.upsamplings) == crops
    assert [up.kernel for up in geometry.upsamplings] == [2 * up.factor for up in geometry.upsamplings]
    assert all(geometry.padding(size) == (0, 0) for size in range(1, 701))


def reference_filler(size: int) -> list[float]:
    """The one-dimensional filter of the reference code's surgery.py, `upsample_filt`."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 == 1 else factor - 0.5
    return [1 - abs(t - center) / factor for t in range(size)]


@pytest.mark.parametrize("kernel", [*range(1, 17), 31, 32, 63, 64])
def test_bilinear_kernel_is_the_reference_filler(kernel):
    factor = (kernel + 1) // 2
    up = aligned_crop(Field(factor, ((0, 0),), Fraction(kernel % 2 == 0, 2)), Field())
    assert up.kernel == kernel
    assert bilinear_kernel(up) == pytest.approx(reference_filler(kernel), abs=1e-15)


@given(st.integers(1, 9), st.fractions(-20, 20, max_denominator=8), st.fractions(-9, 9, max_denominator=8))
def test_upsampling_lands_on_the_finer_cells(factor, coarse_at, fine_at):
    """A ramp of pixel coordinates, sampled at the coarse cells, becomes the coordinates of the finer cells."""
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


def test_upsampling_needs_a_whole_factor():
    with pytest.raises(ModelError, match="not a multiple"):
        aligned_crop(Field(3), Field(2))


SPECS = [(model, stride) for model in CLASSIFIERS for stride in (32, 16, 8, 4)]


@cache
def geometry_of(model: str, stride: int) -> SkipGeometry:
    if stride > 4:
        return SkipGeometry(geometry_of(model, 4).taps[: {32: 1, 16: 2, 8: 3}[stride]])
    with torch.device("meta"):
        return build(NetSpec(model, 2, stride)).geometry[0]


def covers(geometry: SkipGeometry, before: int, size: int, after: int) -> bool:
    """Run the sizes forward: does the final upsampling have a value for the first and for the last pixel?"""
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
def test_padding_is_the_smallest_that_covers_every_pixel(model, stride):
    geometry = geometry_of(model, stride)
    rng = random.Random(stride)
    for size in [*range(1, 20), *(rng.randint(20, 700) for _ in range(30))]:
        before, after = geometry.padding(size)
        assert covers(geometry, before, size, after), size
        assert before == 0 or not covers(geometry, before - 1, size, after + 64), size
        assert after == 0 or not covers(geometry, before, size, after - 1), size


@st.composite
def skip_networks(draw) -> SkipGeometry:
    """A made-up network: a few taps at ever coarser strides."""
    tap, taps = Tap(), []
    for _ in range(draw(st.integers(1, 3))):
        for kernel, stride, pad in draw(st.lists(st.tuples(*map(st.integers, (1, 1, 0), (5, 3, 3))), max_size=3)):
            tap = tap.after(Layer(kernel, stride, (pad, pad)))
        tap = tap.after(Layer(2, 2, ceil_mode=draw(st.booleans())))
        taps.append(tap)
    return SkipGeometry(tuple(taps[::-1]))


@given(skip_networks(), st.integers(1, 60))
@settings(max_examples=300)
def test_padding_of_any_skip_network_is_the_smallest(geometry, size):
    before, after = geometry.padding(size)
    assert covers(geometry, before, size, after)
    assert before == 0 or not covers(geometry, before - 1, size, after + 200)
    assert after == 0 or not covers(geometry, before, size, after - 1)


def pixel_support(geometry: SkipGeometry, size: int) -> Tensor:
    """Output pixels x input pixels: the skip network itself on one axis, with positive weights."""
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
def test_the_halo_is_what_an_output_pixel_sees(geometry, size):
    """No pixel sees beyond its field and the halo, at the borders neither."""
    before, after = geometry.field.halo
    found = spans(pixel_support(geometry, size))
    for pixel, span in enumerate(found):
        if span:
            assert max(0, geometry.field.first(pixel)) <= span[0]
            assert span[1] <= min(size - 1, geometry.field.last(pixel))
            assert pixel - before <= span[0]
            assert span[1] <= pixel + after


@pytest.mark.parametrize(("model", "stride"), [("vgg16", 8), ("digits", 8), ("alexnet", 16), ("resnet18", 4)])
def test_the_halo_of_a_network_is_exact(model, stride):
    geometry = geometry_of(model, stride)
    before, after = geometry.field.halo
    size = before + after + 3 * int(geometry.taps[0].field.stride)
    found = spans(pixel_support(geometry, size))
    middle = range(before, size - after)
    assert all(found[p] == (geometry.field.first(p), geometry.field.last(p)) for p in middle)
    assert max(p - found[p][0] for p in middle) == before
    assert max(found[p][1] - p for p in middle) == after


def test_an_upsampling_by_one_changes_nothing():
    up = aligned_crop(Field(), Field())
    assert up == Upsampling(1, 1, Fraction(0), 0)
    assert bilinear_kernel(up) == (1.0,)
