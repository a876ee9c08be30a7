"""Patch-wise logits equal whole-image logits wherever the window lies inside the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from command_line import predict
from fullconv.demo.digits import DIGIT_LABELS, make_digit_scenes
from fullconv.geometry import Field, Layer
from fullconv.geometry.tiles import Window
from fullconv.images import read_label_map, write_image
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, holds_classifier, load_classifier, read_saved, save_classifier, save_net
from fullconv.net.classifiers.backbones import IMAGENET_MEAN, IMAGENET_STD, input_size
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.fcn.network import FCN, build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.torch_runner import TorchClassifier, TorchRunner
from fullconv.runtime.patchwise import PatchwiseRunner
from refusals import refuses


def lively(stride: int) -> FCN:
    torch.manual_seed(0)
    net = build(NetSpec("digits", 11, stride))
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    return net


def patchwise(net: FCN, step: int, batch: int = 16) -> PatchwiseRunner:
    runner = TorchRunner(net, DIGIT_LABELS, "cpu")
    return PatchwiseRunner.over(runner, runner.mean_color, step, batch)


@pytest.mark.parametrize(("stride", "step"), [(32, 13), (8, 24)])
def test_patchwise_logits_equal_whole_image_logits_inside_the_image(stride: int, step: int) -> None:
    net = lively(stride)
    sliding = patchwise(net, step)
    size = sliding.info.windows[0].size + 40, sliding.info.windows[1].size + 60
    images, _ = make_digit_scenes(1, size)
    whole, patches = TorchRunner(net, DIGIT_LABELS, "cpu").logits(images)[0], sliding.logits(images)[0]
    inside = 0
    for y in range(step // 2, size[0], step):
        for x in range(step // 2, size[1], step):
            starts = [window.start(at) for window, at in zip(sliding.info.windows, (y, x), strict=True)]
            ends = [start + window.size for window, start in zip(sliding.info.windows, starts, strict=True)]
            if min(starts) >= 0 and ends[0] <= size[0] and ends[1] <= size[1]:
                np.testing.assert_allclose(patches[:, y, x], whole[:, y, x], rtol=1e-4, atol=1e-4)
                inside += 1
    assert inside >= 4
    assert whole.std() > 1e-2


@pytest.mark.parametrize("layers", [[Layer(3, 2), Layer(2, 2), Layer(4, 4, transposed=True)], [Layer(5)]])
def test_window_contains_the_receptive_field_and_starts_on_the_grid(layers: list[Layer]) -> None:
    field = Field().through(layers)
    window = Window.of(field)
    for pixel in range(23):
        start = window.start(pixel)
        assert start <= field.first(pixel)
        assert field.last(pixel) < start + window.size
        assert start % field.advance == 0


@pytest.mark.parametrize("size", [1, 2, 7, 94])
def test_centred_window_has_the_size_of_the_classifier_input(size: int) -> None:
    window = Window.centred(size)
    assert window.size == size
    assert window.start(100) + size // 2 == 100


def classifier_file(path: Path) -> Path:
    torch.manual_seed(3)
    net = digit_net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.05, 0.2)  # type: ignore[arg-type]
    save_classifier(path, "digits", net, DIGIT_LABELS)
    return path


def test_sliding_classifier_equals_its_dense_form(tmp_path: Path) -> None:
    """Pixels 48 and 80 are the centres of windows that start at 1 and 33, like the cells of the cropped image."""
    classifier = TorchClassifier.load(classifier_file(tmp_path / "digits.safetensors"), "cpu")
    side, step = input_size("digits")[0], 32
    images, _ = make_digit_scenes(1, (1 + side + step, 1 + side))
    dense = convolutionalize(classifier.net, classifier.size).module
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        cells = dense((torch.from_numpy(images[:, 1:, 1:]).permute(0, 3, 1, 2) / 255 - mean) / std)[0].numpy()
    assert cells.shape == (11, 2, 1)
    patches = PatchwiseRunner.sliding(classifier, step).logits(images)[0][:, [48, 80]][:, :, [48]]
    np.testing.assert_allclose(patches, cells, rtol=1e-4, atol=1e-4)
    assert np.abs(cells[:, 0] - cells[:, 1]).max() > 1e-3


class Middle:
    """A classifier whose logits are the red of the middle pixel and the mean of the first row."""

    labels = LabelSet.named(["middle", "row"])
    size = (5, 4)
    mean_color = (7, 8, 9)

    def logits(self, images: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (5, 4, 3)
        return np.stack([images[:, 2, 2, 0], images[:, 0].mean((1, 2))], 1).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize(("step", "size"), [(1, (6, 9)), (3, (7, 8)), (4, (1, 2)), (50, (9, 5))])
def test_each_square_gets_the_logits_of_its_middle_pixel(step: int, size: tuple[int, int], batch: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    logits = PatchwiseRunner.sliding(Middle(), step, batch).logits(images)
    assert logits.shape == (2, 2, *size)
    for y in range(size[0]):
        for x in range(size[1]):
            row, column = (min(at // step * step + step // 2, n - 1) for at, n in zip((y, x), size, strict=True))
            np.testing.assert_array_equal(logits[:, 0, y, x], images[:, row, column, 0])
    if step < 50:  # the first row of the first window is above the image
        np.testing.assert_allclose(logits[:, 1, 0, 0], 8, rtol=1e-6)


def test_patchwise_logits_do_not_depend_on_the_batch_size() -> None:
    net = lively(32)
    images, _ = make_digit_scenes(1, (60, 70))
    once, thrice = (patchwise(net, 31, batch).logits(images) for batch in (16, 4))
    np.testing.assert_allclose(once, thrice, rtol=1e-4, atol=1e-4)


def test_steps_and_batches_below_one_are_refused() -> None:
    for numbers in ((0, 1), (1, 0), (-8, 4)):
        with refuses("invalid-patch-step", *numbers):
            PatchwiseRunner.sliding(Middle(), *numbers)


def test_saved_classifier_is_loaded_with_its_classes(tmp_path: Path) -> None:
    path = classifier_file(tmp_path / "digits.safetensors")
    net, size, labels = load_classifier(path)
    assert (size, labels) == ((94, 94), DIGIT_LABELS)
    assert not net.training
    assert holds_classifier(path)
    with refuses("classifier-without-patchwise", "--patchwise"):
        read_saved(path)
    fcn = build(NetSpec("digits", 2))
    save_net(tmp_path / "best.safetensors", fcn.state_dict(), Saved(fcn.spec, LabelSet.named(["no", "yes"])))
    assert not holds_classifier(tmp_path)
    with refuses("unreadable-description", "best.safetensors"):
        load_classifier(tmp_path / "best.safetensors")
    save_file({"features.0.weight": torch.zeros(24, 3, 4, 4)}, path, {"fullconv_classifier": "{}"})
    with refuses("unreadable-description", "digits.safetensors"):
        load_classifier(path)


def test_predict_patchwise_runs_networks_and_classifiers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (image,), _ = make_digit_scenes(1, (48, 60))
    write_image(tmp_path / "a.png", image)
    file = classifier_file(tmp_path / "digits.safetensors")
    net = lively(32)
    save_net(tmp_path / "best.safetensors", net.state_dict(), Saved(net.spec, DIGIT_LABELS))
    runners = {
        file: PatchwiseRunner.sliding(TorchClassifier.load(file), 24),
        tmp_path: patchwise(net, 24),
    }
    for model, runner in runners.items():
        out = tmp_path / "out" / model.name
        arguments = (model, tmp_path / "a.png", "--out", out, "--save", "labels", "--patchwise", "--step", "24")
        assert predict(monkeypatch, *arguments) == 0, capsys.readouterr().err
        np.testing.assert_array_equal(read_label_map(out / "a.png"), runner.logits(image[None])[0].argmax(0))
    assert predict(monkeypatch, tmp_path, tmp_path / "a.png", "--out", tmp_path / "b", "--step", "2") == 2
    assert "for --patchwise" in capsys.readouterr().err
    assert predict(monkeypatch, file, tmp_path / "a.png", "--out", tmp_path / "b") == 4
    (tmp_path / "model.onnx").touch()
    for name in ("street", tmp_path / "model.onnx"):
        capsys.readouterr()
        assert predict(monkeypatch, name, tmp_path / "a.png", "--out", tmp_path / "b", "--patchwise") == 2
        assert "--patchwise cannot use an .onnx file" in capsys.readouterr().err
    assert predict(monkeypatch, "gone", tmp_path / "a.png", "--out", tmp_path / "b", "--patchwise") == 4
    assert "'gone'" in capsys.readouterr().err
