"""An exported file says what torch says, at every size; what fails its check is not written."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fullconv.cli import main
from fullconv.data.digits import DIGIT_LABELS, digit_scenes
from fullconv.data.layouts import find_dataset
from fullconv.errors import ModelError
from fullconv.image import write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.net.backbones import bundled_weights
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn import FCN, rebuild
from fullconv.net.runner import TorchRunner
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import convolutionalize
from fullconv.onnx_export import export
from fullconv.onnx_export import file as file_module
from fullconv.onnx_export import quantize as quantize_module
from fullconv.onnx_export.file import _origin, assemble, describe, pad_table
from fullconv.onnx_export.graph import PadTable
from fullconv.onnx_export.quantize import Quantized
from fullconv.run.exported import ExportedRunner
from fullconv.run.load import load_runner
from fullconv.run.onnx import OnnxFile
from nets import narrow_vgg16


def lively(spec: NetSpec) -> FCN:
    """With score layers, norms and learned kernels that are not as they start."""
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
        with torch.no_grad():  # without statistics of its own, a MobileNetV2's last map is 1e-9 and nothing is tested
            net.train()(torch.rand(2, 3, 97, 131))
    return evened(net.eval())


@torch.inference_mode()
def evened(net: FCN) -> FCN:
    """With score maps that vary by about 1, so that no layer's part drowns in the others'."""
    maps = net.encode(torch.rand(1, 3, 97, 131))
    for own, skip in zip(maps, ("fr", *net.skips), strict=False):
        norm = nn.Identity() if skip == "fr" else net.get_submodule(f"norm_{skip}")
        score = net.get_submodule(f"score_{skip}")
        score.weight /= score(norm(own)).std((0, 2, 3))[:, None, None, None]
        score.bias.copy_(-score(norm(own)).mean((0, 2, 3)) + score.bias)
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
def test_the_file_is_the_network(exported, size):
    net, path = exported
    theirs, ours = TorchRunner(net, labels_for(net.spec), "cpu"), load_runner(path)
    images = np.random.default_rng(sum(size)).integers(0, 256, (2, *size, 3), np.uint8)
    logits = theirs.logits(images)
    scale = max(1, np.abs(logits).max())
    np.testing.assert_allclose(ours.logits(images), logits, atol=1e-4 * scale)
    top = np.sort(logits, axis=1)[:, -2:]
    clear = top[:, 1] - top[:, 0] > 1e-3 * scale
    np.testing.assert_array_equal(ours.label_maps(images)[clear], theirs.label_maps(images)[clear])
    assert clear.mean() > 0.9
    assert size != (97, 131) or len(np.unique(ours.label_maps(images))) > 1
    np.testing.assert_array_equal(OnnxFile.load(path, 1).label_maps(images)[clear], ours.label_maps(images)[clear])
    assert (ours.windows, ours.exact, ours.labels) == (theirs.windows, theirs.exact, theirs.labels)
    for image, both in zip(images, ours.label_maps(images), strict=True):
        np.testing.assert_array_equal(ours.label_maps(image[None])[0], both)


@pytest.mark.parametrize("size", [(1, 1), (2, 95), (97, 131)])
def test_openvino_gives_what_onnx_runtime_gives(exported, size):
    """The same in float32. The bfloat16 that it may choose by itself is held against a trained network, `street`."""
    openvino = pytest.importorskip("fullconv.run.openvino")
    _, path = exported
    theirs, ours = load_runner(path), load_runner(path, "openvino")
    images = np.random.default_rng(sum(size)).integers(0, 256, (2, *size, 3), np.uint8)
    logits = theirs.logits(images)
    scale = max(1, np.abs(logits).max())
    precise = openvino.OpenVinoFile.load(path, 1, "f32")
    exact = ExportedRunner(precise.about, precise.scores)
    np.testing.assert_allclose(exact.logits(images), logits, atol=1e-4 * scale)
    assert ours.logits(images).shape == logits.shape
    clear = np.diff(np.sort(logits, axis=1)[:, -2:], axis=1)[:, 0] > 1e-3 * scale
    np.testing.assert_array_equal(exact.label_maps(images)[clear], theirs.label_maps(images)[clear])
    assert (ours.windows, ours.exact, ours.labels) == (theirs.windows, theirs.exact, theirs.labels)


@pytest.mark.parametrize("name", [name for name in SPECS if "mobilenet" not in name])
def test_the_table_of_padding_is_the_networks(name):
    net = lively(SPECS[name])
    for axis in (0, 1):
        table = pad_table(net, axis)
        for size in itertools.chain(range(1, 100), (1000, 1023, 4321)):
            assert table(size) == net.padding((size, size))[axis][1]


def test_padding_without_a_period_is_no_table():
    values = [n % 7 for n in range(60)]
    assert PadTable(values, 8).start > 60 - 2 * 8


def saved_run(folder: Path, spec: NetSpec = SPECS["digits FCN-8s"]) -> Path:
    net = lively(spec)
    notes = {"settings": {"recipe": {"epochs": 3}, "data": "scenes", "weights": "digits.safetensors"}, "step": 7}
    save_net(folder / "best.safetensors", net.state_dict(), Saved(spec, DIGIT_LABELS, notes))
    (folder / "scores.json").write_text(json.dumps({"mean_iou": 0.25, "confusion": [[1]]}))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return saved_run(tmp_path_factory.mktemp("run"))


def test_a_run_folder_becomes_a_file_that_tells_all(run, tmp_path):
    done = export(run, tmp_path / "net.onnx", licence="CC0-1.0")
    assert 0 < done.difference < 1e-3
    assert done.classes > 1
    runner = load_runner(done.path)
    assert isinstance(runner, ExportedRunner)
    assert runner.labels == DIGIT_LABELS
    notes = runner.about.notes
    assert notes["licence"] == "CC0-1.0"
    assert notes["recipe"] == {"epochs": 3}
    assert notes["scores"] == {"mean_iou": 0.25, "data": "scenes", "split": "val"}
    assert (notes["weights"]["from"], notes["weights"]["step"]) == ("digits.safetensors", 7)
    assert notes["network"]["stride"] == runner.about.stride == 8
    assert type(load_runner(run)).__name__ == "TorchRunner"


def test_weights_that_come_along_are_named_with_their_hash():
    bundled = bundled_weights("mobilenet_v2")
    digest = hashlib.sha256(bundled.read_bytes()).hexdigest()
    saved = Saved(NetSpec("mobilenet_v2", 11, 8), DIGIT_LABELS)
    assert _origin(saved, "pretrained") == f"mobilenet_v2.safetensors of fullconv, sha256 {digest}"
    assert _origin(saved, "vgg.pth") == "vgg.pth"
    assert _origin(Saved(NetSpec("digits", 11, 8), DIGIT_LABELS), "pretrained") == "pretrained"


@pytest.mark.parametrize("wrong", ["crop", "color", "padding", "labels alone"])
def test_what_fails_its_check_is_not_written(run, tmp_path, monkeypatch, wrong):
    """The file that was there stays as it was, and nothing is left beside it."""

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
    with pytest.raises(ModelError, match="labels of .* differ" if wrong == "labels alone" else "logits of .* off"):
        export(run, target)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mode", ["resize", "unpool"])
def test_other_upsampling_is_refused(mode):
    spec = NetSpec("vgg16", 3, 8, upsample=mode)
    with pytest.raises(ModelError, match=f"--upsample {mode} cannot be exported"):
        describe(lively(spec), Saved(spec, labels_for(spec)), {})


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        (Quantized(0.50, 0.491, 2.0, 1.0), []),
        (Quantized(0.50, 0.60, 1.0, 1.0), []),
        (Quantized(0.50, 0.489, 2.0, 1.0), ["loses 1.1 points"]),
        (Quantized(0.50, 0.50, 1.0, 1.5), ["takes 1.50 times as long"]),
        (Quantized(0.50, 0.10, 1.0, 1.5), ["loses 40.0 points", "takes 1.50 times as long"]),
    ],
)
def test_eight_bits_must_be_faster_and_cost_a_point_at_most(found, faults):
    assert len(found.faults) == len(faults)
    assert all(expected in fault for expected, fault in zip(faults, found.faults, strict=True))


def command(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["fullconv", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_command_wants_data_for_eight_bits(run, monkeypatch, capsys):
    assert command(monkeypatch, "export", run, "--int8") == 2
    assert command(monkeypatch, "export", run, "--data", run) == 2
    assert command(monkeypatch, "export", run, "--force") == 2
    assert command(monkeypatch, "export", run, "--out", "net.pt") == 2
    assert "int8 and data go together" in capsys.readouterr().err


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for split, count in (("train", 3), ("val", 2)):
        images, targets = digit_scenes(count, (64, 80), seed=count)
        for index, (image, target) in enumerate(zip(images, targets, strict=True)):
            write_image(folder / "images" / split / f"{index}.png", image)
            write_label_map(folder / "masks" / split / f"{index}.png", target, DIGIT_LABELS)
    (folder / "classes.txt").write_text("\n".join(DIGIT_LABELS.class_names))
    return folder


def test_eight_bits_between_pixels_and_scores(run, scenes, tmp_path):
    done = export(run, tmp_path / "net.onnx", int8=find_dataset(scenes), force=True)
    nodes = {node.output[0]: node for node in onnx.load(done.path).graph.node}
    convs = [node for node in nodes.values() if node.op_type == "Conv"]
    in_eight = [node for node in convs if node.input[1] in nodes and nodes[node.input[1]].op_type == "DequantizeLinear"]
    assert sorted(node.output[0] for node in convs if node not in in_eight) == ["score_0", "score_1", "score_2"]
    assert not any(nodes[name].op_type == "DequantizeLinear" for name in nodes["label_map"].input if name in nodes)
    exact = export(run, tmp_path / "float.onnx").path
    small, images = load_runner(done.path), digit_scenes(1, (64, 80))[0]
    assert small.about.notes["quantized"]["int8_mean_iou"] == done.quantized.int8_mean_iou
    assert small.about.notes["scores"]["mean_iou"] == done.quantized.int8_mean_iou
    assert small.about.notes["scores"]["data"] == str(scenes)
    theirs, ours = load_runner(exact).logits(images), small.logits(images)
    assert 0 < np.abs(ours - theirs).mean() < 0.2 * theirs.std()
    assert done.path.stat().st_size < 0.5 * exact.stat().st_size


def test_first_convolutions_stay_in_float_where_eight_bits_lose_too_much(run, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize_module, "LOSS", -2)
    monkeypatch.setattr(quantize_module, "KEPT", (0, 2, 100))
    done = export(run, tmp_path / "net.onnx", int8=find_dataset(scenes), force=True)
    convs = [node for node in onnx.load(done.path).graph.node if node.op_type == "Conv"]
    in_eight = ["DequantizeLinear" in node.input[1] for node in convs]
    assert (done.quantized.kept, in_eight[:3]) == (2, [False, False, True])


def test_eight_bits_that_lose_too_much_are_not_written(run, scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quantize_module, "LOSS", -2)
    target = tmp_path / "net.onnx"
    assert command(monkeypatch, "export", run, "--int8", "--data", scenes, "--out", target) == 4
    assert "the int8 file is not worth it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
