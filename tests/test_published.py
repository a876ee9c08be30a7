"""The published nets: logits, crops and files, compared with an implementation in plain torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from typer.testing import CliRunner

from caffe_side import (
    CLASSES,
    HIDDEN,
    PUBLISHED,
    WIDTHS,
    Layers,
    as_written,
    caffe_input,
    fcn8s,
    named,
    random_layers,
)
from fullconv.cli.app import app
from fullconv.data.classes import VOC_LABELS, read_labels
from fullconv.errors import DataError, UsageError
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.classifiers.backbones import build_classifier, input_size
from fullconv.net.classifiers.caffe import caffenet
from fullconv.net.fcn.network import build, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.network import inspect_fcn
from fullconv.net.reference.published import NETS, read_layers, read_published
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.surgery.dense_check import check_dense, randomize_scales
from fullconv.net.torch_runner import TorchRunner
from nets import narrow_vgg16
from refusals import refuses

SIZES = [(1, 1), (2, 75), (37, 53), (64, 64), (95, 130), (161, 40)]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the classifiers by ones of few channels under the same names."""
    makers = {"vgg16": lambda: narrow_vgg16(HIDDEN), "caffenet": lambda: caffenet(WIDTHS, HIDDEN, CLASSES)}
    monkeypatch.setattr(
        "fullconv.net.fcn.network.build_classifier", lambda name, weights=None: (makers[name](), frozenset())
    )


def import_and_load(tmp_path: Path, layers: Layers, name: str | None = None) -> TorchRunner:
    """Import a published net, write it and read it again, as the commands do."""
    path = as_written("safetensors", layers, tmp_path / "published.safetensors")
    _, spec, state = read_published(path, name)
    save_net(tmp_path / "imported.safetensors", state, Saved(spec, LabelSet.named(list("abcde")[: spec.num_classes])))
    return TorchRunner.load(tmp_path / "imported.safetensors", "cpu")


def assert_published(runner: TorchRunner, net: str, layers: Layers, size: tuple[int, int]) -> None:
    image = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), np.uint8)
    with torch.no_grad():
        expected = PUBLISHED[net](layers, caffe_input(image)).numpy()
    logits = runner.logits(image[None])
    assert logits.shape == expected.shape
    assert expected.std() > 0.01
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("net", PUBLISHED)
def test_logits_equal_the_published_ones(net: str, learned: bool, tmp_path: Path) -> None:
    layers = random_layers(net, learned=learned)
    runner = import_and_load(tmp_path, layers, net)
    assert runner.net.spec.upsample == ("learned" if learned else "fixed")
    for size in SIZES:
        assert_published(runner, net, layers, size)


