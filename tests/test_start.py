"""`--start`: a training that starts from a trained network, for the same classes or for others."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import fullconv
from command_line import run
from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import write_digit_dataset
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.runtime.models import bundled
from fullconv.training.job import Job, TrainingOptions, make_job
from fullconv.training.recipe import default_recipe
from fullconv.training.start import find_start
from fullconv.training.train import _build_network
from refusals import refuses

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")

SHORT = {"epochs": 1, "batch": 4, "crop": 64, "values": {"bf16": False, "ema": 0.0}}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digit_dataset(tmp_path_factory.mktemp("data") / "digits", train=6, val=2, size=(64, 80))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return images with two classes."""
    root = tmp_path_factory.mktemp("data") / "others"
    for name in ("a", "b", "c"):
        for folder, color in (("images", (9, 8, 7)), ("masks", 0)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB" if folder == "images" else "L", (80, 64), color)  # type: ignore[arg-type]
            image.paste((200, 100, 50) if folder == "images" else 1, (10, 10, 40, 40))  # type: ignore[arg-type]
            image.save(root / folder / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    fullconv.train(digits, out=out, model="digits", weights="none", stride=16, **SHORT)
    return out


def test_the_network_and_all_weights_are_those_of_the_start(digits: Path, trained: Path) -> None:
    dataset = find_dataset(digits)
    job = make_job(dataset, TrainingOptions(start=trained))
    first, saved = load_net(trained)
    assert job.spec == saved.spec
    reasons = {choice.name: choice.reason for choice in job.choices}
    assert "best.safetensors, from which the training starts" in reasons["backbone"]
    assert "best.safetensors, from which the training starts" in reasons["stride"]
    second = _build_network(job, dataset)
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in second.state_dict().items())


def test_other_classes_get_new_score_layers(others: Path, trained: Path, tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.INFO, "fullconv"):
        result = fullconv.train(others, out=tmp_path / "run", start=trained, stride=8, **SHORT)
    assert "new: score_fr, score_pool4, norm_pool3, score_pool3" in caplog.text
    first, second = load_net(trained)[0], load_net(result.folder)[0]
    assert (second.spec.num_classes, second.spec.stride, second.spec.model) == (2, 8, "digits")
    near = [
        float((value - first.state_dict()[name]).norm() / value.norm())
        for name, value in second.state_dict().items()
        if name.startswith("backbone.") and value.ndim == 4
    ]
    assert max(near) < 0.1, "one epoch has changed the trained layers a little"
    recipe = (result.folder / "recipe.yaml").read_text()
    assert f"start: {trained / 'best.safetensors'}" in recipe
    fullconv.train(others, out=result.folder, start=trained, stride=8, resume=True, **SHORT)
    with refuses("run-settings-differ", "start was"):
        fullconv.train(others, out=result.folder, model="digits", weights="none", stride=8, resume=True, **SHORT)


def test_options_of_the_network_are_refused_beside_a_start(
    digits: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--start", trained, "--model", "resnet18", "--decoder", "refined", "--out", trained / "x"]
    assert run(monkeypatch, "train", digits, *options) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "leave out --model and --decoder, or --start" in said
    with refuses("start-has-network", "street", "leave out --head-width, or --start"):
        TrainingOptions(start="street", head_width=9).check()


def test_late_layers_of_a_start_can_be_changed(trained: Path, digits: Path) -> None:
    dataset = find_dataset(digits)
    made = build(NetSpec("mobilenet_v2", dataset.labels.num_classes, stride=4, late="drop", decoder="refined"))
    save_net(trained / "wide.safetensors", made.state_dict(), Saved(made.spec, dataset.labels, {"settings": {}}))
    options = TrainingOptions(start=trained / "wide.safetensors", by_data=False)
    assert make_job(dataset, options).spec.late == "drop"
    job = make_job(dataset, replace(options, late="narrow"))
    assert replace(job.spec, late="drop") == made.spec
    narrow, new = _build_network(job, dataset).state_dict(), set()
    for name, value in made.state_dict().items():
        same = narrow[name].shape == value.shape and torch.equal(narrow[name], value)
        new |= set() if same else {name}
    assert new == {f"decoder.project_{skip}.0.weight" for skip in ("pool4", "pool3", "pool2")}


def test_a_folder_of_a_bundled_name_is_the_start_if_it_is_a_path(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "street")
    shutil.copy(trained / "best.safetensors", "street.safetensors")
    assert find_start("./street") == tmp_path / "street" / "best.safetensors"
    assert find_start(tmp_path / "street") == tmp_path / "street" / "best.safetensors"
    assert find_start("street") == bundled("street").with_suffix(".safetensors")
    with refuses("no-model", "mobilenet_v2"):
        find_start("mobilenet_v2")


def test_another_range_of_values_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = build(NetSpec("digits", 2, channels=4, value_range=(0.0, 3000.0)))
    path = tmp_path / "start.safetensors"
    save_net(path, net.state_dict(), Saved(net.spec, LabelSet.named(["a", "b"]), {"settings": {}}))
    there = SimpleNamespace(root=tmp_path)
    for bounds, warned in (((0.0, 3000.0), False), ((0.0, 10000.0), True)):
        caplog.clear()
        job = Job(replace(net.spec, value_range=bounds), default_recipe(), start=path)
        _build_network(job, there)  # type: ignore[arg-type]
        assert ("write range: [0, 3000] into dataset.yaml" in caplog.text) is warned


def test_what_cannot_be_a_start_is_told(digits: Path, trained: Path, tmp_path: Path) -> None:
    dataset = find_dataset(digits)
    (tmp_path / "model.onnx").write_bytes(b"any")
    with refuses("start-is-exported", "model.onnx", "run folder"):
        make_job(dataset, TrainingOptions(start=tmp_path / "model.onnx"))
    with refuses("no-model", "nothing-there"):
        make_job(dataset, TrainingOptions(start="nothing-there"))
    four = SimpleNamespace(root=digits, channels=4, labels=dataset.labels)
    with refuses("start-of-other-images", "3 channels", "has 4", "--start"):
        make_job(four, TrainingOptions(start=trained, by_data=False))  # type: ignore[arg-type]
