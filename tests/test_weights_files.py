"""Weights and checkpoints that are damaged or contradict themselves end in one sentence that names the file."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

import torch
from safetensors.torch import save_file

from fullconv.labels import LabelSet, voc_palette
from fullconv.net.checkpoint import Saved, load_net, read_saved, save_net
from fullconv.net.classifiers.weights import read_state
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.reference.published import read_layers, read_published
from fullconv.training.checkpointing import load_state
from refusals import refuses

LABELS = LabelSet(("a", "b"), voc_palette(2))

WRONG = [
    ("spec", "x"),
    ("spec", None),
    ("spec", [1]),
    ("labels", "class_names", ["a"]),
    ("labels", "class_names", None),
    ("labels", "palette", [[0, 0, 0]]),
    ("labels", "palette", [[0, 0, 300], [0, 0, 0]]),
    ("labels", None),
    ("notes", [1]),
    ("spec", "model", 7),
    ("spec", "model", ""),
    *(("spec", "num_classes", value) for value in (-1, 0, "x", 2.5, True, 200, 10**30)),
    *(("spec", "stride", value) for value in ("8", 0, 5, None, 64)),
    *(("spec", "head_width", value) for value in (1e12, -5, "x", 10**12)),
    *(("spec", "dilate", value) for value in ("x", float("inf"), 3)),
    *(("spec", "channels", value) for value in (0, -4, "3")),
    *(("spec", "value_range", value) for value in ([1], [0, 0], [5, 1], [0, float("nan")], "ab")),
    *(("spec", "upsample", value) for value in ("foo", None)),
    ("spec", "padding", "foo"),
    ("spec", "norm", "yes"),
    ("spec", "unknown", 1),
    ("spec", "code_sha256", "x"),
]


@pytest.fixture(scope="module")
def net():
    return build(NetSpec("digits", 2, 32))


def write(path, net, *change, state=None):
    values = {"spec": net.spec.to_dict(), "labels": LABELS.to_dict(), "notes": {}}
    if change:
        *where, key, value = change
        part = values
        for name in where:
            part = part[name]
        part[key] = value
    save_file(state or net.state_dict(), path, metadata={"fullconv": json.dumps(values)})
    return path


@pytest.mark.parametrize("change", WRONG, ids=lambda change: "-".join(map(str, change))[:40])
def test_wrong_descriptions_are_refused(net, tmp_path, change):
    path = write(tmp_path / "net.safetensors", net, *change)
    for read in (read_saved, load_net):
        with refuses("unreadable-description", path) as refusal:
            read(path)
        assert len(refusal.message) < 500


def test_deep_descriptions_are_refused(net, tmp_path):
    path = tmp_path / "net.safetensors"
    for text in ("[" * 200_000, '{"spec": ' * 100_000, "9" * 5000, "null"):
        save_file(net.state_dict(), path, metadata={"fullconv": text})
        with refuses("unreadable-description", path):
            read_saved(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(net, tmp_path, number):
    state = {name: value.clone() for name, value in net.state_dict().items()}
    state["score_fr.bias"][0] = number
    path = write(tmp_path / "net.safetensors", net, state=state)
    with refuses("weights-not-finite", path, "score_fr.bias"):
        load_net(path)


def test_weights_of_another_type_or_shape_are_refused_before_memory_is_taken(net, tmp_path):
    path = tmp_path / "net.safetensors"
    for change in (lambda value: value.double(), lambda value: value[:1].clone()):
        state = dict(net.state_dict())
        state["score_fr.weight"] = change(state["score_fr.weight"])
        with refuses("weights-differ-from-description", path, "score_fr.weight"):
            load_net(write(path, net, state=state))
    save_net(path, net.state_dict(), Saved(net.spec, LABELS))
    assert load_net(path)[0].spec == net.spec


STATE = {"step": 3, "validated": 2, "seconds": 1.0, "best": 0.5, "losses": [1.0], "rows": [{"epoch": 1.0}]}


def checkpoint(**changes):
    return {"fullconv": STATE, "state_dict": {"a": torch.zeros(2)}, "optimizer_states": [{}], **changes}


@pytest.mark.parametrize(
    "values",
    [
        7,
        [],
        {},
        checkpoint(fullconv=None),
        checkpoint(fullconv={**STATE, "step": -1}),
        checkpoint(fullconv={**STATE, "step": "x"}),
        checkpoint(fullconv={**STATE, "step": "3"}),
        checkpoint(fullconv={**STATE, "step": 3.5}),
        checkpoint(fullconv={**STATE, "odd": 1}),
        checkpoint(fullconv={**STATE, "validated": 10**15}),
        checkpoint(fullconv={**STATE, "seconds": float("nan")}),
        checkpoint(fullconv={**STATE, "losses": 7}),
        checkpoint(fullconv={**STATE, "rows": [{"epoch": "x"}]}),
        checkpoint(state_dict=None),
        checkpoint(state_dict={1: torch.zeros(2)}),
        checkpoint(state_dict={"a": 1}),
        checkpoint(optimizer_states=None),
        checkpoint(optimizer_states=[7]),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path, values):
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint(), path)
    assert load_state(path)[0].step == 3
    torch.save(values, path)
    with refuses("unreadable-checkpoint", path) as refusal:
        load_state(path)
    assert "weights_only" not in refusal.message


def test_a_checkpoint_with_code_gets_no_advice_to_run_it(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"fullconv": LabelSet}, path)
    for content in (path.read_bytes(), b"", b"PK", b"\x80\x02cos\nsystem\n", path.read_bytes()[:200]):
        path.write_bytes(content)
        with refuses("unreadable-checkpoint", path) as refusal:
            load_state(path)
        assert "weights_only" not in refusal.message


def test_published_weights_with_odd_shapes_are_refused(tmp_path):
    path = tmp_path / "net.npz"
    for array in (np.zeros(()), np.zeros((0, 4096, 1, 1)), np.zeros((300, 2, 1, 1))):
        np.savez(path, **{"score_fr.weight": array})
        with refuses("not-a-published-net", path):
            read_published(path)
    np.savez(path, **{"score_fr.weight": np.full((2, 2, 1, 1), np.nan)})
    with refuses("weights-not-finite", path):
        read_published(path)
    torch.save({1: torch.zeros(2)}, tmp_path / "net.pth")
    with refuses("unreadable-weights", "net.pth"):
        read_state(tmp_path / "net.pth")


def test_damaged_archives_are_refused(tmp_path):
    path = tmp_path / "net.npz"
    np.savez_compressed(path, a=np.arange(1000.0))
    content = bytearray(path.read_bytes())
    content[80:120] = b"\xff" * 40
    path.write_bytes(content)
    with refuses("unreadable-npz", path):
        read_layers(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", "x")
    with refuses("unreadable-npz", path):
        read_layers(path)
