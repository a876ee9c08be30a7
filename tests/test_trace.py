"""Traced geometry is correct: the field of a cell covers exactly the pixels with a gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torch.nn import functional

from fullconv.geometry import Layer
from fullconv.net.trace.layers import layers_of_module
from fullconv.net.trace.nodes import Node, trace
from fullconv.net.trace.tracer import trace_fx
from refusals import matches, refuses

torch.set_num_threads(1)

SIZE = (161, 193)


class Forked(nn.Module):
    """Branches that differ in kernel, dilation and padding, then multiplied and concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, (3, 5), stride=(1, 2), padding="valid")
        self.wide = nn.Conv2d(2, 2, 3, padding="same", dilation=2)
        self.slim = nn.Conv2d(2, 2, (4, 1), padding="same")
        self.last = nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return torch.cat([self.wide(x), self.slim(x) * x], 1)


class Upward(Forked):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(super().forward(x))


NETWORKS = {
    "vgg11": lambda: torchvision.models.vgg11().features,
    "alexnet": lambda: torchvision.models.alexnet().features,
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(width_mult=0.25),
    "forked": Forked,
    "upward": Upward,
}


def make_positive(model: nn.Module) -> fx.GraphModule:
    """Trace the model with positive weights and mean for max pooling, so that every input in a field has a gradient."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            average = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            model.set_submodule(name, average)
        elif isinstance(module, nn.ReLU6):
            model.set_submodule(name, nn.ReLU())
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1 / parameter[0].numel() if parameter.dim() > 1 else 1)
    return trace_fx(model.double().eval())


class Recorder(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.maps: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Tensor:
        self.maps[n.name] = super().run_node(n)
        return self.maps[n.name]


def sample_maps(nodes: dict[str, Node]) -> list[Node]:
    """Return at most a dozen of the maps that are computed by a kernel or a function."""
    maps = [node for node in nodes.values() if node.geometry and (node.module is None or layers_of_module(node.module))]
    return maps[1 :: max(1, len(maps) // 12)]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", NETWORKS)
def test_fields_are_the_support_of_the_gradient(name):
    graph = make_positive(NETWORKS[name]())
    image = torch.ones(1, 3, *SIZE, dtype=torch.float64, requires_grad=True)
    recorder = Recorder(graph)
    recorder.run(image)
    nodes = trace(graph, SIZE)
    checked = inner = 0
    for node in sample_maps(nodes):
        out = recorder.maps[node.name]
        assert node.shape == out.shape[1:]
        assert tuple(tap.size(n) for tap, n in zip(node.geometry, SIZE, strict=True)) == node.shape[1:]
        cell = out.shape[2] // 2, out.shape[3] // 2
        (gradient,) = torch.autograd.grad(out[0, :, cell[0], cell[1]].sum(), image, retain_graph=True)
        support = gradient[0].sum(0) != 0
        for axis, (tap, at) in enumerate(zip(node.geometry, cell, strict=True)):
            pixels = support.any(1 - axis).nonzero().flatten().tolist()
            first, last = tap.field.first(at), tap.field.last(at)
            assert (pixels[0], pixels[-1]) == (max(0, first), min(SIZE[axis] - 1, last)), (node.name, axis)
            inner += first >= 0 and last < SIZE[axis]
            checked += 1
    assert checked >= 10
    assert inner >= 6


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_field_of_joined_branches_covers_both():
    last = trace(trace_fx(Forked()), SIZE)["cat"]
    vertical, horizontal = (tap.field for tap in last.geometry)
    assert (vertical.stride, vertical.receptive_field) == (1, 3 + 4)
    assert (horizontal.stride, horizontal.receptive_field) == (2, 5 + 2 * 4)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv2d(1, 1, (3, 5), (1, 2), (0, 1), (2, 1)), (Layer(3, 1, (0, 0), 2), Layer(5, 2, (1, 1)))),
        (nn.Conv2d(1, 1, 4, padding="same"), (Layer(4, 1, (1, 2)),) * 2),
        (nn.Conv2d(1, 1, 4, padding="valid"), (Layer(4),) * 2),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (Layer(3, 2, (1, 1), ceil_mode=True),) * 2),
        (nn.AvgPool2d((2, 3)), (Layer(2, 2), Layer(3, 3))),
        (nn.ConvTranspose2d(1, 1, 4, 3, 1, 2), (Layer(4, 3, (1, 1), transposed=True, output_padding=2),) * 2),
        (nn.ReLU(), None),
        (nn.Upsample(scale_factor=2), None),
    ],
)
def test_layers_of_torch_modules(module, expected):
    assert layers_of_module(module) == expected


class Gated(nn.Module):
    """Squeeze-and-excitation: every cell depends on the whole image."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(nn.functional.adaptive_avg_pool2d(x, 1))


