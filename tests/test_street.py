"""The bundled models: their metadata and licences, and their scores on CamVid if its folder exists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fullconv
from fullconv.data.classes import CAMVID_LABELS
from fullconv.data.layouts import find_dataset
from fullconv.evaluation.evaluate import evaluate
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled, bundled_names
from refusals import refuses

CAMVID = Path(__file__).parents[1] / ".." / "shared" / "camvid"
MODELS = ("street", "street-int8")


def test_bundled_models_are_small_and_have_model_cards():
    assert tuple(bundled_names()) == MODELS
    for name in MODELS:
        assert bundled(name).stat().st_size < 10e6
    assert "street.onnx" in (bundled("street").parent / "street.md").read_text()


@pytest.mark.parametrize("name", MODELS)
def test_bundled_models_contain_classes_recipe_and_licence(name):
    """They have no scores: those on the data of their training would mean nothing."""
    runner = load_runner(bundled(name))
    assert isinstance(runner, ExportedRunner)
    assert runner.info.labels == CAMVID_LABELS
    assert "scores" not in runner.metadata.notes
    assert runner.metadata.notes["recipe"]["color"] == 0.4
    assert "/" not in runner.metadata.notes["weights"]["file"]
    assert "CamVid" in runner.metadata.notes["licence"]
    assert runner.info.exact


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(1, 1), (37, 53), (240, 320)])
def test_bundled_models_label_images_of_any_size(name, size):
    image = np.full((*size, 3), 128, np.uint8)
    assert fullconv.load(name).predict(image).label_map.shape == size


SIGNAL_AFTER_TWO_MODELS = """
import os, signal
import fullconv
models = [fullconv.load("street", "openvino") for _ in range(2)]
while models:
    models.pop(0)
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_signals_are_handled_after_openvino_models_are_deleted():
    pytest.importorskip("openvino")
    process = subprocess.run([sys.executable, "-c", SIGNAL_AFTER_TWO_MODELS], capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "heard\n"), process.stderr


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not in shared/")
@pytest.mark.parametrize(("name", "kind"), [("street", "onnx"), ("street-int8", "onnx"), ("street", "openvino")])
def test_all_files_and_runners_score_the_same_on_images_of_the_training(name, kind):
    if kind == "openvino":
        pytest.importorskip("openvino")
    data = find_dataset(CAMVID)
    samples = data.split("val")[::5]
    reference = evaluate(load_runner(bundled("street")), data, samples)
    scores = evaluate(load_runner(bundled(name), kind), data, samples)
    assert scores.mean_iou > 0.8
    assert abs(scores.mean_iou - reference.mean_iou) < 0.015


def test_a_training_can_start_from_the_bundled_layers():
    pytest.importorskip("torch")
    from fullconv.net.checkpoint import load_net
    from fullconv.net.torch_runner import TorchRunner
    from fullconv.training.start import find_start

    path = find_start("street")
    assert path.name == "street.safetensors"
    assert path.stat().st_size < 5e6
    net, saved = load_net(path)
    image = np.random.default_rng(0).integers(0, 256, (1, 97, 131, 3), np.uint8)
    layers = TorchRunner(net, saved.labels, "cpu").label_maps(image)
    assert (layers == load_runner(bundled("street")).label_maps(image)).mean() > 0.98
    with refuses("start-is-exported", "street-int8.onnx"):
        find_start("street-int8")
