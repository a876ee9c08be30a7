"""`--device`: what runs on a GPU, and the sentence where there is none. The GPU is a pretended one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import fullconv  # before ONNX Runtime, whose telemetry it turns off
import fullconv.runtime.onnx as runtime
from command_line import run
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled
from refusals import refuses

STREET = bundled("street")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
NO_CUDA = pytest.mark.skipif(
    "CUDAExecutionProvider" in runtime.onnxruntime.get_available_providers(), reason="ONNX Runtime has CUDA here"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = build(NetSpec("digits", 2))
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_net(path, net.state_dict(), Saved(net.spec, LabelSet.named(["a", "b"])))
    return path


@NO_CUDA
def test_onnx_runtime_without_cuda_says_which_package_has_it() -> None:
    with refuses("no-such-device", "--device cuda", "onnxruntime-gpu"):
        fullconv.load("street", device="cuda")


@NO_GPU
def test_torch_without_a_gpu_says_so(weights: Path) -> None:
    with refuses("no-such-device", "--device cuda", "torch finds no NVIDIA GPU"):
        fullconv.load(weights, device="cuda")


def test_openvino_has_no_cuda() -> None:
    pytest.importorskip("openvino")
    with refuses("no-such-device", "OpenVINO", "--backend onnx"):
        load_runner(STREET, "openvino", device="cuda")


def test_other_devices_are_refused(weights: Path) -> None:
    with refuses("unknown-device", "'gpu'", "auto, cpu, cuda"):
        fullconv.load(weights, device="gpu")  # type: ignore[arg-type]


def test_a_gpu_that_does_not_start_is_not_replaced_by_the_cpu_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself only warns if CUDA's libraries are missing."""
    given = []

    def session(model: object, options: object, providers: list[str]) -> SimpleNamespace:
        given.append(providers)
        return SimpleNamespace(get_providers=lambda: providers[-1:])

    monkeypatch.setattr(
        runtime.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(runtime.onnxruntime, "InferenceSession", session)
    with refuses("no-such-device", "cannot start CUDA", "cuDNN"):
        load_runner(STREET, device="cuda")
    assert given == [["CUDAExecutionProvider", "CPUExecutionProvider"]]
    load_runner(STREET)
    assert given[1:] == [["CPUExecutionProvider"]]


def test_the_cpu_gives_the_labels_of_auto(weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    for model in (STREET, weights):
        maps = [fullconv.load(model, device=device).predict(image).label_map for device in ("auto", "cpu")]
        assert np.array_equal(*maps)
    assert fullconv.load(weights, device="cpu")._runner._runner.device.type == "cpu"  # type: ignore[attr-defined]


@NO_CUDA
@pytest.mark.parametrize("command", ["predict", "evaluate", "serve"])
def test_commands_pass_the_device_on(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "data" / name for name in ("images", "masks")]
    for folder in folders:
        folder.mkdir(parents=True)
        Image.new("RGB" if folder.name == "images" else "L", (40, 30), 1).save(folder / "a.png")
    (tmp_path / "data" / "classes.txt").write_text("\n".join(fullconv.load("street").labels.class_names) + "\n")
    rest = {
        "predict": [folders[0], "--out", tmp_path / "out"],
        "evaluate": [tmp_path / "data", "--split", "train"],
        "serve": ["--port", "0"],
    }
    if command == "serve":
        pytest.importorskip("fastapi")
    assert run(monkeypatch, command, "street", *rest[command], "--device", "cuda") != 0
    assert "onnxruntime-gpu" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.filterwarnings("ignore::Warning:lightning")
def test_a_training_on_the_cpu_runs_its_networks_there_and_scores_each_fold_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fold loads the teacher and the best weights; a finished one only the best weights."""
    devices, load = [], TorchRunner.load

    def spy(path: Path, device: str | None = None, *, code: str | None = None) -> TorchRunner:
        devices.append(device)
        return load(path, device, code=code)

    monkeypatch.setattr(TorchRunner, "load", staticmethod(spy))
    data, teacher = write_digit_dataset(tmp_path / "data", train=3, val=3, size=(48, 48)), tmp_path / "t.safetensors"
    net = build(NetSpec("digits", 11))
    save_net(teacher, net.state_dict(), Saved(net.spec, DIGIT_LABELS))

    def cross_validate(resume: bool) -> fullconv.TrainResult:
        return fullconv.train(
            data, model="digits", weights="none", epochs=1, batch=2, crop=32, folds=2, teacher=teacher,
            accelerator="cpu", out=tmp_path / "out", resume=resume,
        )  # fmt: skip

    first = cross_validate(resume=False)
    assert devices == ["cpu"] * 4
    assert cross_validate(resume=True).scores.to_dict() == first.scores.to_dict()
    assert devices == ["cpu"] * 6
