"""Convolutionalized classifiers: every cell of the dense network equals the classifier on its crop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fullconv.geometry import Field, Layer, Tap
from fullconv.net.classifiers.backbones import input_size
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.surgery.convolutionalize import Surgery, convolutionalize, transplant
from fullconv.net.surgery.linear_as_conv import MAX_MATMUL_CELLS, LinearAsConv
from fullconv.net.trace.values import FeatureGeometry
from nets import CLASSIFIERS, narrow_vgg16
from refusals import refuses


def output_geometry(dense: Surgery) -> FeatureGeometry:
    geometry = list(dense.nodes.values())[-1].geometry
    assert geometry is not None
    return geometry


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_dense_network_has_the_logits_and_names_of_the_classifier(name):
    torch.manual_seed(0)
    model = CLASSIFIERS[name]().double().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    dense = convolutionalize(model, input_size(name))
    image = torch.randn(1, 3, *input_size(name), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(dense.module(image)[:, :, 0, 0], model(image))
    assert list(dense.module.state_dict()) == list(before) == list(model.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(value.flatten().equal(before[key].flatten()) for key, value in dense.module.state_dict().items())
    assert dense.linears
    assert all(isinstance(model.get_submodule(linear), nn.Linear) for linear in dense.linears)


@pytest.mark.parametrize(
    ("name", "features", "linears"),
    [
        ("vgg16", "features_30", ("classifier.0", "classifier.3", "classifier.6")),
        ("resnet18", "layer4_1_relu_1", ("fc",)),
        ("mobilenet_v2", "features_18_2", ("classifier.1",)),
        ("digits", None, ("classifier.0", "classifier.3", "classifier.6")),
    ],
)
def test_report_accounts_for_every_parameter(name, features, linears):
    model = CLASSIFIERS[name]()
    dense = convolutionalize(model, input_size(name))
    assert dense.linears == linears
    assert features in (None, dense.features)
    coerced = {entry.split(":")[0] for entry in dense.coerced}
    assert set(linears) <= coerced
    assert not coerced & set(dense.copied)
    owners = {key.rpartition(".")[0] for key in model.state_dict()}
    assert owners == set(dense.copied) | set(linears)
    assert len(dense.dropped) == {"vgg16": 2}.get(name, 1)


@st.composite
def valid_classifiers(draw) -> tuple[nn.Module, tuple[int, int]]:
    """Draw a classifier without padding, and an image size that may leave a remainder in every layer."""
    modules: list[nn.Module] = []
    tap, channels = Tap(), 2
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        kind = draw(st.sampled_from(["conv", "max", "average"]))
        if kind == "conv":
            modules += [nn.Conv2d(channels, 3, kernel, stride, dilation=dilation), nn.BatchNorm2d(3), nn.ReLU()]
            channels = 3
        elif kind == "max":
            modules.append(nn.MaxPool2d(kernel, stride, dilation=dilation))
        else:
            modules.append(nn.AvgPool2d(kernel, stride))
            dilation = 1
        tap = tap.after(Layer(kernel, stride, dilation=dilation))
    cells = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    size = [tap.input_size(n) + draw(st.integers(0, 3)) for n in cells]
    cells = [tap.size(n) for n in size]
    pool = draw(st.sampled_from(["none", "global", "own", "half"]))
    if pool != "none":
        by_kind = {"global": 1, "own": cells, "half": [n // 2 if n % 2 == 0 else n for n in cells]}
        pooled = by_kind[pool]
        modules.append(nn.AdaptiveAvgPool2d(pooled))
        cells = [1, 1] if pool == "global" else pooled
    modules += [nn.Flatten(), nn.Linear(channels * cells[0] * cells[1], 4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 3)]
    return nn.Sequential(*modules).double().eval(), (size[0], size[1])


@given(valid_classifiers(), st.tuples(st.integers(0, 12), st.integers(0, 12)))
@settings(max_examples=80)
def test_each_dense_cell_equals_the_classifier_on_its_crop(classifier, larger):
    model, (height, width) = classifier
    dense = convolutionalize(model, (height, width), channels=2)
    image = torch.randn(1, 2, height + larger[0], width + larger[1], dtype=torch.float64)
    vertical, horizontal = (tap.field for tap in output_geometry(dense))
    with torch.no_grad():
        logits = dense.module(image)
        assert logits.shape[2:] == tuple(
            tap.size(n) for tap, n in zip(output_geometry(dense), image.shape[2:], strict=True)
        )
        checked = 0
        for i in range(logits.shape[2]):
            for j in range(logits.shape[3]):
                crop = image[:, :, vertical.first(i) :, horizontal.first(j) :][:, :, :height, :width]
                if crop.shape[2:] == (height, width):
                    torch.testing.assert_close(logits[:, :, i, j], model(crop))
                    checked += 1
    steps = [int(extra / field.stride) + 1 for extra, field in zip(larger, (vertical, horizontal), strict=True)]
    assert checked == steps[0] * steps[1]


def test_dense_digit_classifier_equals_the_classifier_on_every_window():
    torch.manual_seed(0)
    model = digit_net().double().eval()
    dense = convolutionalize(model, input_size("digits"))
    field = output_geometry(dense)[0].field
    height, width = input_size("digits")
    assert (field.stride, field.first(0), field.receptive_field) == (32, 0, height)
    image = torch.rand(1, 3, height + 40, width + 64, dtype=torch.float64)
    with torch.no_grad():
        logits = dense.module(image)
        crops = torch.cat([image[:, :, :height, x : x + width] for x in (0, 32, 64)])
        if logits.shape[2] == 2:
            crops = torch.cat([crops, *(image[:, :, 32 : 32 + height, x : x + width] for x in (0, 32, 64))])
        torch.testing.assert_close(logits[0].flatten(1).T, model(crops))


class Classifier(nn.Module):
    """A convolution and a linear layer, joined by `flatten`."""

    def __init__(self, flatten) -> None:
        super().__init__()
        self.features, self.last, self.flatten = nn.Conv2d(3, 2, 3), nn.Linear(2 * 4 * 5, 3), flatten

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.flatten(self.features(x)))


@pytest.mark.parametrize(
    "flatten",
    [
        nn.Flatten(),
        lambda x: torch.flatten(x, 1),
        lambda x: x.flatten(1),
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(x.shape[0], -1),
        lambda x: x.reshape(-1, 40),
        lambda x: functional.relu(functional.adaptive_avg_pool2d(x, (4, 5)).flatten(1)),
    ],
)
def test_every_way_to_flatten_converts(flatten):
    model = Classifier(flatten)
    dense = convolutionalize(model, (6, 7)).module
    image = torch.randn(2, 3, 6, 7)
    torch.testing.assert_close(dense(image)[:, :, 0, 0], model(image))
    assert dense(torch.zeros(1, 3, 8, 10)).shape == (1, 3, 3, 4)


def test_modes_frozen_weights_and_missing_biases_stay():
    parts = [
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(16, 3, bias=False),
        nn.Dropout(),
        nn.Linear(3, 2),
    ]
    model = nn.Sequential(*parts).train()
    model[1].eval()
    model[4].eval()
    model[3].weight.requires_grad_(False)
    dense = convolutionalize(model, (4, 4)).module
    modes = {name: module.training for name, module in dense.named_modules() if name}
    assert modes == {"0": True, "1": False, "3": True, "4": False, "5": True}
    assert [name for name, parameter in dense.named_parameters() if not parameter.requires_grad] == ["3.weight"]
    assert dense.get_submodule("3").bias is None
    assert convolutionalize(model.eval(), (4, 4)).module.training is False


def test_dense_network_shares_no_memory_with_the_classifier():
    model = Classifier(nn.Flatten())
    dense = convolutionalize(model, (6, 7)).module
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.add_(1)
    assert all(
        not torch.equal(copy.flatten(), original.flatten())
        for copy, original in zip(dense.parameters(), model.parameters(), strict=True)
    )


def test_network_on_the_meta_device_converts():
    with torch.device("meta"):
        dense = convolutionalize(CLASSIFIERS["resnet18"]())
    assert {value.device.type for value in dense.module.state_dict().values()} == {"meta"}


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


def on_map(*modules: nn.Module) -> nn.Module:
    """Return modules after a convolution that makes 2 x 9 x 9 cells of 11 x 11 pixels."""
    return nn.Sequential(nn.Conv2d(3, 2, 3), *modules)


def on_vector(*modules: nn.Module) -> nn.Module:
    """Return modules after a linear layer to 4 numbers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 121, 4), *modules)