def test_global_values_that_meet_a_map_are_context():
    nodes = list(trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), Gated())), (32, 32)).values())
    assert nodes[-1].geometry == nodes[1].geometry
    assert (nodes[1].info.context, nodes[-1].info.context) == (frozenset(), frozenset({"mul"}))


class Wrap(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (1, 1, 1, 1), mode="circular")


@pytest.mark.parametrize(
    "module", [nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), nn.CircularPad2d(1), Wrap()]
)
def test_circular_padding_is_context(module):
    """A tile has other cells at its opposite border than the whole image has."""
    *_, last = trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), module)), (32, 32)).values()
    assert last.geometry is not None
    assert last.info.context == {"pad" if isinstance(module, Wrap) else f"1 ({type(module).__name__})"}
    *_, last = trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3, padding_mode="circular"), nn.ZeroPad2d(1)))).values()
    assert last.info.context == frozenset()


@pytest.mark.parametrize(
    "module", [nn.Flatten(), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveMaxPool2d(4), nn.Flatten(2)]
)
def test_outputs_that_are_not_traceable_maps_have_no_geometry(module):
    nodes = list(trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), module)), (32, 32)).values())
    assert nodes[1].geometry is not None
    assert nodes[-1].geometry is None


class Apply(nn.Module):
    """Applies a function to the image and a parameter of 8 x 8 x 3 x 3."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.table = function, nn.Parameter(torch.zeros(8, 8, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.table)


@pytest.mark.parametrize(
    ("code", "function"),
    [
        ("unsupported-operation", lambda x, _: x.roll(1, 2)),
        ("map-sizes-differ", lambda x, _: x + functional.avg_pool2d(x, (12, 16))),
        ("map-sizes-differ", lambda x, _: torch.cat([x, functional.avg_pool2d(x, (2, 1))], 2)),
        ("map-as-parameter", lambda x, table: functional.conv2d(functional.pad(table, (20,) * 4), x)),
        ("rows-or-columns-misplaced", lambda x, _: functional.avg_pool2d(x.permute(0, 2, 3, 1), 2)),
        ("works-along-rows-or-columns", lambda x, _: x.softmax(2)),
        ("works-along-rows-or-columns", lambda x, _: torch.stack(x.unbind(3), 3)),
        ("works-along-rows-or-columns", lambda x, _: torch.cat([x, x], 2)),
        ("concatenates-non-map", lambda x, _: torch.cat([x, x.mean((2, 3), keepdim=True).expand(1, 8, 12, 16)], 1)),
        ("pools-one-axis", lambda x, _: x.mean(2)),
        ("fixed-positions", lambda x, _: x[:, :, :2]),
        ("fixed-positions", lambda x, _: x[:, :, 3]),
        ("norm-over-positions", lambda x, _: functional.layer_norm(x, x.shape[2:])),
        ("linear-on-map", lambda x, table: functional.linear(x, functional.pad(table[0, :, 0], (0, 13)))),
    ],
)
def test_operation_without_geometry_is_unsupported(code: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    graph = trace_fx(nn.Sequential(nn.Conv2d(3, 8, 3), Apply(function)), (14, 18))
    last = list(trace(graph, (14, 18)).values())[-1].info
    assert (last.kind, last.code) == ("unsupported", code)
    assert matches(code, last.reason), last.reason


def test_image_below_the_smallest_size_is_refused_in_one_line():
    with refuses("network-does-not-run", "4x4 image", "too small") as refusal:
        trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), nn.MaxPool2d(3))), (4, 4))
    assert "\n" not in refusal.message


def test_tracing_changes_neither_modes_nor_weights():
    graph = trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout()))
    graph.train()
    graph.get_submodule("1").eval()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    trace(graph, (8, 8))
    assert graph.training
    assert graph.get_submodule("2").training
    assert not graph.get_submodule("1").training
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())


def test_forward_that_branches_on_data_is_refused():
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with refuses("cannot-trace", "Branching", "must not branch on data"):
        trace_fx(Branching())


class Masked(nn.Module):
    """Takes an optional mask."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x if mask is None else x * mask.view(1, 1, 1, -1)


class Creating(nn.Module):
    """Creates a tensor from the sizes of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(x.shape[2], x.shape[3])


class Writing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x[:, :1] = 0
        return x


def test_optional_arguments_get_their_defaults():
    graph = trace_fx(Masked(), (5, 6))
    assert torch.equal(graph(image := torch.rand(1, 3, 5, 6)), image)
    assert trace(graph, (7, 8))


@pytest.mark.parametrize(("model", "cause"), [(Creating(), "creates tensors"), (Writing(), "writes into parts")])
def test_forward_that_tracing_does_not_support_is_explained(model, cause):
    with refuses("cannot-trace", f"its forward {cause}"):
        trace_fx(model, (5, 6))
