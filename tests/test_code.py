"""Weights and run folders run no code that the user did not name in the same call."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import fullconv
from command_line import run

pytest.importorskip("torch")

from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from fullconv.data.dataset import DataSet
from fullconv.labels import LabelSet, voc_palette
from fullconv.net.checkpoint import Saved, load_classifier, load_net, read_saved, save_classifier, save_net
from fullconv.net.classifiers.user_file import allow_code
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.job import TrainingOptions, make_job
from fullconv.training.run.settings import _compare_settings
from refusals import matches, refuses

LABELS = LabelSet(("a", "b"), voc_palette(2))

MODULE = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("ran.txt").write_text("x")

def build():
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 6, 2, 2), nn.Flatten(), nn.Linear(6 * 35, 3))
    model.input_size = (40, 56)
    return model
"""


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Path, Path]:
    """Return a custom classifier's file and a run folder of it; the file has not run since."""
    file, folder = tmp_path / "code" / "net.py", tmp_path / "run"
    file.parent.mkdir()
    file.write_text(MODULE)
    net = build(NetSpec(f"{file}:build", 2, 8))
    save_net(folder / "best.safetensors", net.state_dict(), Saved(net.spec, LABELS))
    (file.parent / "ran.txt").unlink()
    return file, folder


def ran(file: Path) -> bool:
    return file.with_name("ran.txt").exists()


def describe_as(weights: Path, model: str, sha256: str | None) -> None:
    """Write another classifier into the description of the weights."""
    with safe_open(weights, framework="pt") as file:
        values, state = json.loads(file.metadata()["fullconv"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    values["spec"] |= {"model": model, "code_sha256": sha256}
    save_file(state, weights, metadata={"fullconv": json.dumps(values)})


def test_code_that_is_the_same_at_the_same_path_runs(trained):
    file, folder = trained
    assert read_saved(folder).spec.code_sha256 == allow_hash(file)
    load_net(folder)
    assert ran(file)


def allow_hash(file: Path) -> str:
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_changed_code_runs_only_if_it_is_named(trained, monkeypatch):
    file, folder = trained
    file.write_text(MODULE + "\n")
    monkeypatch.chdir(file.parent)
    with refuses("code-not-named", folder / "best.safetensors", "build()", file, "not the file of the training"):
        load_net(folder)
    assert not ran(file)
    assert load_net(folder, "net.py")[1].spec.model == f"{file.resolve()}:build"
    assert load_net(folder, f"{file}:build")[1].spec.code_sha256 == allow_hash(file)


def test_moved_code_is_not_looked_for(trained, tmp_path, monkeypatch):
    file, folder = trained
    for place in (folder, tmp_path, tmp_path / "other"):  # next to the weights, their parent, the current folder
        place.mkdir(exist_ok=True)
        file = file.rename(place / "net.py")
        monkeypatch.chdir(place)
        with refuses("code-not-named", "there is no such file"):
            load_net(folder)
        assert not ran(file)
    load_net(folder, file)
    assert ran(file)
    with refuses("no-classifier-file", "gone.py"):
        load_net(folder, "gone.py")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("net.py", "not an absolute path"),
        ("../code/net.py", "not an absolute path"),
        ("{}/net.py", "the SHA-256"),
        ("//host/share/net.py", "another computer"),
        (r"\\host\share\net.py", "another computer"),
        (r"\\.\pipe\net.py", "another computer"),
    ],
)
def test_descriptions_of_strangers_run_no_code(trained, monkeypatch, path, reason):
    file, folder = trained
    sha256 = None if reason == "the SHA-256" else allow_hash(file)
    describe_as(folder / "best.safetensors", f"{path.format(file.parent)}:build", sha256)
    monkeypatch.chdir(file.parent)
    with refuses("code-not-named", reason.replace("the SHA", "whose SHA")):
        load_net(folder)
    assert not ran(file)


def test_classifiers_with_their_classes_follow_the_same_rule(trained, tmp_path):
    file, _ = trained
    net = build_net(file)
    weights = tmp_path / "classifier.safetensors"
    save_classifier(weights, f"{file}:build", net, LabelSet(("a", "b", "c"), voc_palette(3)))
    assert load_classifier(weights)[1] == (40, 56)
    moved = file.rename(tmp_path / "net.py")
    with refuses("code-not-named", "there is no such file"):
        load_classifier(weights)
    assert load_classifier(weights, moved)[1] == (40, 56)


def build_net(file: Path) -> nn.Module:
    from fullconv.net.classifiers.backbones import build_classifier

    return build_classifier(f"{file}:build")[0]


