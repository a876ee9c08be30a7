"""Dilation equals shift-and-stitch, with the weights unchanged."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fullconv.geometry import Layer
from fullconv.net.classifiers.backbones import input_size
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.fcn.network import FCN, build, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.network import inspect_fcn
from fullconv.net.surgery.convolutionalize import Surgery, convolutionalize, transplant
from fullconv.net.surgery.dilate import DilatedAvgPool2d, dilate
from fullconv.training.ladder import plan_rungs
from nets import CLASSIFIERS, narrow_vgg16
from refusals import refuses


def strides(dense: Surgery) -> tuple[int, int]:
    """Return the strides of the last map."""
    geometry = list(dense.nodes.values())[-1].geometry
    assert geometry is not None
    return int(geometry.vertical.field.stride), int(geometry.horizontal.field.stride)


def run(dense: Surgery, image: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = dense.module(image)
    return logits


def shift_and_stitch(coarse: Surgery, image: Tensor, step: tuple[int, int]) -> Tensor:
    """Return the output of the coarse network on every shift by `step` pixels, interlaced."""
    factors = [old // new for old, new in zip(strides(coarse), step, strict=True)]
    shifts = [(a, b) for a in range(factors[0]) for b in range(factors[1])]
    maps = {(a, b): run(coarse, image[:, :, a * step[0] :, b * step[1] :]) for a, b in shifts}
    height = sum(maps[a, 0].shape[2] for a in range(factors[0]))
    width = sum(maps[0, b].shape[3] for b in range(factors[1]))
    stitched = maps[0, 0].new_full((*maps[0, 0].shape[:2], height, width), torch.nan)
    for (a, b), part in maps.items():
        stitched[:, :, a :: factors[0], b :: factors[1]] = part
    return stitched


class Residual(nn.Module):
    """Two branches that lose the same cells, one strided in two steps and one in one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(channels, 3, 1, 2), nn.MaxPool2d(2, 2)
        self.other = nn.Conv2d(channels, 3, 3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.two(self.one(x)) + self.other(x))


@st.composite
def unpadded(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, int]]:
    """Draw a classifier without padding, and an image size for it."""
    modules: list[nn.Module] = []
    layers: list[Layer] = []
    channels = 2
    branches = draw(st.booleans())
    for _ in range(1 if branches else draw(st.integers(1, 3))):
        kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        stride = draw(st.sampled_from([(1, 2), (2, 1), (2, 2), (3, 2), (1, 3)]))
        kind = draw(st.sampled_from(["conv", "max", "mean"]))
        if kind == "conv":
            modules += [nn.Conv2d(channels, 3, kernel, stride, dilation=dilation), nn.BatchNorm2d(3), nn.ReLU()]
            channels = 3
        else:
            modules.append(
                nn.MaxPool2d(kernel, stride, dilation=dilation) if kind == "max" else nn.AvgPool2d(kernel, stride)
            )
        layers.append(Layer(kernel, max(stride), dilation=1 if kind == "mean" else dilation))
    if branches:
        modules.append(Residual(channels))
        channels = 3
        layers.append(Layer(3, 4))
    size = 2
    for layer in reversed(layers):
        size = layer.input_size(size)
    if draw(st.booleans()):
        modules.append(nn.AdaptiveAvgPool2d(1))
    body = nn.Sequential(*modules)
    with torch.no_grad():
        cells = body.eval()(torch.zeros(1, 2, size, size)).flatten().numel()
    net = nn.Sequential(*modules, nn.Flatten(), nn.Linear(cells, 4), nn.ReLU(), nn.Linear(4, 2))
    return net.double().eval(), (size, size)


@given(unpadded(), st.integers(1, 9), st.tuples(st.integers(0, 9), st.integers(0, 9)))
@settings(max_examples=40)
def test_dilation_equals_shift_and_stitch(
    drawn: tuple[nn.Module, tuple[int, int]], stride: int, more: tuple[int, int]
) -> None:
    model, size = drawn
    coarse = convolutionalize(model, size, channels=2)
    fine = dilate(coarse, stride)
    assert all(new <= max(1, stride) for new in strides(fine))
    room = [n + old + extra for n, old, extra in zip(size, strides(coarse), more, strict=True)]
    image = torch.randn(1, 2, *room, dtype=torch.float64)
    torch.testing.assert_close(run(fine, image), shift_and_stitch(coarse, image, strides(fine)))


