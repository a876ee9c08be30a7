"""Test-time augmentation: the mean of an image and its mirror image, on every backend, whole and in tiles."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import fullconv
from command_line import run
from fullconv.arrays import UInt8
from fullconv.cli.console import TTA_COST
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.geometry.tiles import Window
from fullconv.images import read_label_map, write_image
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.onnx_export import export
from fullconv.predict.large import predict_large
from fullconv.runtime.load import load_runner
from fullconv.runtime.runner import largest
from fullconv.runtime.tiles import FlippedRunner, TiledRunner
from fullconv.runtime.verify import verify_tiles
from geotiffs import Shifted
from test_export import lively

SPECS = {
    "digits FCN-8s": NetSpec("digits", 11, 8),
    "digits FCN-32s": NetSpec("digits", 11, 32),
    "vgg16 FCN-8s, half-pixel phase": NetSpec("vgg16", 4, 8),
}


def picture(height: int, width: int, count: int = 1) -> UInt8:
    return np.random.default_rng(height * width).integers(0, 256, (count, height, width, 3), np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits.astype(np.float64))
    return values / values.sum(1, keepdims=True)


@pytest.fixture(scope="module", params=SPECS)
def runner(request: pytest.FixtureRequest) -> TorchRunner:
    spec = SPECS[request.param]
    labels = LabelSet.named([f"class {index}" for index in range(spec.num_classes)])
    return TorchRunner(lively(spec), labels, "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network for digits as .safetensors and .onnx, and return the first."""
    path, net = tmp_path_factory.mktemp("tta") / "net.safetensors", lively(SPECS["digits FCN-8s"])
    save_net(path, net.state_dict(), Saved(net.spec, DIGIT_LABELS, {}))
    export(path, path.with_suffix(".onnx"))
    return path


def mean_of(load: object, images: UInt8) -> np.ndarray:
    """Return the mean probabilities from two calls of the plain runner."""
    there, back = load.logits(images), load.logits(images[:, :, ::-1].copy())  # type: ignore[attr-defined]
    return (softmax(there) + softmax(back)[..., ::-1]) / 2


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_probabilities_are_the_mean_of_both_on_every_backend(model: Path, backend: str):
    if backend == "openvino":
        pytest.importorskip("openvino")
    plain = load_runner(model if backend == "torch" else model.with_suffix(".onnx"), backend)  # type: ignore[arg-type]
    images, flipped = picture(45, 62, count=2), FlippedRunner(plain)
    logits = flipped.logits(images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(softmax(logits), mean_of(plain, images), atol=1e-5)
    np.testing.assert_array_equal(flipped.label_maps(images), largest(logits))
    assert (flipped.label_maps(images) != plain.label_maps(images)).mean() > 0.01


def test_the_mirror_image_has_the_mirrored_labels(runner: TorchRunner):
    flipped, images = FlippedRunner(runner), picture(37, 83)
    logits = flipped.logits(images)
    mirrored = flipped.logits(images[:, :, ::-1].copy())[..., ::-1]
    np.testing.assert_allclose(mirrored, logits, atol=1e-4 * max(1, np.abs(logits).max()))


def test_tiles_give_the_logits_of_the_whole_image(runner: TorchRunner):
    """The sizes of the images are no multiples of the network's period."""
    extra = 13
    flipped = FlippedRunner(runner)
    side = max(window.size for window in flipped.info.windows) + 32
    image = picture(side + 40 + extra, side + 71 - extra)[0]
    verification = verify_tiles(TiledRunner(flipped, side), image)
    assert verification.tiles >= 4
    assert verification.holds
    assert verification.largest <= 1e-4 * verification.logit_range


def test_the_halo_is_that_of_the_larger_side():
    """A runner that looks four pixels to the right only: its mirror image looks to the left."""
    flipped, images = FlippedRunner(Shifted()), picture(30, 70)
    assert flipped.info.windows == (Window(3, 5), Window(4, 4))
    whole = flipped.label_maps(images)
    np.testing.assert_array_equal(TiledRunner(flipped, 16).label_maps(images), whole)

    class OneSided(FlippedRunner):
        info = Shifted.info

    assert (TiledRunner(OneSided(Shifted()), 16).label_maps(images) != whole).any()


def test_images_with_too_many_logits_are_labelled_in_tiles(model: Path):
    plain, images = load_runner(model.with_suffix(".onnx")), picture(230, 300)
    whole = FlippedRunner(plain).label_maps(images)
    calls: list[tuple[int, ...]] = []

    class Watched:
        info = plain.info

        def logits(self, batch: UInt8) -> np.ndarray:
            calls.append(batch.shape)
            return plain.logits(batch)

    tiled = FlippedRunner(Watched(), 11 * 214 * 230).label_maps(images)  # type: ignore[arg-type]
    assert len(calls) > 2
    assert max(shape[1] * shape[2] for shape in calls) < 230 * 300
    assert (tiled != whole).mean() < 1e-3  # ties
    tiny = FlippedRunner(Watched(), 1).label_maps(picture(20, 20))  # type: ignore[arg-type]
    np.testing.assert_array_equal(tiny, FlippedRunner(plain).label_maps(picture(20, 20)))


def test_large_images_are_labelled_in_windows_as_whole_ones(model: Path, tmp_path: Path):
    image = picture(250, 290)[0]
    write_image(tmp_path / "large.png", image)
    flipped = FlippedRunner(load_runner(model.with_suffix(".onnx")))
    predict_large(TiledRunner(flipped, 220), tmp_path / "large.png", {"labels": tmp_path / "labels.png"})
    expected = flipped.label_maps(image[None])[0]
    assert (read_label_map(tmp_path / "labels.png") != expected).mean() < 1e-3


def test_results_in_python_have_the_mean_probabilities(model: Path):
    image = picture(40, 50)[0]
    loaded = fullconv.load(model.with_suffix(".onnx"))
    result = loaded.predict(image, tta=True)
    mean = mean_of(load_runner(model.with_suffix(".onnx")), image[None])[0]
    np.testing.assert_allclose(result.probabilities().astype(float), mean, atol=2e-3)
    np.testing.assert_array_equal(result.label_map, mean.argmax(0))
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.logits, result.logits)
    (many,) = loaded.predict_many([image], tta=True)
    np.testing.assert_array_equal(many.label_map, result.label_map)
    assert (loaded.predict(image).label_map != result.label_map).any()


def test_the_commands_print_the_cost_and_use_both_images(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    image = picture(64, 80)[0]
    write_image(tmp_path / "photo.png", image)
    file = model.with_suffix(".onnx")
    assert run(monkeypatch, "predict", file, tmp_path / "photo.png", "--out", tmp_path / "out", "--tta") == 0
    assert TTA_COST in capsys.readouterr().err
    expected = fullconv.load(file).predict(image, tta=True).label_map
    np.testing.assert_array_equal(read_label_map(tmp_path / "out" / "photo.png"), expected)
    data = write_digit_dataset(tmp_path / "data", train=1, val=2, size=(64, 80))
    assert run(monkeypatch, "evaluate", file, data, "--tta", "--json", tmp_path / "scores.json") == 0
    assert TTA_COST in capsys.readouterr().err
    scores = fullconv.evaluate(file, data, tta=True)
    assert f'"mean_iou": {scores.mean_iou}' in (tmp_path / "scores.json").read_text()
    assert scores.mean_iou != fullconv.evaluate(file, data).mean_iou
