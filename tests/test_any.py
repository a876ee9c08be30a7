"""Classifiers of every kind have a dense form and a skip network, one for each mechanism that torch's graphs show."""

from __future__ import annotations

import warnings
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fullconv.errors import ModelError, UsageError
from fullconv.labels import LabelSet, voc_palette
from fullconv.net.backbones import classifier, input_size, is_classifier, load_weights, mean_std
from fullconv.net.check import check_dense
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.fcn import FCN, build
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import convolutionalize
from fullconv.net.trace import trace, traced

SIZE = (48, 64)
LABELS = LabelSet(("a", "b"), voc_palette(2))


def conv(before: int, after: int, kernel: int = 3, stride: int = 1, padding: int = 0) -> nn.Sequential:
    parts = [nn.Conv2d(before, after, kernel, stride, padding, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*parts)


class Stages(nn.Module):
    """Strides 4, 8, 16 and 32, one `block` of 8 channels at each, then `head`."""

    def __init__(self, block, head: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = conv(3, 8, 4, 4)
        self.downs = nn.ModuleList([conv(8, 8, 2, 2) for _ in range(3)])
        self.blocks = nn.ModuleList([block() for _ in range(4)])
        self.head = head or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](self.stem(x))
        for down, block in zip(self.downs, self.blocks[1:], strict=True):
            x = block(down(x))
        return self.head(x)


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, gate=torch.sigmoid) -> None:
        super().__init__()
        self.reduce, self.expand, self.gate = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1), gate
        for layer in (self.reduce, self.expand):
            nn.init.normal_(layer.weight, std=3)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.expand(functional.relu(self.reduce(squeezed))))


class Last(nn.Module):
    """ConvNeXt's block: channels last between a convolution and the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.LayerNorm(8)
        self.wide, self.slim = nn.Linear(8, 16), nn.Linear(16, 8)
        self.gamma = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.slim(functional.gelu(self.wide(y))) * self.gamma
        return x + y.permute(0, 3, 1, 2)


class Shuffle(nn.Module):
    """ShuffleNet's: half of the channels goes through, then the halves are mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = conv(4, 4, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x.chunk(2, dim=1)
        x = torch.cat((kept, self.branch(worked)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width)
        return torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)


class Dense(nn.Module):
    """DenseNet's: all maps before are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.slim = conv(8, 4, 3, 1, 1), conv(12, 4, 3, 1, 1), conv(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        maps.append(self.first(torch.cat(maps, 1)))
        maps.append(self.second(torch.cat(maps, 1)))
        return self.slim(torch.cat(maps, 1))


class Same(nn.Conv2d):
    """Padding of TensorFlow, counted from the size of the image."""

    def __init__(self) -> None:
        super().__init__(8, 8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), self.weight, self.bias, self.stride)


class Standard(nn.Conv2d):
    """Weights that are standardized whenever they are used."""

    def __init__(self) -> None:
        super().__init__(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = functional.batch_norm(self.weight.reshape(1, 8, -1), None, None, training=True).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Drop(nn.Module):
    """Asks for the mode in its forward."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0 if self.training else x


