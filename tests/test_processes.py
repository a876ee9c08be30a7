"""Models and results in threads and in other processes: forked, spawned, pickled. Nothing hangs."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

import fullconv
from fullconv.errors import DataError, FullconvError, Interrupted, MissingExtra, ModelError, UsageError
from fullconv.faults import Fault
from fullconv.files import write_text
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.onnx_export import export
from fullconv.predict.model import Model
from fullconv.predict.result import Result
from fullconv.runtime.load import load_runner
from fullconv.runtime.runner import Runner
from refusals import refuses

UInt8 = npt.NDArray[np.uint8]
LABELS = LabelSet.named(["road", "car", "person"])
KINDS = ("bundled", "run", "exported", "openvino")
FORKS = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")

FORKED = """
import os, sys, threading, time
import numpy as np
import fullconv

model = fullconv.load(sys.argv[1], sys.argv[2] or None)
busy, forks = map(int, sys.argv[3:5])
image = sys.argv[5] if sys.argv[5:] else np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
expected = model.predict(image).label_map

def work():
    while True:
        model.predict(image)

for _ in range(busy):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
for _ in range(forks):
    child = os.fork()
    if not child:
        same = np.array_equal(model.predict(image).label_map, expected)
        sys.exit(0 if same else 5)  # as a worker of gunicorn ends
    assert os.waitpid(child, 0)[1] == 0
print("the children gave the same labels", flush=True)
os._exit(0)
"""

SPAWNED = """
import multiprocessing, sys
import numpy as np
import fullconv

def work(model, image):
    return model.predict(image)

if __name__ == "__main__":
    model = fullconv.load(sys.argv[1], sys.argv[2] or None)
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    with multiprocessing.get_context(sys.argv[3]).Pool(2) as pool:
        results = pool.starmap(work, [(model, image)] * 4)
    expected = model.predict(image)
    for result in results:
        assert np.array_equal(result.label_map, expected.label_map)
        assert np.allclose(result.logits, expected.logits, atol=1e-4)
    print("the workers gave the same results")
"""


def noise(height: int = 61, width: int = 90, seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with random weights and its exported model."""
    torch.manual_seed(0)
    net = build(NetSpec("digits", 3, 8))
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("run")
    save_net(folder / "best.safetensors", net.state_dict(), Saved(net.spec, LABELS))
    export(folder, folder / "model.onnx")
    return folder


def source(kind: str, run: Path) -> tuple[str, Any]:
    """Return the arguments of `fullconv.load`."""
    if kind == "openvino":
        pytest.importorskip("openvino")
    return {
        "bundled": ("street", None),
        "run": (str(run), None),
        "exported": (str(run / "model.onnx"), None),
        "openvino": (str(run / "model.onnx"), "openvino"),
    }[kind]


def run_script(tmp_path: Path, text: str, kind: str, run: Path, *arguments: str) -> str:
    """Run a script in a process that has all its threads; it fails after five minutes."""
    script = tmp_path / "script.py"
    write_text(script, text)
    model, backend = source(kind, run)
    command = [sys.executable, str(script), model, backend or "", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_a_model(kind: str, run: Path) -> None:
    model = fullconv.load(*source(kind, run))
    images = [noise(61 + 8 * (i % 3), 90, i) for i in range(12)]
    expected = [model.predict(image).label_map for image in images]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(model.predict, images))
    assert all(np.array_equal(r.label_map, e) for r, e in zip(results, expected, strict=True))


@FORKS
@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_predicts_and_ends(kind: str, run: Path, tmp_path: Path) -> None:
    assert "same labels" in run_script(tmp_path, FORKED, kind, run, "0", "3")


@FORKS
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_forks_while_another_thread_predicts(kind: str, run: Path, tmp_path: Path) -> None:
    assert "same labels" in run_script(tmp_path, FORKED, kind, run, "1", "3")


