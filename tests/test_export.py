"""Exported files give the logits and labels of torch at every size; files that fail their check are not written."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fullconv.cli.app import main
from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import DIGIT_LABELS, make_digit_scenes
from fullconv.geometry.tiles import Window
from fullconv.images import write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.classifiers.backbones import bundled_weights
from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.torch_runner import TorchRunner
from fullconv.onnx_export import export
from fullconv.onnx_export import file as file_module
from fullconv.onnx_export.body import export_body
from fullconv.onnx_export.file import assemble, describe, tabulate_padding, weights_origin
from fullconv.onnx_export.quantize import Quantized, quantize
from fullconv.onnx_graph.build import PadTable
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.load import load_runner
from fullconv.runtime.onnx import OnnxFile
from nets import narrow_vgg16
from refusals import matches, refuses


def lively(spec: NetSpec) -> FCN:
    """Build a network whose score layers, norms and learned kernels differ from their initial values."""
    torch.manual_seed(0)
    net = FCN(convolutionalize(narrow_vgg16()), spec) if spec.model == "vgg16" else rebuild(spec)
    for name, module in net.named_modules():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        elif name.startswith("upscore") and spec.upsample == "learned":
            nn.init.normal_(module.weight, std=0.3)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
            nn.init.normal_(module.bias, std=0.3)
    if any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        with torch.no_grad():  # without own statistics, MobileNetV2's last map is about 1e-9 and would test nothing
            net.train()(torch.rand(2, 3, 97, 131))
    return equalize_scores(net.eval())


@torch.inference_mode()
def equalize_scores(net: FCN) -> FCN:
    """Scale the score layers so that each score map has a standard deviation of about 1, and every tap counts."""
    maps = net.encode(torch.rand(1, 3, 97, 131))
    for features, skip in zip(maps, ("fr", *net.skips), strict=False):
        norm = nn.Identity() if skip == "fr" else net.get_submodule(f"norm_{skip}")
        score = net.get_submodule(f"score_{skip}")
        score.weight /= score(norm(features)).std((0, 2, 3))[:, None, None, None]
        score.bias.copy_(-score(norm(features)).mean((0, 2, 3)) + score.bias)
    return net


def labels_for(spec: NetSpec) -> LabelSet:
    return LabelSet.named([f"class {index}" for index in range(spec.num_classes)])


SPECS = {
    "digits FCN-8s": NetSpec("digits", 11, 8),
    "digits FCN-32s": NetSpec("digits", 2, 32),
    "mobilenet_v2 FCN-4s": NetSpec("mobilenet_v2", 5, 4),
    "vgg16 FCN-8s, half-pixel phase": NetSpec("vgg16", 4, 8),
    "vgg16 as published": NetSpec("vgg16", 3, 8, padding="reference", norm=False, at_once=True),
    "digits learned": NetSpec("digits", 4, 8, upsample="learned"),
    "vgg16 learned": NetSpec("vgg16", 3, 16, upsample="learned"),
}


@pytest.fixture(scope="module", params=SPECS)
def exported(request, tmp_path_factory) -> tuple[FCN, Path]:
    spec = SPECS[request.param]
    net, path = lively(spec), tmp_path_factory.mktemp("exported") / "net.onnx"
    onnx.save(assemble(net, describe(net, Saved(spec, labels_for(spec)), {})), path)
    return net, path


@pytest.mark.parametrize("size", [(1, 1), (2, 95), (61, 34), (97, 131)])
def test_exported_file_equals_the_network(exported, size):
    net, path = exported
    in_torch, in_onnx = TorchRunner(net, labels_for(net.spec), "cpu"), load_runner(path)
    images = np.random.default_rng(sum(size)).integers(0, 256, (2, *size, 3), np.uint8)
    logits = in_torch.logits(images)
    scale = max(1, np.abs(logits).max())
    np.testing.assert_allclose(in_onnx.logits(images), logits, atol=1e-4 * scale)
    top = np.sort(logits, axis=1)[:, -2:]
    clear = top[:, 1] - top[:, 0] > 1e-3 * scale
    np.testing.assert_array_equal(in_onnx.label_maps(images)[clear], in_torch.label_maps(images)[clear])
    assert clear.mean() > 0.9
    assert size != (97, 131) or len(np.unique(in_onnx.label_maps(images))) > 1
    np.testing.assert_array_equal(OnnxFile.load(path, 1).label_maps(images)[clear], in_onnx.label_maps(images)[clear])
    assert in_onnx.info == in_torch.info
    for image, both in zip(images, in_onnx.label_maps(images), strict=True):
        np.testing.assert_array_equal(in_onnx.label_maps(image[None])[0], both)


@pytest.mark.parametrize("size", [(1, 1), (2, 95), (97, 131)])
def test_openvino_gives_the_logits_of_onnx_runtime(exported, size):
    """They are compared in float32. bfloat16, which OpenVINO may choose, is tested with a trained network, `street`."""
    openvino = pytest.importorskip("fullconv.runtime.openvino")
    _, path = exported
    expected, actual = load_runner(path), load_runner(path, "openvino")
    images = np.random.default_rng(sum(size)).integers(0, 256, (2, *size, 3), np.uint8)
    logits = expected.logits(images)
    scale = max(1, np.abs(logits).max())
    precise = openvino.OpenVinoFile.load(path, 1, "f32")
    exact = ExportedRunner(precise.metadata, precise.scores)
    np.testing.assert_allclose(exact.logits(images), logits, atol=1e-4 * scale)
    assert actual.logits(images).shape == logits.shape
    clear = np.diff(np.sort(logits, axis=1)[:, -2:], axis=1)[:, 0] > 1e-3 * scale
    np.testing.assert_array_equal(exact.label_maps(images)[clear], expected.label_maps(images)[clear])
    assert actual.info == expected.info


@pytest.mark.parametrize("name", [name for name in SPECS if "mobilenet" not in name])
def test_padding_table_equals_the_padding_of_the_network(name):
    net = lively(SPECS[name])
    for axis in (0, 1):
        table = tabulate_padding(net, axis)
        for size in itertools.chain(range(1, 100), (1000, 1023, 4321)):
            assert table(size) == net.padding((size, size))[axis][1]


def test_padding_table_shows_a_wrong_period():
    values = [n % 7 for n in range(60)]
    assert PadTable(values, 8).start > 60 - 2 * 8


def saved_run(folder: Path, spec: NetSpec = SPECS["digits FCN-8s"]) -> Path:
    net = lively(spec)
    notes = {"settings": {"recipe": {"epochs": 3}, "data": "/a/scenes", "weights": "digits.safetensors"}, "step": 7}
    save_net(folder / "best.safetensors", net.state_dict(), Saved(spec, DIGIT_LABELS, notes))
    (folder / "scores.json").write_text(json.dumps({"mean_iou": 0.25, "confusion": [[1]]}))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return saved_run(tmp_path_factory.mktemp("run"))


def test_exported_metadata_hold_recipe_scores_weights_and_licence(run, tmp_path):
    done = export(run, tmp_path / "net.onnx", licence="CC0-1.0")
    assert 0 < done.difference < 1e-3
    assert done.classes > 1
    runner = load_runner(done.path)
    assert isinstance(runner, ExportedRunner)
    assert runner.info.labels == DIGIT_LABELS
    notes = runner.metadata.notes
    assert notes["licence"] == "CC0-1.0"
    assert notes["recipe"] == {"epochs": 3}
    assert notes["scores"] == {"mean_iou": 0.25, "data": "scenes", "split": "val"}
    assert (notes["weights"]["from"], notes["weights"]["step"]) == ("digits.safetensors", 7)
    assert notes["network"]["stride"] == runner.metadata.stride == 8
    assert type(load_runner(run)).__name__ == "TorchRunner"


def test_bundled_weights_are_named_with_their_hash():
    bundled = bundled_weights("mobilenet_v2")
    digest = hashlib.sha256(bundled.read_bytes()).hexdigest()
    saved = Saved(NetSpec("mobilenet_v2", 11, 8), DIGIT_LABELS)
    assert weights_origin(saved, "pretrained") == f"mobilenet_v2.safetensors of fullconv, sha256 {digest}"
    assert weights_origin(saved, "vgg.pth") == "vgg.pth"
    assert weights_origin(Saved(NetSpec("digits", 11, 8), DIGIT_LABELS), "pretrained") == "pretrained"


@pytest.mark.parametrize("wrong", ["crop", "color", "padding", "labels alone"])
def test_a_file_that_fails_its_check_is_not_written(run, tmp_path, monkeypatch, wrong):
    """The existing file stays unchanged, and no temporary file remains."""

    def broken(net, about):
        if wrong == "crop":
            up = about.upsamplings[0]
            return assemble(net, replace(about, upsamplings=(replace(up, crop=up.crop + 1), about.upsamplings[1])))
        if wrong == "color":
            net.mean += 0.01
        model = assemble(net, about)
        if wrong == "color":
            net.mean -= 0.01
        if wrong == "labels alone":
            (last,) = (node for node in model.graph.node if "label_map" in node.output)
            last.output[0] = "right"
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.uint8), "zero"))
            model.graph.node.append(onnx.helper.make_node("Mul", ["right", "zero"], ["label_map"]))
        if wrong == "padding":
            (pad,) = (node for node in model.graph.node if node.output == ["padded"])
            pad.attribute.append(onnx.helper.make_attribute("mode", "edge"))
        return model

    monkeypatch.setattr(file_module, "assemble", broken)
    target = tmp_path / "net.onnx"
    target.write_bytes(b"before")
    with refuses("exported-labels-differ" if wrong == "labels alone" else "exported-logits-differ"):
        export(run, target)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mode", ["resize", "unpool"])
def test_export_refuses_upsampling_that_is_not_a_transposed_convolution(mode):
    spec = NetSpec("vgg16", 3, 8, upsample=mode)
    with refuses("upsampling-not-exportable", f"--upsample {mode}"):
        describe(lively(spec), Saved(spec, labels_for(spec)), {})


@pytest.mark.parametrize(
    ("quantized", "problems"),
    [
        (Quantized(0.50, 0.491, 2.0, 1.0), []),
        (Quantized(0.50, 0.60, 1.0, 1.0), []),
        (Quantized(0.50, 0.489, 2.0, 1.0), ["loses 1.1 percentage points"]),
        (Quantized(0.50, 0.50, 1.0, 1.5), ["takes 1.50 times as long"]),
        (Quantized(0.50, 0.10, 1.0, 1.5), ["loses 40.0 percentage points", "takes 1.50 times as long"]),
    ],
)
def test_eight_bits_must_be_faster_and_cost_at_most_one_percentage_point(quantized, problems):
    assert len(quantized.problems()) == len(problems)
    assert all(expected in problem for expected, problem in zip(problems, quantized.problems(), strict=True))


def command(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["fullconv", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_export_int8_needs_data(run, monkeypatch, capsys):
    assert command(monkeypatch, "export", run, "--int8") == 2
    assert command(monkeypatch, "export", run, "--data", run) == 2
    assert command(monkeypatch, "export", run, "--force") == 2
    assert command(monkeypatch, "export", run, "--out", "net.pt") == 2
    assert matches("int8-needs-data", capsys.readouterr().err.splitlines()[0].removeprefix("fullconv: "))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 3), ("val", 2)):
        images, targets = make_digit_scenes(count, (64, 80), seed=count)
        for index, (image, target) in enumerate(zip(images, targets, strict=True)):
            write_image(folder / "images" / split / f"{index}.png", image)
            write_label_map(folder / "masks" / split / f"{index}.png", target, DIGIT_LABELS)
    (folder / "classes.txt").write_text("\n".join(DIGIT_LABELS.class_names))
    return folder


def test_eight_bits_are_used_between_the_padded_image_and_the_score_layers(run, scenes, tmp_path):
    done = export(run, tmp_path / "net.onnx", int8=find_dataset(scenes), force=True)
    nodes = {node.output[0]: node for node in onnx.load(done.path).graph.node}
    convs = [node for node in nodes.values() if node.op_type == "Conv"]
    in_eight = [node for node in convs if node.input[1] in nodes and nodes[node.input[1]].op_type == "DequantizeLinear"]
    assert sorted(node.output[0] for node in convs if node not in in_eight) == ["score_0", "score_1", "score_2"]
    assert not any(nodes[name].op_type == "DequantizeLinear" for name in nodes["label_map"].input if name in nodes)
    exact = export(run, tmp_path / "float.onnx").path
    small, images = load_runner(done.path), make_digit_scenes(1, (64, 80))[0]
    assert small.metadata.notes["quantized"]["int8_mean_iou"] == done.quantized.int8_mean_iou
    assert small.metadata.notes["scores"]["mean_iou"] == done.quantized.int8_mean_iou
    assert small.metadata.notes["scores"]["data"] == str(scenes)
    expected, actual = load_runner(exact).logits(images), small.logits(images)
    assert 0 < np.abs(actual - expected).mean() < 0.2 * expected.std()
    assert done.path.stat().st_size < 0.5 * exact.stat().st_size


def test_first_convolutions_stay_in_float32_if_eight_bits_lose_too_much(run, scenes, tmp_path):
    exact, small = export(run, tmp_path / "float.onnx").path, tmp_path / "int8.onnx"
    data = find_dataset(scenes)
    quantized = quantize(exact, small, data, force=True, max_loss=-2, float_convolutions=(0, 2, 100))
    convs = [node for node in onnx.load(small).graph.node if node.op_type == "Conv"]
    in_eight = ["DequantizeLinear" in node.input[1] for node in convs]
    assert (quantized.kept, in_eight[:3]) == (2, [False, False, True])


def test_eight_bits_that_lose_too_much_are_not_written(run, scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(file_module, "quantize", partial(quantize, max_loss=-2))
    target = tmp_path / "net.onnx"
    assert command(monkeypatch, "export", run, "--int8", "--data", scenes, "--out", target) == 4
    assert matches("int8-not-worthwhile", capsys.readouterr().err.strip().removeprefix("fullconv: "))
    assert list(tmp_path.iterdir()) == []


def test_calibration_data_must_have_the_classes_of_the_model(run, scenes, tmp_path):
    data = find_dataset(scenes)
    other = replace(data, labels=LabelSet.named([f"other {i}" for i in range(data.labels.num_classes)]))
    with refuses("classes-differ", scenes, run):
        export(run, tmp_path / "net.onnx", int8=other)


class Untraceable(nn.Module):
    """A layer that torch cannot export."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no operator")


def test_a_network_that_torch_cannot_export_is_refused():
    net = lively(SPECS["digits FCN-32s"])
    net.head = Untraceable()
    with refuses("onnx-export-failed", "digits", "no operator"):
        export_body(net)


def test_padding_that_is_not_periodic_is_refused():
    """The padding of this network repeats every 7 pixels, its cells every 8."""
    window, lead = Window(0, 0, 8), SimpleNamespace(lead=0)
    net = SimpleNamespace(
        windows=(window, window),
        geometry=(lead, lead),
        padding=lambda size: ((0, size[0] % 7), (0, size[1] % 7)),
        spec=NetSpec("digits", 2, 32),
    )
    with refuses("padding-not-periodic", "digits", "every 8 pixels"):
        tabulate_padding(net, 0)


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_images_that_the_network_cannot_take_are_refused(run, tmp_path, kind):
    if kind == "openvino":
        pytest.importorskip("openvino")
    runner = load_runner(export(run, tmp_path / "net.onnx").path, kind)
    with refuses("network-failed", "40x50"):
        runner.logits(np.zeros((1, 40, 50, 4), np.uint8))
