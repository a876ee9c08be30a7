"""Classifiers of every kind convert to a dense network and an FCN: one small model for each mechanism in forwards."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fullconv.labels import LabelSet, voc_palette
from fullconv.net.classifiers.backbones import input_size
from fullconv.net.fcn.network import FCN
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.network import check_classifier
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.surgery.dense_check import check_dense
from fullconv.net.trace.nodes import geometry_of, trace
from fullconv.net.trace.tracer import trace_fx
from mechanisms import Attend, Dense, Drop, Gate, Last, Same, Shuffle, Stages, Standard, conv
from refusals import refuses

SIZE = (48, 64)
LABELS = LabelSet(("a", "b"), voc_palette(2))


BLOCKS = {
    "plain": (lambda: conv(8, 8, 1), "exact"),
    "standardized": (Standard, "exact"),
    "mode": (Drop, "exact"),
    "channels last": (Last, "padding"),
    "shuffle": (Shuffle, "padding"),
    "dense": (Dense, "padding"),
    "same": (Same, "padding"),
    "gate": (Gate, "global context"),
    "expanded gate": (lambda: Gate(expand=True), "global context"),
    "group norm": (lambda: nn.GroupNorm(2, 8), "global context"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_dense_cells_equal_the_classifier_as_fidelity_predicts_for_each_block(name):
    torch.manual_seed(0)
    block, fidelity = BLOCKS[name]
    model = Stages(block).eval()
    dense = convolutionalize(model, SIZE)
    check = check_dense(model, dense)
    assert dense.fidelity == check.fidelity == fidelity
    assert set(dense.module.state_dict()) == set(model.state_dict())
    assert (check.cells, check.stride) == (9, (32, 32))
    assert bool(check.differing) == (fidelity != "exact")
    assert check_dense(model, dense, SIZE).largest < 1e-9
    assert dense.geometry.vertical.field.stride == Fraction(32)


def test_dense_check_reports_which_cells_differ_and_by_how_much():
    torch.manual_seed(0)
    check = check_dense(model := Stages(Same).eval(), convolutionalize(model, SIZE), (48, 96))
    assert (check.size, check.cells) == ((48, 96), 2)
    assert check.differing == ((0, 0), (0, 1))
    assert 0 < check.largest < 1
    lines = check.lines()
    assert lines[1] == "0 of 2 cells of a 48x96 image equal the classifier"
    assert lines[2].startswith("cells that differ: (0, 0), (0, 1); by at most 0.")
    assert check.to_dict()["differing"] == [[0, 0], [0, 1]]


def pooled(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), *modules)


class Both(nn.Module):
    """Mean and maximum, channels first or last, then a linear layer with its parameters as a function."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.fc, self.last = nn.Linear(16, 4), last

    def forward(self, x: Tensor) -> Tensor:
        dims = (2, 3)
        if self.last:
            x, dims = x.permute(0, 2, 3, 1), (1, 2)
        x = torch.cat([x.mean(dims), x.amax(dims)], -1)
        return functional.linear(x, self.fc.weight, self.fc.bias)


class Pooled(nn.Module):
    """A map pooled to one cell as in users' code, then a linear layer and optionally a softmax."""

    def __init__(self, pool: Callable[[Tensor], Tensor], end: nn.Module | None = None) -> None:
        super().__init__()
        self.pool, self.fc, self.end = pool, nn.Linear(8, 4), end or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.fc(self.pool(x)))


class Scaled(nn.Module):
    """A head with vectors: a factor for each channel and a number for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)
        self.scale, self.prior = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x).squeeze(-1).squeeze(-1) * self.scale
        return self.fc(self.scale[None] + x) - self.prior.exp()


class Gated(Scaled):
    """The same after a gate with the same pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * torch.sigmoid(self.pool(x)))


HEADS = {
    "window of the shape": lambda: Pooled(lambda x: functional.avg_pool2d(x, x.shape[2:]).flatten(1)),
    "maximum of the size": lambda: Pooled(lambda x: functional.max_pool2d(x, x.size()[2:]).view(x.size(0), -1)),
    "mean of the positions": lambda: Pooled(lambda x: x.flatten(2).mean(-1)),
    "sum": lambda: Pooled(lambda x: x.sum((2, 3))),
    "softmax": lambda: Pooled(lambda x: x.mean((2, 3)), nn.Softmax(-1)),
    "log softmax": lambda: Pooled(lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1), nn.LogSoftmax(1)),
    "in place": lambda: pooled(nn.Flatten(), nn.Dropout(0.5, inplace=True), nn.Linear(8, 4)),
    "flat": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 4)),
    "max": lambda: nn.Sequential(nn.AdaptiveMaxPool2d((1, 2)), nn.Flatten(), nn.Linear(16, 4)),
    "convolution": lambda: nn.Sequential(nn.Dropout(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "pooled convolution": lambda: pooled(nn.Conv2d(8, 6, 1), nn.Hardswish(), nn.Flatten(), nn.Linear(6, 4)),
    "normed": lambda: pooled(nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)),
    "scaled": Scaled,
    "both": Both,
    "both, last": lambda: Both(last=True),
}