def test_every_command_that_loads_a_model_takes_the_code(trained, tmp_path, monkeypatch, capsys):
    file, folder = trained
    moved = file.rename(tmp_path / "elsewhere.py")
    data = tmp_path / "data"
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (data / kind / split).mkdir(parents=True)
    for split in ("train", "val"):
        Image.fromarray(np.zeros((40, 56, 3), np.uint8)).save(data / "images" / split / "a.png")
        Image.fromarray(np.eye(40, 56, dtype=np.uint8)).save(data / "masks" / split / "a.png")
    (data / "classes.txt").write_text("a\nb\n")
    photo = data / "images" / "val" / "a.png"
    commands = {
        "inspect": [folder],
        "predict": [folder, photo, "--out", tmp_path / "out"],
        "evaluate": [folder, data],
        "report": [folder, data],
        "export": [folder],
    }
    for name, arguments in commands.items():
        assert run(monkeypatch, name, *arguments) == 4
        assert "--model-code" in capsys.readouterr().err
        assert not ran(moved)
    monkeypatch.chdir(tmp_path)
    for name, arguments in commands.items():
        assert run(monkeypatch, name, *arguments, "--model-code", "elsewhere.py") == 0, capsys.readouterr().err
        assert ran(moved)
    assert run(monkeypatch, "predict", folder, photo, "--out", tmp_path / "p", "--patchwise", "--step", "32") == 4
    patchwise = ["--patchwise", "--step", "32", "--model-code", moved]
    assert run(monkeypatch, "predict", folder, photo, "--out", tmp_path / "p", *patchwise) == 0


def test_code_that_a_model_does_not_need_is_refused(trained, tmp_path, monkeypatch, capsys):
    file, folder = trained
    exported = fullconv.export(folder, tmp_path / "net.onnx").path
    for arguments in (("digits",), ("digits", "--check"), (f"{file}:build", "--check")):
        assert run(monkeypatch, "inspect", *arguments, "--model-code", file) == 2
        assert matches("code-not-needed", capsys.readouterr().err.strip().removeprefix("fullconv: "))
    with refuses("code-not-needed", exported):
        fullconv.load(exported, code=file)
    shutil.copy(exported, folder / "model.onnx")
    for model in (exported, folder, "street"):
        with refuses("code-not-needed", ".onnx"):
            fullconv.export_profile(model, tmp_path / "map.onnx", profile="deepness", code=file)
        with refuses("code-not-needed", ".onnx"):
            fullconv.export_web(model, tmp_path / "page", code=file)
    with refuses("code-not-needed", "digits.safetensors"):
        allow_code("digits", None, tmp_path / "digits.safetensors", file)


def test_python_takes_the_code_too(trained, tmp_path):
    file, folder = trained
    moved = file.rename(tmp_path / "elsewhere.py")
    with refuses("code-not-named"):
        fullconv.load(folder)
    model = fullconv.load(folder, code=moved)
    image = np.zeros((40, 56, 3), np.uint8)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(image).label_map, model.predict(image).label_map)
    with refuses("code-not-named"):
        fullconv.export(folder)
    assert fullconv.export(folder, tmp_path / "net.onnx", code=moved).path.exists()


def test_the_code_in_the_cache_of_python_does_not_run(trained):
    file, folder = trained
    import py_compile

    other = file.with_name("other.py")
    other.write_text(MODULE.replace("ran.txt", "bad.txt").ljust(len(MODULE)))
    py_compile.compile(str(other), cfile=__import__("importlib").util.cache_from_source(str(file)), doraise=True)
    shutil.copystat(other, file)
    load_net(folder)
    assert ran(file)
    assert not file.with_name("bad.txt").exists()


def test_a_job_records_the_hash_and_a_changed_file_may_resume(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(MODULE)
    dataset = DataSet("folder", tmp_path, LABELS, {})
    settings = make_job(dataset, TrainingOptions(f"{file}:build", by_data=False)).spec.to_dict()
    assert settings["code_sha256"] == allow_hash(file)
    file.write_text(MODULE + "\n")
    changed = make_job(dataset, TrainingOptions(f"{file}:build", by_data=False)).spec.to_dict()
    assert changed != settings
    assert _compare_settings(settings, changed) == {}
    assert "code_sha256" not in NetSpec("vgg16", 2).to_dict()


def test_a_function_of_another_model_in_the_file_is_refused(trained):
    file, folder = trained
    describe_as(folder / "best.safetensors", "/gone/net.py:absent", None)
    with refuses("no-classifier-function", "absent()"):
        load_net(folder, file)