class Attend(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        return (tokens @ (tokens.transpose(1, 2) @ tokens).softmax(-1)).view(x.shape)


BLOCKS = {
    "plain": (lambda: conv(8, 8, 1), "exact"),
    "standardized": (Standard, "exact"),
    "mode": (Drop, "exact"),
    "channels last": (Last, "padding"),
    "shuffle": (Shuffle, "padding"),
    "dense": (Dense, "padding"),
    "same": (Same, "padding"),
    "gate": (Gate, "global context"),
    "group norm": (lambda: nn.GroupNorm(2, 8), "global context"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_any_kind(name):
    torch.manual_seed(0)
    block, fidelity = BLOCKS[name]
    model = Stages(block).eval()
    dense = convolutionalize(model, SIZE)
    found = check_dense(model, dense)
    assert dense.fidelity == found.fidelity == fidelity
    assert set(dense.module.state_dict()) == set(model.state_dict())
    assert (found.cells, found.stride) == (9, (32, 32))
    assert bool(found.differing) == (fidelity != "exact")
    assert check_dense(model, dense, SIZE).largest < 1e-9
    assert dense.taps[0].field.stride == Fraction(32)


def test_the_report_says_which_cells_differ_and_by_how_much():
    torch.manual_seed(0)
    found = check_dense(model := Stages(Same).eval(), convolutionalize(model, SIZE), (48, 96))
    assert (found.size, found.cells) == ((48, 96), 2)
    assert found.differing == ((0, 0), (0, 1))
    assert 0 < found.largest < 1
    words = found.lines()
    assert words[1] == "0 of 2 cells of a 48x96 image equal the classifier"
    assert words[2].startswith("cells that differ: (0, 0), (0, 1); by at most 0.")
    assert found.to_dict()["differing"] == [[0, 0], [0, 1]]


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


HEADS = {
    "in place": lambda: pooled(nn.Flatten(), nn.Dropout(0.5, inplace=True), nn.Linear(8, 4)),
    "flat": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 4)),
    "max": lambda: nn.Sequential(nn.AdaptiveMaxPool2d((1, 2)), nn.Flatten(), nn.Linear(16, 4)),
    "convolution": lambda: nn.Sequential(nn.Dropout(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "pooled convolution": lambda: pooled(nn.Conv2d(8, 6, 1), nn.Hardswish(), nn.Flatten(), nn.Linear(6, 4)),
    "normed": lambda: pooled(nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)),
    "both": Both,
    "both, last": lambda: Both(last=True),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_of_any_kind(name):
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


def test_the_mode_is_asked_for_when_the_network_runs():
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


def test_a_head_for_training_only_is_dropped():
    model = Auxiliary().train()
    dense = convolutionalize(model, SIZE)
    assert "aux: not used in evaluation" in dense.dropped
    assert dense.module.training
    assert model.training
    assert not [key for key in dense.module.state_dict() if key.startswith("aux")]


class Upward(nn.Module):
    """A coarser branch comes back by nearest neighbours, as in HRNet: sizes must be even there."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = conv(8, 8, 2, 2), nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.down(x))


def test_a_network_that_upsamples_inside_pads_to_a_multiple():
    torch.manual_seed(0)
    model = Stages(Upward).eval()
    dense = convolutionalize(model, (64, 128))
    assert dense.multiple == 64
    assert dense.fidelity == "exact"
    found = check_dense(model, dense)
    assert [cell for cell in found.differing if cell[0] % 2 == cell[1] % 2 == 0] == []
    assert FCN(dense, NetSpec("resnet18", 3, 8)).eval()(torch.zeros(1, 3, 97, 131)).shape == (1, 3, 97, 131)


class Halves(nn.Module):
    """Branches with and without padding, which have one size where the map's height and width are even."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = conv(8, 8, 2, 2), conv(8, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


def test_branches_that_meet_by_chance_bind_the_size():
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    model = nn.Sequential(conv(3, 8, 4, 4), Halves(), conv(8, 8, 2, 2), *end)
    dense = convolutionalize(model.eval(), (72, 40))
    assert dense.multiple == 16
    net = FCN(dense, NetSpec("resnet18", 3, 8)).eval()
    assert [
        (sum(pads) + n - own) % 16 for pads, n, own in zip(net.padding((97, 131)), (97, 131), (72, 40), strict=True)
    ] == [0, 0]
    assert net(torch.zeros(1, 3, 97, 131)).shape == (1, 3, 97, 131)


class Beside(Attend):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def test_attention_beside_a_map_is_global_context():
    model = Stages(Beside).eval()
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


def test_blocks_bind_the_size_and_padding_is_no_skip():
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


def test_crops_and_steps_are_where_the_gradient_is():
    graph = traced(nn.Sequential(nn.Conv2d(3, 2, 3), Crop()), (30, 30))
    node = list(trace(graph, (30, 30)).values())[-1]
    nn.init.ones_(graph.get_parameter("0.weight"))
    image = torch.rand(1, 3, 30, 30, requires_grad=True)
    out = graph(image)
    (gradient,) = torch.autograd.grad(out[0, :, 4, 5].sum(), image)
    for axis, cell in ((0, 4), (1, 5)):
        places = gradient[0, 0].abs().sum(1 - axis).nonzero().flatten()
        field = node.taps[axis].field
        assert (int(places[0]), int(places[-1])) == (field.first(cell), field.last(cell))


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (Attend, r"attention"),
        (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), "interpolates"),
        (lambda: nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Flatten(2, 3)), "."),
    ],
)
def test_what_has_no_geometry_is_refused(block, sentence):
    with pytest.raises(ModelError, match=sentence) as refusal:
        convolutionalize(Stages(block), SIZE)
    assert "\n" not in str(refusal.value)


