"""The field of a node is where the gradient of one of its cells is not zero, in networks of many kinds."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.geometry import Layer
from fullconv.net.nodes import Node, layers_of, trace, trace_fx

torch.set_num_threads(1)

SIZE = (161, 193)


class Forked(nn.Module):
    """Branches that differ in kernel, dilation and padding, then concatenated and multiplied."""

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


def positive(model: nn.Module) -> fx.GraphModule:
    """With weights above zero and average for max pooling, every input that counts has a gradient."""
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


def interesting(nodes: dict[str, Node]) -> list[Node]:
    """Maps at which something happens, and no more than a dozen."""
    found = [node for node in nodes.values() if node.taps and (node.module is None or layers_of(node.module))]
    return found[1 :: max(1, len(found) // 12)]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", NETWORKS)
def test_fields_are_the_support_of_the_gradient(name):
    graph = positive(NETWORKS[name]())
    image = torch.ones(1, 3, *SIZE, dtype=torch.float64, requires_grad=True)
    recorder = Recorder(graph)
    recorder.run(image)
    nodes = trace(graph, SIZE)
    checked = inner = 0
    for node in interesting(nodes):
        out = recorder.maps[node.name]
        assert node.shape == out.shape[1:]
        assert tuple(tap.size(n) for tap, n in zip(node.taps, SIZE, strict=True)) == node.shape[1:]
        cell = out.shape[2] // 2, out.shape[3] // 2
        (gradient,) = torch.autograd.grad(out[0, :, cell[0], cell[1]].sum(), image, retain_graph=True)
        support = gradient[0].sum(0) != 0
        for axis, (tap, at) in enumerate(zip(node.taps, cell, strict=True)):
            seen = support.any(1 - axis).nonzero().flatten().tolist()
            first, last = tap.field.first(at), tap.field.last(at)
            assert (seen[0], seen[-1]) == (max(0, first), min(SIZE[axis] - 1, last)), (node.name, axis)
            inner += first >= 0 and last < SIZE[axis]
            checked += 1
    assert checked >= 10
    assert inner >= 6


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_branches_join_to_the_hull():
    last = trace(trace_fx(Forked()), SIZE)["cat"]
    vertical, horizontal = (tap.field for tap in last.taps)
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
def test_layers_of_modules(module, expected):
    assert layers_of(module) == expected


class Gated(nn.Module):
    """Squeeze-and-excitation: every cell depends on the whole image."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(nn.functional.adaptive_avg_pool2d(x, 1))


def test_pooled_values_that_come_back_are_global_context():
    nodes = list(trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), Gated())), (32, 32)).values())
    assert nodes[-1].taps == nodes[1].taps
    assert (nodes[1].seen.context, nodes[-1].seen.context) == (frozenset(), frozenset({"mul"}))


@pytest.mark.parametrize(
    "module", [nn.Flatten(), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveMaxPool2d(4), nn.Flatten(2)]
)
def test_what_cannot_be_followed_has_no_geometry(module):
    nodes = list(trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), module)), (32, 32)).values())
    assert nodes[1].taps is not None
    assert nodes[-1].taps is None


def test_an_image_that_is_too_small_is_refused_in_one_line():
    with pytest.raises(ModelError, match=r"does not run on a 4x4 image: .*too small"):
        trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), nn.MaxPool2d(3))), (4, 4))


def test_tracing_leaves_modes_and_numbers_alone():
    graph = trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout()))
    graph.train()
    graph.get_submodule("1").eval()
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    trace(graph, (8, 8))
    assert graph.training
    assert graph.get_submodule("2").training
    assert not graph.get_submodule("1").training
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())


def test_a_forward_that_branches_on_data_is_refused():
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match=r"Branching cannot be trace_fx .* must not branch on data"):
        trace_fx(Branching())


class Masked(nn.Module):
    """Takes a mask that nobody need give."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x if mask is None else x * mask.view(1, 1, 1, -1)


class Placed(nn.Module):
    """Makes a tensor of its own with sizes that it counts."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(x.shape[2], x.shape[3])


class Written(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x[:, :1] = 0
        return x


def test_arguments_that_nobody_gives_have_their_defaults():
    graph = trace_fx(Masked(), (5, 6))
    assert torch.equal(graph(image := torch.rand(1, 3, 5, 6)), image)
    assert trace(graph, (7, 8))


@pytest.mark.parametrize(("model", "sentence"), [(Placed(), "tensors of its own"), (Written(), "writes into parts")])
def test_what_tracing_cannot_do_is_said_as_what_the_forward_does(model, sentence):
    with pytest.raises(ModelError, match=f"its forward (makes )?{sentence}"):
        trace_fx(model, (5, 6))