class Head(nn.Module):
    """A convolution to 2 x 9 x 9 cells, then a function of them and of a linear layer to 2 numbers."""

    def __init__(self, inputs: int, function) -> None:
        super().__init__()
        self.features, self.last, self.function = nn.Conv2d(3, 2, 3), nn.Linear(inputs, 2), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.features(x), self.last)


def interleave(x: Tensor) -> Tensor:
    return torch.cat([x[:, :, None, None], x[:, :, None, None]], 2).flatten(1)


def gate(x: Tensor, fc: nn.Module) -> Tensor:
    return fc(x.mean((2, 3)))[:, :, None, None]


@pytest.mark.parametrize(
    ("code", "value", "model"),
    [
        ("no-linear-layer", "Sequential", on_map()),
        ("no-linear-layer", "it returns N x 2 x 4", on_map(nn.Flatten(2), nn.Linear(81, 4))),
        ("no-linear-layer", "Sequential", on_map(nn.Flatten())),
        ("cannot-trace", "must not branch on data", on_map(Branching())),
        (
            "unequal-windows",
            "1 (AdaptiveAvgPool2d) pools [9, 9] cells to [4, 4]",
            on_map(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32, 4)),
        ),
        ("unequal-windows", "[9, 9]", on_map(nn.AdaptiveMaxPool2d(4), nn.Flatten(), nn.Linear(32, 4))),
        ("linear-on-map", "1 (Linear)", on_map(nn.Linear(9, 4), nn.Flatten(), nn.Linear(72, 2))),
        (
            "unsupported-head",
            "positions of a flattened map",
            on_map(nn.Flatten(2), nn.Linear(81, 4), nn.Flatten(), nn.Linear(8, 2)),
        ),
        (
            "unsupported-head",
            "2 (BatchNorm1d) works on a flattened map",
            on_map(nn.Flatten(), nn.BatchNorm1d(162), nn.Linear(162, 2)),
        ),
        (
            "unsupported-head",
            "2 (layer norm) works on a flattened map",
            on_map(nn.Flatten(), nn.LayerNorm(162), nn.Linear(162, 2)),
        ),
        ("unsupported-head", "cannot be applied", on_vector(nn.LogSoftmax(-1), nn.ReLU())),
        ("unsupported-head", "reshapes to (2, 81)", Head(81, lambda x, fc: fc(x.flatten(1).view(-1, 2, 81)).sum(1))),
        (
            "unsupported-head",
            "its own weights",
            Head(2, lambda x, fc: functional.linear(x.mean((2, 3)), fc.weight * 2)),
        ),
        *(
            ("unsupported-head", f"{function} does not return a vector", Head(2, forward))
            for function, forward in {
                "squeeze": lambda x, fc: fc(x.mean((2, 3), keepdim=True).squeeze()),
                "flatten": lambda x, fc: fc(x.mean((2, 3)).flatten()),
                "getitem": lambda x, fc: fc(x.mean((2, 3)))[:, 0],
            }.items()
        ),
        ("unsupported-head", "cat cannot be applied", Head(2, lambda x, fc: fc(interleave(x.mean((2, 3)))[:, :2]))),
        ("unsupported-head", "mul combines", Head(162, lambda x, fc: fc(x.flatten(1) * fc.weight[0]))),
        ("unsupported-head", "mul combines", Head(162, lambda x, fc: fc(x.flatten(1) * fc.weight[0][None]))),
        ("unsupported-head", "last is used inside", Head(2, lambda x, fc: fc((x * gate(x, fc)).mean((2, 3))))),
        ("network-does-not-run", "11x11 image", on_vector(nn.Linear(5, 2))),
        ("network-does-not-run", "11x11 image", on_map(nn.Conv2d(2, 2, 12), nn.Flatten(), nn.Linear(2, 2))),
        ("fixed-image-size", "11x11", Head(2, lambda x, fc: fc((x.view(-1, 2, 9, 9) * 2).mean((2, 3))))),
    ],
)
def test_classifier_that_cannot_be_dense_is_refused_in_one_line(code, value, model):
    with refuses(code, value) as refusal:
        convolutionalize(model, (11, 11))
    assert "\n" not in refusal.message