@pytest.mark.parametrize("net", PUBLISHED)
def test_reference_logits_depend_on_every_layer(net: str) -> None:
    """Otherwise the comparison above would not test that layer."""
    layers = random_layers(net)
    data = caffe_input(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8))
    with torch.no_grad():
        expected = PUBLISHED[net](layers, data)
        for name, (weight, *rest) in layers.items():
            changed = PUBLISHED[net]({**layers, name: (weight * 0.9, *rest)}, data)
            assert (changed - expected).abs().max() > 1e-3 * expected.abs().max(), name


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("scale", [torch.tensor([0.01]), torch.linspace(0.01, 0.02, 6)])
def test_scales_of_the_file_are_used(scale: Tensor, tmp_path: Path) -> None:
    layers = random_layers("fcn8s-atonce")
    channels = layers["score_pool4"][0].shape[1]
    scale4 = scale if scale.numel() == 1 else scale[:channels]
    scaled = {**layers, "scale_pool4": (scale4,), "scale_pool3": (torch.tensor([0.0001]),)}
    runner = import_and_load(tmp_path, scaled)
    image = np.full((40, 50, 3), 200, np.uint8)
    with torch.no_grad():
        expected = fcn8s(layers, caffe_input(image), scale4.view(1, -1, 1, 1), 0.0001).numpy()  # type: ignore[arg-type]
    assert np.abs(runner.logits(image[None]) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("net", PUBLISHED)
def test_net_is_recognized_by_its_layers(net: str, tmp_path: Path) -> None:
    layers = random_layers(net)
    if net == "fcn8s-atonce":
        layers |= {"scale_pool4": (torch.tensor([0.01]),), "scale_pool3": (torch.tensor([0.0001]),)}
    name, spec, _ = read_published(as_written("pth", layers, tmp_path / "a.pth"))
    assert (name, spec.stride) == (net, NETS[net].stride)
    without = {layer: values for layer, values in layers.items() if not layer.startswith("upscore")}
    name, spec, _ = read_published(as_written("pth", without, tmp_path / "b.pth"))
    assert (name, spec.upsample) == (net, "fixed")


@pytest.mark.parametrize("suffix", ["caffemodel", "npz", "pth", "safetensors"])
def test_every_format_gives_the_same_layers(suffix: str, tmp_path: Path) -> None:
    layers = random_layers("fcn16s")
    path = as_written(suffix, layers, tmp_path / f"weights.{suffix}")
    read = read_layers(path.rename(tmp_path / f"WEIGHTS.{suffix.upper()}"))
    assert read.keys() == named(layers).keys()
    assert all(torch.equal(read[name], value) for name, value in named(layers).items())


def test_npz_may_have_other_parameter_names(tmp_path: Path) -> None:
    short = {"weight": "W", "bias": "b"}
    arrays = {
        f"{key.rpartition('.')[0]}_{short[key.rpartition('.')[2]]}": v.numpy()
        for key, v in named(random_layers("fcn32s")).items()
    }
    np.savez(tmp_path / "a.npz", **arrays)
    assert read_layers(tmp_path / "a.npz").keys() == named(random_layers("fcn32s")).keys()


@pytest.mark.usefixtures("narrow")
def test_all_wrong_layers_are_listed_at_once(tmp_path: Path) -> None:
    layers = random_layers("fcn8s")
    del layers["fc7"], layers["upscore2"]
    layers["conv3_2"] = layers["conv3_2"][:1]
    layers["score_pool3"] = (torch.zeros(5, 99, 1, 1), layers["score_pool3"][1])
    layers["conv6_1"] = (torch.zeros(1),)
    faults = ("fc7.weight is missing", "fc7.bias is missing", "upscore2.weight is missing", "conv3_2.bias is missing",
              "score_pool3.weight is (5, 99, 1, 1), not (5, 4, 1, 1)", "conv6_1.weight is unknown")  # fmt: skip
    with refuses("published-layers-differ", *faults) as refusal:
        read_published(as_written("safetensors", layers, tmp_path / "a.safetensors"))
    assert "fc6" not in refusal.message


@pytest.mark.usefixtures("narrow")
def test_files_that_are_not_published_nets_are_refused(tmp_path: Path) -> None:
    good = as_written("pth", random_layers("fcn32s"), tmp_path / "a.pth")
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    headless = {name: values for name, values in random_layers("fcn32s").items() if name != "score_fr"}
    with refuses("no-weights-file", "gone.pth"):
        read_published(tmp_path / "gone.pth")
    for name in ("text.npz", "objects.npz"):
        with refuses("unreadable-npz", name):
            read_published(tmp_path / name)
    with refuses("not-a-published-net", "first layers are conv1_1"):
        read_published(as_written("pth", headless, tmp_path / "b.pth"))
    with refuses(
        "published-layers-differ", "read as fcn16s", "score_pool4.weight is missing", "upscore.weight is unknown"
    ):
        read_published(good, "fcn16s")
    with refuses("unknown-net", "--net fcn4s", "fcn32s, fcn16s"):
        read_published(good, "fcn4s")


CROPS = {("vgg16", 32): (19,), ("vgg16", 16): (-5, 27), ("vgg16", 8): (-5, -9, 31), ("caffenet", 32): (18,)}


@pytest.mark.parametrize(("model", "stride"), CROPS)
def test_crops_equal_the_published_ones_and_no_padding_is_added(model: str, stride: int) -> None:
    """A negative crop cuts the finer map, as score_pool4c and score_pool3c do."""
    with torch.device("meta"):
        net = rebuild(NetSpec(model, 21, stride, norm=False, padding="reference")).eval()
        for size in ((1, 1), (333, 500), (501, 64)):
            assert net(torch.zeros(1, 3, *size)).shape == (1, 21, *size)
    for geometry in net.geometry:
        assert tuple(up.crop for up in geometry.upsamplings) == CROPS[model, stride]
        assert {geometry.padding(size) for size in range(1, 600)} == {(0, 0)}


def test_fcn32s_has_the_published_number_of_parameters() -> None:
    """fcn32s-heavy-pascal.caffemodel without its upsampling has VGG16's parameters, with 21 classes for 1000."""
    with torch.device("meta"):
        net = rebuild(NetSpec("vgg16", 21, 32, norm=False, padding="reference"))
    assert sum(parameter.numel() for parameter in net.parameters()) == 138_357_544 - 1000 * 4097 + 21 * 4097


@pytest.mark.parametrize("model", ["digits", "alexnet"])
def test_reference_padding_works_for_classifiers_with_hidden_layers(model: str) -> None:
    with torch.device("meta"):
        net = build(NetSpec(model, 3, 8, padding="reference")).eval()
        for size in ((1, 1), (37, 101)):
            assert net(torch.zeros(1, 3, *size)).shape == (1, 3, *size)
    with refuses("no-hidden-layer", "resnet18", "--padding reference"), torch.device("meta"):
        build(NetSpec("resnet18", 3, 8, padding="reference"))


def test_reference_padding_costs_more() -> None:
    minimal, reference = (inspect_fcn(NetSpec("vgg16", 21, 8, norm=False, padding=p), (500, 500)) for p in
                          ("minimal", "reference"))  # fmt: skip
    assert minimal.params == reference.params
    assert reference.macs > 1.3 * minimal.macs
    assert next(row for row in reference.rows if row.name.endswith("features.0")).padding == (100, 100)


@pytest.mark.usefixtures("narrow")
def test_import_command_writes_a_model(tmp_path: Path) -> None:
    weights = as_written("caffemodel", random_layers("fcn8s"), tmp_path / "fcn8s-heavy-pascal.caffemodel")
    out, names = tmp_path / "imported.safetensors", tmp_path / "names.txt"
    call = CliRunner()
    assert isinstance(call.invoke(app, ["import", str(weights), "--out", str(out)]).exception, DataError)
    assert isinstance(call.invoke(app, ["import", str(weights), "--out", "a.pth"]).exception, UsageError)
    names.write_text("a\nb\nc\nd\ne\n")
    result = call.invoke(app, ["import", str(weights), "--out", str(out), "--classes", str(names)])
    assert result.exit_code == 0, result.exception
    assert "fcn8s with 5 classes, fixed upsampling" in result.output
    net, saved = load_net(out)
    assert saved.labels.class_names == tuple("abcde")
    assert saved.notes == {"imported": weights.name, "net": "fcn8s"}
    assert net.spec.padding == "reference"
    assert_published(TorchRunner(net, saved.labels, "cpu"), "fcn8s", random_layers("fcn8s"), (47, 61))


def test_fcn_googlenet_trains() -> None:
    """In the paper's table 1. Its dense form equals the classifier, and all its layers get gradients."""
    model = randomize_scales(build_classifier("googlenet")[0]).eval()
    size = input_size("googlenet")
    dense = convolutionalize(model, size)
    assert check_dense(model, dense, size).largest < 1e-9
    net = build(NetSpec("googlenet", 21, 32)).train()
    assert [tap.field.stride for tap in net.geometry[0].taps] == [32]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):  # the score layer starts at zero, so the backbone has gradients from the second step on
        optimizer.zero_grad()
        logits = net(torch.rand(2, 3, 65, 97, generator=torch.Generator().manual_seed(0)))
        assert logits.shape == (2, 21, 65, 97)
        target = torch.arange(2 * 65 * 97).view(2, 65, 97) % 21
        torch.autograd.backward(functional.cross_entropy(logits, target))
        optimizer.step()
    assert not [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]


def test_21_classes_without_names_get_the_names_of_voc() -> None:
    assert read_labels(21) is VOC_LABELS
    with refuses("class-count-differs", 60, "PASCAL VOC has 21", "--classes FILE"):
        read_labels(60)
