"""Classifiers by their names in timm, and from a file of the user's own."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from fullconv.errors import ModelError, UsageError
from fullconv.labels import LabelSet, voc_palette
from fullconv.net.backbones import classifier, input_size, is_classifier, load_weights, mean_std
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.fcn import FCN, build
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import convolutionalize
from mechanisms import conv

SIZE = (48, 64)
LABELS = LabelSet(("a", "b"), voc_palette(2))


def test_a_backbone_without_a_stride_says_so():
    model = nn.Sequential(conv(3, 8, 7, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    dense = convolutionalize(model, SIZE)
    with pytest.raises(ModelError, match="ends at stride 7, it has no FCN-8s"):
        FCN(dense, NetSpec("mine", 2, 8))


SMALL = ("test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_mambaout", "test_nfnet")


@pytest.mark.parametrize("name", SMALL)
def test_timms_small_models(name):
    pytest.importorskip("timm")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = classifier(name)[0].eval()
    size = input_size(name)
    assert size == (160, 160)
    dense = convolutionalize(model, size)
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        expected = model(image)
        atol = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(dense.module(image)[:, :, 0, 0], expected, atol=atol, rtol=1e-4)
    assert dense.module(torch.rand(1, 3, 192, 224)).shape[2:] == (2, 3)
    assert set(dense.module.state_dict()) == set(model.state_dict())


def test_timms_transformers_are_refused():
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=r"vector|attention|places"):
        convolutionalize(classifier("test_vit")[0], (160, 160))


MODULE = """
import torch
from torch import nn

def build():
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Conv2d(4, 6, 2, 2), nn.Flatten(), nn.Linear(6 * 35, 3))
    model.input_size = (40, 56)
    return model

number = 3

def fails():
    raise RuntimeError("no luck")

def gives_a_number():
    return 3
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "my_module.py"
    file.write_text(MODULE)
    return file


def test_a_users_own_module(own, tmp_path):
    name = f"{own}:build"
    assert is_classifier(name)
    assert input_size(name) == (40, 56)
    assert mean_std(name)[0] == (0.485, 0.456, 0.406)
    net = build(NetSpec(name, 2, 8))
    assert net.eval()(torch.zeros(1, 3, 50, 61)).shape == (1, 2, 50, 61)
    path = tmp_path / "net.safetensors"
    save_net(path, net.state_dict(), Saved(net.spec, LABELS))
    loaded, saved = load_net(path)
    assert saved.spec.model == name
    image = torch.rand(1, 3, 33, 47)
    torch.testing.assert_close(loaded(image), net(image))
    own.unlink()
    with pytest.raises(ModelError, match=r"there is no file .*my_module\.py, which a network of my_module\.py:build"):
        load_net(path)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("absent", r"has no function absent\(\)"),
        ("number", r"has no function number\(\)"),
        ("fails", r"fails\(\) failed: RuntimeError: no luck"),
        ("gives_a_number", r"gives int, not a torch\.nn\.Module"),
    ],
)
def test_a_module_that_cannot_be_built(own, function, sentence):
    with pytest.raises(ModelError, match=sentence):
        classifier(f"{own}:{function}")


def test_a_file_with_a_syntax_error(own):
    own.write_text("def build(:\n")
    with pytest.raises(ModelError, match="SyntaxError"):
        classifier(f"{own}:build")


def test_names_that_nobody_has():
    with pytest.raises(ModelError, match=r"no classifier is called 'vgg17' \(did you mean vgg1"):
        classifier("vgg17")
    assert not is_classifier("runs/one")
    assert is_classifier("timm/test_resnet")


def test_weights_may_lack_the_last_layer_only(own):
    model = classifier(f"{own}:build")[0]
    state = dict(model.state_dict())
    last = {key: state.pop(key) for key in ("4.weight", "4.bias")}
    assert load_weights(model, state, "a file") == set(last)
    state.pop("0.weight")
    with pytest.raises(ModelError, match=r"a file does not fit Sequential: 0\.weight is missing"):
        load_weights(model, state, "a file")


def test_head_width_needs_a_hidden_layer(own):
    with pytest.raises(UsageError, match="has no hidden linear layer"):
        build(NetSpec(f"{own}:build", 2, head_width=5))