@pytest.mark.parametrize("stride", [8, 16])
def test_dilated_digit_classifier_equals_shift_and_stitch(stride: int) -> None:
    torch.manual_seed(0)
    coarse = convolutionalize(digit_net().double().eval(), input_size("digits"))
    fine = dilate(coarse, stride)
    assert strides(fine) == (stride, stride)
    image = torch.rand(1, 3, 94 + 40, 94 + 77, dtype=torch.float64)
    logits = run(fine, image)
    assert logits.shape[2:] == (40 // stride + 1, 77 // stride + 1)
    torch.testing.assert_close(logits, shift_and_stitch(coarse, image, (stride, stride)))
    assert logits.flatten(2).std(-1).min() > 0


def test_dilated_alexnet_without_padding_equals_shift_and_stitch() -> None:
    torch.manual_seed(0)
    model = CLASSIFIERS["alexnet"]()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = (0, 0)
    features = nn.Sequential(model.features, nn.Flatten(), nn.Linear(256, 2)).double().eval()
    coarse = convolutionalize(features, (195, 195))
    fine = dilate(coarse, 8)
    assert (strides(coarse), strides(fine)) == ((32, 32), (8, 8))
    image = torch.rand(1, 3, 195 + 50, 195 + 32, dtype=torch.float64)
    torch.testing.assert_close(run(fine, image), shift_and_stitch(coarse, image, (8, 8)))


@pytest.mark.parametrize(
    ("name", "stride"), [("vgg16", 4), ("alexnet", 8), ("resnet18", 8), ("resnet18", 16), ("mobilenet_v2", 8)]
)
def test_dilated_network_equals_the_coarse_one_on_its_cells(name: str, stride: int) -> None:
    torch.manual_seed(0)
    coarse = convolutionalize(CLASSIFIERS[name]().double().eval(), input_size(name))
    before = {key: value.clone() for key, value in coarse.module.state_dict().items()}
    fine = dilate(coarse, stride)
    image = torch.randn(1, 3, input_size(name)[0] + 45, input_size(name)[1] + 20, dtype=torch.float64)
    dilated, expected = run(fine, image), run(coarse, image)
    assert strides(fine) == (stride, stride)
    factor = 32 // stride
    torch.testing.assert_close(dilated[:, :, ::factor, ::factor], expected)
    assert not torch.equal(dilated[:, :, ::factor, ::factor], dilated[:, :, 1::factor, 1::factor][:, :, :1, :1])
    assert list(fine.module.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in coarse.module.state_dict().items())
    assert all(a is b for a, b in zip(fine.module.parameters(), coarse.module.parameters(), strict=True))
    assert strides(coarse) == (32, 32)


def test_dilation_to_none_or_to_the_present_stride_changes_nothing() -> None:
    coarse = convolutionalize(CLASSIFIERS["alexnet"]())
    assert dilate(coarse, None) is coarse
    same = dilate(coarse, 32)
    assert [module for module in same.module.modules() if getattr(module, "dilation", 1) not in (1, (1, 1))] == []
    assert {name: node.geometry for name, node in same.nodes.items()} == {
        n: v.geometry for n, v in coarse.nodes.items()
    }


def test_dilation_keeps_modes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3, 2), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 2), nn.Flatten(), nn.Linear(2, 2))
    model.train()
    model[1].eval()
    fine = dilate(convolutionalize(model, (5, 5)), 1).module
    assert {name: module.training for name, module in fine.named_modules() if name} == {
        "0": True, "1": False, "2": True, "4": True,
    }  # fmt: skip


def test_dilated_mean_pooling_is_the_mean_of_its_cells() -> None:
    cells = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    pooled = DilatedAvgPool2d((2, 3), (1, 1), (0, 0), (3, 2))(cells)
    assert pooled.shape == (2, 3, 6, 7)
    torch.testing.assert_close(pooled[:, :, 1, 2], cells[:, :, [1, 4]][..., [2, 4, 6]].mean((2, 3)))


class Functional(nn.Module):
    """Halves its map by a function, or by a convolution and then pads by a function."""

    def __init__(self, pads: int = 0) -> None:
        super().__init__()
        self.conv, self.last, self.pads = nn.Conv2d(3, 3, 1, 2), nn.Linear(3, 2), pads

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) if self.pads else functional.max_pool2d(x, 2)
        x = functional.pad(x, (self.pads,) * 4) if self.pads else x
        return self.last(x.mean((2, 3)))


class Shared(nn.Module):
    """One convolution at two strides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 1, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(self.conv(x)).flatten(1))


class Joined(nn.Module):
    """Two branches of stride 6, one by 2 and 3, the other by 3 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 3, 1, 2), nn.Conv2d(3, 3, 1, 3))
        self.other = nn.Sequential(nn.Conv2d(3, 3, 1, 3), nn.Conv2d(3, 3, 1, 2))
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.one(x) + self.other(x)).mean((2, 3)))


def test_branches_that_would_differ_in_stride_are_refused() -> None:
    with refuses("branches-differ-in-stride", "add", "stride 3"):
        dilate(convolutionalize(Joined(), (12, 12)), 3)


def sequence(*modules: nn.Module, inputs: int) -> nn.Sequential:
    """Return a convolution of stride 2, these modules, and a linear layer on the flattened map."""
    return nn.Sequential(nn.Conv2d(3, 2, 1, 2), *modules, nn.Flatten(), nn.Linear(inputs, 2))


