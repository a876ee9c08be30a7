"""Model files: round trips, and refusals of files that are damaged or do not fit."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, find_weights, load_net, save_net
from fullconv.net.classifiers.backbones import IMAGENET, PRETRAINED, build_classifier, bundled_weights
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from nets import lively, make
from refusals import refuses

LABELS = LabelSet.named(["a", "b", "c"])


def test_loaded_network_has_bit_identical_logits(tmp_path):
    net = lively(make(NetSpec("digits", 3, 8)))
    saved = Saved(net.spec, LABELS, {"mean_iou": 0.5})
    save_net(tmp_path / "best.safetensors", net.state_dict(), saved)
    image = torch.randint(0, 256, (1, 3, 70, 41), dtype=torch.uint8)
    for path in (tmp_path, tmp_path / "best.safetensors"):
        loaded, description = load_net(path)
        assert description == saved
        assert not loaded.training
        assert torch.equal(loaded(image), net(image))
    assert [name for name, p in loaded.named_parameters() if not p.requires_grad] == []


def test_float16_kernels_are_read_as_float32(tmp_path):
    net = build(NetSpec("digits", 3))
    halves = {name: value.half() if value.ndim > 1 else value for name, value in net.state_dict().items()}
    save_net(tmp_path / "half.safetensors", {**halves, "mean": net.mean, "std": net.std}, Saved(net.spec, LABELS))
    loaded, _ = load_net(tmp_path / "half.safetensors")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32, torch.int64}
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_damaged_and_foreign_model_files_are_refused(tmp_path):
    net = make(NetSpec("digits", 3, 32))
    good = tmp_path / "good.safetensors"
    save_net(good, net.state_dict(), Saved(net.spec, LABELS))
    state, meta = net.state_dict(), {"spec": net.spec.to_dict(), "labels": LABELS.to_dict(), "notes": {}}

    def write(name: str, meta: dict[str, str] | None, state: dict[str, Tensor] = state):
        save_file(state, tmp_path / name, metadata=meta)
        return tmp_path / name

    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-1000])
    text = tmp_path / "text.safetensors"
    text.write_text("not a model")
    newer = {**meta, "spec": {**net.spec.to_dict(), "heads": 2}}
    wrong = {**meta, "spec": {**net.spec.to_dict(), "num_classes": 4}, "labels": LabelSet.named(list("abcd")).to_dict()}
    cases = [
        (cut, "unreadable-safetensors", "cut.safetensors"),
        (text, "unreadable-safetensors", "text.safetensors"),
        (write("foreign.safetensors", None), "not-written-by-fullconv", "foreign.safetensors"),
        (write("odd.safetensors", {"fullconv": "{"}), "unreadable-description", "odd.safetensors"),
        (write("newer.safetensors", {"fullconv": json.dumps(newer)}), "unreadable-description", "heads"),
        (write("wrong.safetensors", {"fullconv": json.dumps(wrong)}), "weights-differ-from-description", "wrong"),
        (
            write("few.safetensors", {"fullconv": json.dumps(meta)}, {"mean": net.mean}),
            "weights-differ-from-description",
            "few",
        ),
        (tmp_path, "no-best-weights", "run folder"),
        (tmp_path / "none", "no-model", "none"),
    ]
    for path, code, value in cases:
        with refuses(code, value):
            load_net(path)
    assert find_weights(good) == good


def test_failed_write_leaves_the_previous_file(tmp_path):
    net = make(NetSpec("digits", 3, 32))
    path = tmp_path / "best.safetensors"
    save_net(path, net.state_dict(), Saved(net.spec, LABELS))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_net(path, net.state_dict(), Saved(net.spec, LABELS, {"no": object()}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_are_read_from_files(tmp_path, suffix):
    state, path = digit_net().state_dict(), tmp_path / f"digits.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    model, missing = build_classifier("digits", path)
    assert missing == frozenset()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_weights_without_a_head_give_a_random_head_with_norm(tmp_path):
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
    cases = [
        ({k: v for k, v in state.items() if k != "features.0.weight"}, "features.0.weight is missing"),
        ({**state, "features.0.weight": torch.zeros(1, 2)}, "features.0.weight is (1, 2)"),
        ({"module." + k: v for k, v in state.items()}, "more; it must have the classifier's own parameter names"),
    ]
    for wrong, value in cases:
        save_file(wrong, path)
        with refuses("weights-do-not-fit", "weights.safetensors", value):
            build_classifier("digits", path)


def test_unreadable_and_missing_weights_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("not weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers.pth")
    for name in ("text.pth", "list.pth", "numbers.pth"):
        with refuses("unreadable-weights", name):
            build_classifier("digits", tmp_path / name)
    with refuses("no-weights-file", "gone.pth", ".safetensors or .pth"):
        build_classifier("digits", tmp_path / "gone.pth")
    with refuses("unknown-classifier", "'lenet'"):
        build_classifier("lenet")
    with refuses("no-imagenet-weights", "digits"):
        build_classifier("digits", IMAGENET)


def test_failed_download_names_the_file_and_its_folder(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    entry = torchvision.models.get_model_weights("mobilenet_v2")["DEFAULT"]
    monkeypatch.setattr(type(entry), "get_state_dict", refuse)
    with refuses("download-failed", "no route to host", entry.url, "checkpoints/mobilenet_v2-"):
        build_classifier("mobilenet_v2", IMAGENET)


def test_weights_of_efficientnet_lite_are_bundled():
    """They are whole: 300 tensors of finite numbers, with the epsilon of their training."""
    pytest.importorskip("timm")
    model, missing = build_classifier("efficientnet_lite0", PRETRAINED)
    assert missing == {"classifier.weight", "classifier.bias"}
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert model.conv_head.weight.std() > 0
    timm_model, _ = build_classifier("timm/efficientnet_lite0")
    assert timm_model.bn1.eps == 1e-5
    size = bundled_weights("efficientnet_lite0").stat().st_size
    assert 6e6 < size < 7e6


def test_bundled_weights_need_no_network(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    model, missing = build_classifier("mobilenet_v2", PRETRAINED)
    assert {name.partition(".")[0] for name in missing if not name.endswith("num_batches_tracked")} == {"classifier"}
    random, _ = build_classifier("mobilenet_v2")
    assert model.features[18][0].weight.std() > 0
    assert not torch.equal(model.features[0][0].weight, random.features[0][0].weight)


@pytest.mark.parametrize(
    "name", [*(f"densenet{n}" for n in (121, 161, 169, 201)), *(f"mnasnet{n}" for n in ("0_5", "0_75", "1_0", "1_3"))]
)
def test_weights_of_old_torchvision_models_are_loaded(name, monkeypatch, tmp_path):
    """DenseNet's files have the names of an older model, and MNASNet needs the version of the state dict."""
    model, _ = build_classifier(name)
    published = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): torch.full_like(value, 2)
        for key, value in model.state_dict().items()
    }
    assert (set(published) == set(model.state_dict())) == name.startswith("mnasnet")
    entry = torchvision.models.get_model_weights(name)["DEFAULT"]
    monkeypatch.setattr(type(entry), "get_state_dict", lambda *args, **kwargs: OrderedDict(published))
    torch.save(published, tmp_path / "file.pth")
    for weights in (PRETRAINED, tmp_path / "file.pth"):
        model, missing = build_classifier(name, weights)
        assert not missing
        assert all((value == 2).all() for value in model.state_dict().values())