@FORKS
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_children_of_a_busy_process_label_files(suffix: str, run: Path, tmp_path: Path) -> None:
    image = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(240, 320)).save(image)
    assert "same labels" in run_script(tmp_path, FORKED, "bundled", run, "2", "12", str(image))


@pytest.mark.parametrize("kind", ["bundled", "run"])
def test_a_pool_of_spawned_workers_takes_models_and_returns_results(kind: str, run: Path, tmp_path: Path) -> None:
    assert "same results" in run_script(tmp_path, SPAWNED, kind, run, "spawn")


@FORKS
@pytest.mark.parametrize("kind", ["run", "openvino"])
def test_a_pool_of_forked_workers_takes_models_and_returns_results(kind: str, run: Path, tmp_path: Path) -> None:
    assert "same results" in run_script(tmp_path, SPAWNED, kind, run, "fork")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_pickled_without_weights(kind: str, run: Path) -> None:
    model = fullconv.load(*source(kind, run))
    text = pickle.dumps(model)
    assert len(text) < 10_000
    copy: Model = pickle.loads(text)
    assert copy.labels == model.labels
    assert repr(copy) == repr(model)
    assert np.array_equal(copy.predict(noise()).label_map, model.predict(noise()).label_map)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_pickled_with_its_arrays(kind: str, run: Path) -> None:
    result = fullconv.load(*source(kind, run)).predict(noise())
    copy: Result = pickle.loads(pickle.dumps(result))
    assert np.array_equal(copy.label_map, result.label_map)
    assert np.array_equal(copy.image, result.image)
    assert copy.areas() == result.areas()
    assert "logits" not in vars(copy)
    assert np.allclose(copy.logits, result.logits, atol=1e-4)
    with_logits: Result = pickle.loads(pickle.dumps(result))
    assert np.array_equal(vars(with_logits)["logits"], result.logits)


def test_a_result_of_tiles_is_pickled(run: Path) -> None:
    result = fullconv.load(run).predict(noise(2100, 2100))
    copy: Result = pickle.loads(pickle.dumps(result))
    assert np.array_equal(copy.label_map, result.label_map)
    assert copy.labels == LABELS


def test_unpickled_objects_load_a_model_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fullconv.runtime import reloadable

    calls: list[Path] = []
    text = pickle.dumps(fullconv.load(run))
    reloadable._load_once.cache_clear()

    def load(path: Path, backend: Any, code: Any, device: Any) -> Runner:
        calls.append(path)
        return load_runner(path, backend, code, device=device)

    monkeypatch.setattr(reloadable, "load_runner", load)
    models = [pickle.loads(text) for _ in range(3)]
    assert calls == []
    for model in models:
        model.predict(noise())
    assert calls == [run]


def test_a_relative_path_is_found_from_another_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    text = pickle.dumps(fullconv.load(run.name))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(text).predict(noise()).label_map.shape == (61, 90)


def test_a_lost_or_changed_model_is_an_error(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    text = pickle.dumps(fullconv.load(folder))
    net = build(NetSpec("digits", 4, 8))
    save_net(folder / "best.safetensors", net.state_dict(), Saved(net.spec, LabelSet.named(list("abcd"))))
    with refuses("model-changed", folder):
        pickle.loads(text).predict(noise())
    shutil.rmtree(folder)
    with refuses("no-model", folder):
        pickle.loads(text).predict(noise())


def test_errors_are_pickled() -> None:
    fault = Fault("unreadable-file", Path("a.png"), "is damaged", "correct it")
    errors = [
        FullconvError("failed"),
        UsageError("wrong", code="unknown-backend"),
        MissingExtra("openvino", "openvino", Path("a.onnx")),
        DataError("2 faults", [fault], details=["more"]),
        DataError.of(fault),
        ModelError("lost", code="no-model"),
        Interrupted("stopped", code="stopped-by-signal"),
    ]
    for error in errors:
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert copy.code == error.code
        assert vars(copy) == vars(error)