@pytest.mark.parametrize("name", HEADS)
def test_each_kind_of_head_converts_and_trains_as_fcn(name):
    torch.manual_seed(0)
    size = (32, 64)
    model = Stages(nn.Identity, HEADS[name]())
    for value in model.buffers():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5)
    dense = convolutionalize(model.eval(), size)
    assert dense.fidelity == "exact"
    assert not check_dense(model, dense).differing
    assert check_dense(model, dense).cells == 9
    net = FCN(dense, NetSpec("resnet18", 3, 8)).train()
    before = [value.clone() for value in net.parameters()]
    loss = functional.cross_entropy(net(torch.rand(2, 3, 65, 71)), torch.randint(0, 3, (2, 65, 71)))
    loss.backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
    assert net.eval()(torch.zeros(1, 3, 97, 131)).shape == (1, 3, 97, 131)


def test_pooling_shared_by_a_gate_and_the_head_stays_global_in_the_gate():
    model = Stages(nn.Identity, Gated()).eval()
    dense = convolutionalize(model, SIZE)
    assert dense.fidelity == "global context"
    assert check_dense(model, dense, SIZE).largest < 1e-9
    pools = [module for module in dense.module.modules() if isinstance(module, nn.AdaptiveAvgPool2d | nn.AvgPool2d)]
    assert [type(pool) for pool in pools] == [nn.AdaptiveAvgPool2d, nn.AvgPool2d]


def test_log_softmax_at_the_end_is_dropped():
    model = Stages(nn.Identity, HEADS["log softmax"]()).eval()
    dense = convolutionalize(model, (32, 64))
    assert dense.end == "log_softmax"
    assert any(entry.endswith("log_softmax of the logits") for entry in dense.dropped)
    image = torch.rand(1, 3, 32, 64)
    torch.testing.assert_close(dense.module(image).flatten(1).log_softmax(1), model(image))


def test_windows_of_unequal_size_are_refused_with_the_function_that_pools():
    model = Stages(nn.Identity, Pooled(lambda x: functional.adaptive_avg_pool2d(x, 5).flatten(1))).eval()
    model.head.fc = nn.Linear(8 * 25, 4)
    with refuses("unequal-windows", "adaptive_avg_pool2d", "[7, 7] cells to [5, 5]"):
        convolutionalize(model, (224, 224))


def test_dense_check_refuses_an_image_below_the_input_size():
    model = Stages(Same).eval()
    dense = convolutionalize(model, SIZE)
    with refuses("image-too-small", "40x64", "48x64"):
        check_dense(model, dense, (40, 64))


@pytest.mark.parametrize("name", ["convnext_tiny", "timm/test_resnet"])
def test_check_classifier_finds_differences_although_scales_start_near_zero(name):
    """Layer scales start at 1e-6 in ConvNeXt; in timm, the last norms of residual branches start at zero."""
    if name.startswith("timm"):
        pytest.importorskip("timm")
    size = tuple(n + 32 for n in input_size(name))
    check = check_classifier(name, size)
    assert check.fidelity == "padding"
    assert len(check.differing) == check.cells == 4


def test_module_that_reads_the_mode_follows_it_in_the_dense_network():
    dense = convolutionalize(Stages(Drop).eval(), SIZE).module
    image = torch.rand(1, 3, *SIZE)
    assert dense(image).std() > 0
    one, other = dense.train()(torch.rand(2, 3, *SIZE))[:, :, 0, 0]
    torch.testing.assert_close(one, other)


class Auxiliary(Stages):
    """A second head that only training uses."""

    def __init__(self) -> None:
        super().__init__(nn.Identity)
        self.aux = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return (out, self.aux(out)) if self.training else out


def test_auxiliary_head_for_training_is_dropped():
    model = Auxiliary().train()
    dense = convolutionalize(model, SIZE)
    assert "aux: not used in evaluation" in dense.dropped
    assert dense.module.training
    assert model.training
    assert not [key for key in dense.module.state_dict() if key.startswith("aux")]


class Upward(nn.Module):
    """A coarser branch is upsampled by nearest neighbor, as in HRNet; map sizes must be even."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = conv(8, 8, 2, 2), nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.down(x))


def test_network_that_upsamples_inside_pads_to_a_multiple():
    torch.manual_seed(0)
    model = Stages(Upward).eval()
    dense = convolutionalize(model, (64, 128))
    assert dense.multiple == 64
    assert dense.fidelity == "exact"
    check = check_dense(model, dense)
    assert [cell for cell in check.differing if cell[0] % 2 == cell[1] % 2 == 0] == []
    assert FCN(dense, NetSpec("resnet18", 3, 8)).eval()(torch.zeros(1, 3, 97, 131)).shape == (1, 3, 97, 131)


class Halves(nn.Module):
    """Branches with and without padding, whose sizes agree where the map's height and width are even."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = conv(8, 8, 2, 2), conv(8, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