def test_transplant_copies_by_name_and_shape():
    torch.manual_seed(0)
    source, target = narrow_vgg16(hidden=8), narrow_vgg16(hidden=12)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    copied, others = transplant(source, target)
    assert set(copied) | set(others) == set(before)
    assert set(others) == {
        f"classifier.{i}.{part}" for i, part in [(0, "weight"), (0, "bias"), (3, "weight"), (3, "bias"), (6, "weight")]
    }
    state, copies = target.state_dict(), source.state_dict()
    assert all(torch.equal(state[name], copies[name]) for name in copied)
    assert all(torch.equal(state[name], before[name]) for name in others)


def test_dense_vgg16_has_the_receptive_field_of_the_paper():
    field = output_geometry(convolutionalize(narrow_vgg16()))[0].field
    assert (field.stride, field.receptive_field) == (32, 404)
    assert field != Field()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(6, 7), (5, 4), (40, 60)])
def test_linear_as_conv_equals_a_convolution_on_few_and_many_cells(layout, size):
    torch.manual_seed(0)
    layer = LinearAsConv(3, 5, (5, 4)).to(memory_format=layout)
    image = torch.randn(2, 3, *size, requires_grad=True)
    assert (2 * (size[0] - 4) * (size[1] - 3) <= MAX_MATMUL_CELLS) == (size[0] < 40)
    plain = functional.conv2d(image, layer.weight, layer.bias)
    torch.testing.assert_close(layer(image), plain)
    gradients = torch.autograd.grad(layer(image).square().sum(), (image, layer.weight, layer.bias))
    torch.testing.assert_close(gradients, torch.autograd.grad(plain.square().sum(), (image, layer.weight, layer.bias)))