UNSHUFFLE = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 2, 1), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize(
    ("body", "size", "why"),
    [
        (Shared(), 4, "conv has no dilated form: it is used at several strides"),
        (Functional(), 4, "max_pool2d has no dilated form, which stride 1 needs"),
        (Functional(1), 4, "pad has no dilated form, which stride 1 needs"),
        (UNSHUFFLE, 4, "0 (PixelUnshuffle) has no dilated form"),
        (sequence(nn.Conv2d(2, 2, 4, padding="same"), inputs=32), 8, "pads its two sides by different amounts"),
        (sequence(nn.ConvTranspose2d(2, 2, 2, 2), inputs=128), 8, "transposed convolution after a dropped stride"),
        (sequence(nn.AvgPool2d(2, ceil_mode=True), inputs=8), 8, "rounds its size up"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_layer_without_dilated_form_is_refused(body: nn.Module, size: int, why: str) -> None:
    with refuses("no-dilated-form", why):
        dilate(convolutionalize(body, (size, size)), 1)


def make(spec: NetSpec) -> FCN:
    torch.manual_seed(0)
    if spec.model == "vgg16":
        return FCN(dilate(convolutionalize(narrow_vgg16()), spec.dilate), spec)
    return rebuild(spec)


@pytest.mark.parametrize(
    ("model", "stride", "dilated", "strides_of_maps"),
    [
        ("vgg16", 8, 8, [8]),
        ("vgg16", 4, 8, [8, 4]),
        ("digits", 8, 16, [16, 8]),
        ("resnet18", 8, 8, [8]),
        ("mobilenet_v2", 4, 16, [16, 8, 4]),
    ],
)
def test_dilated_skip_network_takes_any_size_and_a_tile_equals_the_image(
    model: str, stride: int, dilated: int, strides_of_maps: list[int]
) -> None:
    net = make(NetSpec(model, 2, stride, dilate=dilated)).double().eval()
    assert [int(tap.field.stride) for tap in net.geometry[0].taps] == strides_of_maps
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    with torch.no_grad():
        for size in ((1, 1), (37, 90)):
            assert net(torch.rand(1, 3, *size, dtype=torch.float64)).shape == (1, 2, *size)
        step, (before, after) = net.geometry[1].field.advance, net.geometry[1].field.halo
        start = -(-before // step) * step
        inside = slice(start + step, start + 2 * step + 5)
        whole = torch.rand(1, 3, 33, inside.stop + after + 20, dtype=torch.float64)
        tile = whole[..., step : inside.stop + after]
        tiled, expected = net(tile)[..., inside.start - step : inside.stop - step], net(whole)[..., inside]
    torch.testing.assert_close(tiled, expected)
    assert expected.std(-1).min() > 0


@pytest.mark.parametrize("model", ["vgg16", "digits", "resnet18"])
def test_dilated_network_with_the_weights_of_the_coarse_one_has_equal_features(model: str) -> None:
    coarse = make(NetSpec(model, 2, 32)).double().eval()
    fine = copy.deepcopy(make(NetSpec(model, 2, 8, dilate=8))).double().eval()
    copied, others = transplant(coarse, fine)
    assert others == []
    assert "score_fr.weight" in copied
    image = torch.rand(1, 3, 150, 203, dtype=torch.float64)
    with torch.no_grad():
        dilated, expected = (net.head(net.backbone(image)[-1]) for net in (fine, coarse))
    torch.testing.assert_close(dilated[:, :, ::4, ::4], expected)


def test_dilation_shows_in_the_name_and_in_the_rows_of_inspect() -> None:
    with torch.device("meta"):
        net = build(NetSpec("resnet18", 3, 8, dilate=8))
    assert net.spec.name == "FCN-8s-dilated-8"
    assert replace(net.spec, fixed=True).name == "FCN-8s-dilated-8-fixed"
    rows = {row.name: row for row in inspect_fcn(net.spec).rows}
    assert {row.stride for name, row in rows.items() if "layer4" in name} == {(8, 8)}
    with torch.device("meta"):
        coarse = inspect_fcn(NetSpec("resnet18", 3, 32))
    assert rows["score_fr"].receptive_field == {row.name: row for row in coarse.rows}["score_fr"].receptive_field


@pytest.mark.parametrize(
    ("at", "rungs"),
    [
        (None, [(32, True), (32, False), (16, False), (8, False)]),
        (16, [(16, True), (16, False), (8, False)]),
        (8, [(8, True), (8, False)]),
        (4, [(4, True), (4, False)]),
    ],
)
def test_dilated_ladder_starts_at_the_stride_of_its_maps(at: int | None, rungs: list[tuple[int, bool]]) -> None:
    assert plan_rungs(at) == rungs


def test_invalid_strides_are_refused() -> None:
    with refuses("invalid-dilated-stride", "stride 0"):
        dilate(convolutionalize(digit_net(), input_size("digits")), 0)
    with refuses("no-map-at-stride", "FCN-32s", "is at stride 8"):
        build(NetSpec("digits", 2, 32, dilate=8))