def test_branches_whose_sizes_agree_by_chance_fix_a_multiple():
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    model = nn.Sequential(conv(3, 8, 4, 4), Halves(), conv(8, 8, 2, 2), *end)
    dense = convolutionalize(model.eval(), (72, 40))
    assert dense.multiple == 16
    net = FCN(dense, NetSpec("resnet18", 3, 8)).eval()
    assert [
        (sum(pads) + n - reference) % 16
        for pads, n, reference in zip(net.padding((97, 131)), (97, 131), (72, 40), strict=True)
    ] == [0, 0]
    assert net(torch.zeros(1, 3, 97, 131)).shape == (1, 3, 97, 131)


class AddedAttention(Attend):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def test_attention_added_to_a_map_is_global_context():
    model = Stages(AddedAttention).eval()
    dense = convolutionalize(model, (64, 96))
    assert dense.fidelity == "global context"
    image = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(dense.module(image).flatten(1), model(image))
    assert FCN(dense, NetSpec("resnet18", 3, 8)).eval()(torch.zeros(1, 3, 97, 131)).shape == (1, 3, 97, 131)


class Blocks(nn.Module):
    """Space to depth, as in TResNet's stem."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


class MaxSame(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(functional.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)


def test_space_to_depth_fixes_a_multiple_and_padding_is_not_used_as_skip():
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    model = nn.Sequential(Blocks(), conv(12, 8, 4, 4), MaxSame(), conv(8, 8, 1), *end).eval()
    dense = convolutionalize(model, (64, 64))
    assert dense.multiple == 16
    logits = FCN(dense, NetSpec("resnet18", 3, 8)).eval()(torch.zeros(1, 3, 97, 131))
    assert logits.shape == (1, 3, 97, 131)
    assert logits.isfinite().all()


class Crop(nn.Module):
    """Two shifted paths with stride 2, as in NASNet, and every second pixel, as in a focus stem."""

    def forward(self, x: Tensor) -> Tensor:
        shifted = functional.pad(x, (-1, 1, -1, 1))
        return torch.cat([functional.avg_pool2d(x, 1, 2), functional.avg_pool2d(shifted, 1, 2), x[..., ::2, 1::2]], 1)


def test_fields_after_crops_and_strided_slices_match_the_gradient():
    graph = trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), Crop()), (30, 30))
    node = list(trace(graph, (30, 30)).values())[-1]
    nn.init.ones_(graph.get_parameter("0.weight"))
    image = torch.rand(1, 3, 30, 30, requires_grad=True)
    out = graph(image)
    (gradient,) = torch.autograd.grad(out[0, :, 4, 5].sum(), image)
    for axis, cell in ((0, 4), (1, 5)):
        pixels = gradient[0, 0].abs().sum(1 - axis).nonzero().flatten()
        field = node.geometry[axis].field
        assert (int(pixels[0]), int(pixels[-1])) == (field.first(cell), field.last(cell))


class Heat(nn.Module):
    """Weighs each position by a softmax over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        return x * functional.softmax(x.flatten(2), -1).view_as(x)


class Positions(nn.Module):
    """Adds a table of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 8, 12, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table if x.shape[2] == 12 else x


@pytest.mark.parametrize(
    ("code", "block"),
    [
        ("attention", Attend),
        ("vector-as-map", Heat),
        ("position-table", Positions),
        ("unsupported-interpolation", lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
    ],
)
def test_block_without_geometry_is_refused(code, block):
    with refuses(code) as refusal:
        convolutionalize(Stages(block), SIZE)
    assert "\n" not in refusal.message


class Odd(nn.Module):
    """Doubles its map above a certain size only, unseen by the tracer because it reads the mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training or x.shape[2] <= 12 else functional.interpolate(x, scale_factor=2)


def test_map_size_that_geometry_does_not_predict_is_refused():
    model = nn.Sequential(conv(3, 8, 4, 4), Odd(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    with refuses("unexpected-map-size", "(26, 36) cells", "expected (13, 18)"):
        convolutionalize(model, SIZE)


def test_geometry_of_a_value_that_is_not_a_map_is_refused():
    nodes = trace(trace_fx(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), (6, 6)), (6, 6))
    with refuses("unknown-geometry", list(nodes)[-1]):
        geometry_of(list(nodes.values())[-1])


class Several(nn.Module):
    """Returns two results, or logits computed from two maps."""

    def __init__(self, results: int) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3, 2), nn.Linear(16, 2)
        self.results = results

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        first = self.first(x)
        second = self.second(first)
        logits = self.fc(torch.cat([first.mean((2, 3)), second.mean((2, 3))], 1))
        return (logits, logits) if self.results == 2 else logits


def test_several_results_and_several_feature_maps_are_refused():
    with refuses("several-results", "Several"):
        convolutionalize(Several(2), SIZE)
    with refuses("several-feature-maps", "Several", "2 feature maps"):
        convolutionalize(Several(1), SIZE)
