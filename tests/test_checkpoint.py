"""Weights in files: what is saved comes back, what does not fit is refused."""

from __future__ import annotations

import json
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from fullconv.errors import ModelError
from fullconv.labels import LabelSet
from fullconv.net.backbones import IMAGENET, PRETRAINED, build_classifier
from fullconv.net.checkpoint import Saved, find_weights, load_net, save_net
from fullconv.net.digit_net import digit_net
from fullconv.net.fcn import build
from fullconv.net.spec import NetSpec
from nets import lively, make

LABELS = LabelSet.named(["a", "b", "c"])


def test_a_checkpoint_gives_the_same_logits_to_the_bit(tmp_path):
    net = lively(make(NetSpec("digits", 3, 8)))
    saved = Saved(net.spec, LABELS, {"mean_iou": 0.5})
    save_net(tmp_path / "best.safetensors", net.state_dict(), saved)
    image = torch.randint(0, 256, (1, 3, 70, 41), dtype=torch.uint8)
    for path in (tmp_path, tmp_path / "best.safetensors"):
        again, description = load_net(path)
        assert description == saved
        assert not again.training
        assert torch.equal(again(image), net(image))
    assert [name for name, p in again.named_parameters() if not p.requires_grad] == []


def test_files_that_are_no_models_are_refused(tmp_path):
    net = make(NetSpec("digits", 3, 32))
    good = tmp_path / "good.safetensors"
    save_net(good, net.state_dict(), Saved(net.spec, LABELS))
    state, meta = net.state_dict(), {"spec": net.spec.to_dict(), "labels": LABELS.to_dict(), "notes": {}}

    def written(name: str, meta: dict[str, str] | None, state: dict[str, Tensor] = state):
        save_file(state, tmp_path / name, metadata=meta)
        return tmp_path / name

    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-1000])
    text = tmp_path / "text.safetensors"
    text.write_text("not a model")
    newer = {**meta, "spec": {**net.spec.to_dict(), "heads": 2}}
    wrong = {**meta, "spec": {**net.spec.to_dict(), "num_classes": 4}}
    cases = [
        (cut, "cut.safetensors cannot be read as safetensors"),
        (text, "text.safetensors cannot be read as safetensors"),
        (written("foreign.safetensors", None), "was not written by fullconv"),
        (written("odd.safetensors", {"fullconv": "{"}), "has a description that this version of fullconv cannot read"),
        (written("newer.safetensors", {"fullconv": json.dumps(newer)}), "cannot read: TypeError.*heads"),
        (written("wrong.safetensors", {"fullconv": json.dumps(wrong)}), "does not fit its own description"),
        (written("few.safetensors", {"fullconv": json.dumps(meta)}, {"mean": net.mean}), "does not fit its own"),
        (tmp_path, "holds no best.safetensors"),
        (tmp_path / "none", "there is no model .*none; name a run folder"),
    ]
    for path, sentence in cases:
        with pytest.raises(ModelError, match=sentence):
            load_net(path)
    assert find_weights(good) == good


def test_an_interrupted_write_leaves_the_last_good_file(tmp_path):
    net = make(NetSpec("digits", 3, 32))
    path = tmp_path / "best.safetensors"
    save_net(path, net.state_dict(), Saved(net.spec, LABELS))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_net(path, net.state_dict(), Saved(net.spec, LABELS, {"no": object()}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_come_from_files(tmp_path, suffix):
    state, path = digit_net().state_dict(), tmp_path / f"digits.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    model, missing = build_classifier("digits", path)
    assert missing == frozenset()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_features_without_a_head_give_a_fresh_head_with_norm(tmp_path):
    path = tmp_path / "features.safetensors"
    save_file({k: v for k, v in digit_net().half().state_dict().items() if k.startswith("features.")}, path)
    model, missing = build_classifier("digits", path)
    assert missing == {name for name in model.state_dict() if name.startswith("classifier.")}
    net = build(NetSpec("digits", 3, 32), path)
    assert net.spec.head_norm
    assert isinstance(net.head.norm6, nn.BatchNorm2d)
    assert not build(NetSpec("digits", 3, 32, norm=False), path).spec.head_norm
    full = tmp_path / "full.safetensors"
    save_file(digit_net().state_dict(), full)
    assert not build(NetSpec("digits", 3, 32), full).spec.head_norm
    assert build(NetSpec("digits", 3, 32, head_width=16), full).spec.head_norm


def test_weights_that_do_not_fit_are_refused(tmp_path):
    state = digit_net().state_dict()
    path = tmp_path / "weights.safetensors"
    (tmp_path / "text.pth").write_text("not weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers.pth")
    cases = [
        (
            {k: v for k, v in state.items() if k != "features.0.weight"},
            "features.0.weight is missing. The classifier's own names",
        ),
        ({**state, "features.0.weight": torch.zeros(1, 2)}, r"features.0.weight is \(1, 2\)"),
        ({"module." + k: v for k, v in state.items()}, "is missing; .* and [0-9]+ more. The classifier's own names"),
    ]
    for wrong, sentence in cases:
        save_file(wrong, path)
        with pytest.raises(ModelError, match=sentence):
            build_classifier("digits", path)
    for name in ("text.pth", "list.pth", "numbers.pth"):
        with pytest.raises(ModelError, match=rf"{name} (is not a plain|cannot be read|does not hold a) "):
            build_classifier("digits", tmp_path / name)
    with pytest.raises(ModelError, match=r"there is no weights file .*gone.pth; name a .safetensors or .pth file"):
        build_classifier("digits", tmp_path / "gone.pth")
    with pytest.raises(ModelError, match="no classifier is called 'lenet'"):
        build_classifier("lenet")
    with pytest.raises(ModelError, match="digits has no ImageNet weights"):
        build_classifier("digits", IMAGENET)


def test_without_a_network_the_remedy_is_named(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    entry = torchvision.models.get_model_weights("mobilenet_v2")["DEFAULT"]
    monkeypatch.setattr(type(entry), "get_state_dict", refuse)
    with pytest.raises(ModelError, match=r"no route to host.* Put the file at .*mobilenet_v2-.*pth, name a file"):
        build_classifier("mobilenet_v2", IMAGENET)


def test_the_features_that_come_along_need_no_network(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    model, missing = build_classifier("mobilenet_v2", PRETRAINED)
    assert {name.partition(".")[0] for name in missing if not name.endswith("num_batches_tracked")} == {"classifier"}
    random, _ = build_classifier("mobilenet_v2")
    assert model.features[18][0].weight.std() > 0
    assert not torch.equal(model.features[0][0].weight, random.features[0][0].weight)