class Place(nn.Module):
    """Adds a table of the places."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 8, 12, 16))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


def test_a_table_of_places_is_refused():
    model = nn.Sequential(conv(3, 8, 4, 4), Place(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(ModelError, match="a table of the places"):
        convolutionalize(model, SIZE)


def test_a_backbone_without_a_stride_says_so():
    model = nn.Sequential(conv(3, 8, 7, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    dense = convolutionalize(model, SIZE)
    with pytest.raises(ModelError, match="ends at stride 7, it has no FCN-8s"):
        FCN(dense, NetSpec("mine", 2, 8))


SMALL = ("test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_mambaout", "test_nfnet")


@pytest.mark.parametrize("name", SMALL)
def test_timms_small_models(name):
    pytest.importorskip("timm")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = classifier(name)[0].eval()
    size = input_size(name)
    assert size == (160, 160)
    dense = convolutionalize(model, size)
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        expected = model(image)
        atol = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(dense.module(image)[:, :, 0, 0], expected, atol=atol, rtol=1e-4)
    assert dense.module(torch.rand(1, 3, 192, 224)).shape[2:] == (2, 3)
    assert set(dense.module.state_dict()) == set(model.state_dict())


def test_timms_transformers_are_refused():
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=r"vector|attention|places"):
        convolutionalize(classifier("test_vit")[0], (160, 160))


MODULE = """
import torch
from torch import nn

def build():
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 6, 2, 2), nn.Flatten(), nn.Linear(6 * 35, 3))
    model.input_size = (40, 56)
    return model

number = 3

def fails():
    raise RuntimeError("no luck")

def gives_a_number():
    return 3
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "my_module.py"
    file.write_text(MODULE)
    return file


def test_a_users_own_module(own, tmp_path):
    name = f"{own}:build"
    assert is_classifier(name)
    assert input_size(name) == (40, 56)
    assert mean_std(name)[0] == (0.485, 0.456, 0.406)
    net = build(NetSpec(name, 2, 8))
    assert net.eval()(torch.zeros(1, 3, 50, 61)).shape == (1, 2, 50, 61)
    path = tmp_path / "net.safetensors"
    save_net(path, net.state_dict(), Saved(net.spec, LABELS))
    loaded, saved = load_net(path)
    assert saved.spec.model == name
    image = torch.rand(1, 3, 33, 47)
    torch.testing.assert_close(loaded(image), net(image))
    own.unlink()
    with pytest.raises(ModelError, match=r"there is no file .*my_module\.py, which a network of my_module\.py:build"):
        load_net(path)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("absent", r"has no function absent\(\)"),
        ("number", r"has no function number\(\)"),
        ("fails", r"fails\(\) failed: RuntimeError: no luck"),
        ("gives_a_number", r"gives int, not a torch\.nn\.Module"),
    ],
)
def test_a_module_that_cannot_be_built(own, function, sentence):
    with pytest.raises(ModelError, match=sentence):
        classifier(f"{own}:{function}")


def test_a_file_with_a_syntax_error(own):
    own.write_text("def build(:\n")
    with pytest.raises(ModelError, match="SyntaxError"):
        classifier(f"{own}:build")


def test_names_that_nobody_has():
    with pytest.raises(ModelError, match=r"no classifier is called 'vgg17' \(did you mean vgg1"):
        classifier("vgg17")
    assert not is_classifier("runs/one")
    assert is_classifier("timm/test_resnet")


def test_weights_may_lack_the_last_layer_only(own):
    model = classifier(f"{own}:build")[0]
    state = dict(model.state_dict())
    last = {key: state.pop(key) for key in ("4.weight", "4.bias")}
    assert load_weights(model, state, "a file") == set(last)
    state.pop("0.weight")
    with pytest.raises(ModelError, match=r"a file does not fit Sequential: 0\.weight is missing"):
        load_weights(model, state, "a file")


def test_head_width_needs_a_hidden_layer(own):
    with pytest.raises(UsageError, match="has no hidden linear layer"):
        build(NetSpec(f"{own}:build", 2, head_width=5))
