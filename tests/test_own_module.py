"""Classifiers of timm, by name, and custom classifiers from a Python file."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest
import torch
import torchvision
from torch import nn

from fullconv.data.dataset import DataSet
from fullconv.labels import LabelSet, voc_palette
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.classifiers.backbones import (
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STD,
    PRETRAINED,
    build_classifier,
    input_size,
    is_classifier,
    mean_std,
)
from fullconv.net.classifiers.weights import load_weights
from fullconv.net.fcn.network import FCN, build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.network import inspect_classifier, inspect_fcn
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.training.job import TrainingOptions, make_job
from mechanisms import conv
from refusals import refuses

SIZE = (48, 64)
LABELS = LabelSet(("a", "b"), voc_palette(2))


def test_a_backbone_without_a_map_at_the_stride_is_refused():
    model = nn.Sequential(conv(3, 8, 7, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    dense = convolutionalize(model, SIZE)
    with refuses("no-map-at-stride", "FCN-8s", "stride 7"):
        FCN(dense, NetSpec("mine", 2, 8))


SMALL = ("test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_mambaout", "test_nfnet")


@pytest.mark.parametrize("name", SMALL)
def test_small_timm_models_have_a_dense_form(name):
    pytest.importorskip("timm")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build_classifier(name)[0].eval()
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


def test_timm_transformers_are_refused():
    pytest.importorskip("timm")
    with refuses("attention"):
        convolutionalize(build_classifier("test_vit")[0], (160, 160))


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
def user_file(tmp_path):
    file = tmp_path / "my_module.py"
    file.write_text(MODULE)
    return file


def test_a_custom_classifier_is_built_saved_and_read_back(user_file, tmp_path):
    name = f"{user_file}:build"
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
    user_file.unlink()
    with refuses("code-not-named", user_file, "build()", "there is no such file"):
        load_net(path)


@pytest.mark.parametrize(
    ("function", "code", "value"),
    [
        ("absent", "no-classifier-function", "absent()"),
        ("number", "no-classifier-function", "number()"),
        ("fails", "classifier-function-failed", "RuntimeError: no luck"),
        ("gives_a_number", "not-a-module", "int"),
    ],
)
def test_a_function_that_returns_no_classifier_is_refused(user_file, function, code, value):
    with refuses(code, user_file, value):
        build_classifier(f"{user_file}:{function}")


def test_a_file_with_a_syntax_error_is_refused(user_file):
    user_file.write_text("def build(:\n")
    with refuses("classifier-function-failed", user_file, "SyntaxError"):
        build_classifier(f"{user_file}:build")


def test_unknown_names_are_refused_with_a_suggestion():
    with refuses("unknown-classifier", "'vgg17'", "did you mean vgg1"):
        build_classifier("vgg17")
    assert not is_classifier("runs/one")
    assert is_classifier("timm/test_resnet")


def test_weights_may_lack_only_the_last_layer(user_file):
    model = build_classifier(f"{user_file}:build")[0]
    state = dict(model.state_dict())
    last = {key: state.pop(key) for key in ("4.weight", "4.bias")}
    assert load_weights(model, state, "a file") == set(last)
    state.pop("0.weight")
    with refuses("weights-do-not-fit", "a file does not fit Sequential: 0.weight is missing"):
        load_weights(model, state, "a file")


def test_head_width_needs_a_hidden_layer(user_file):
    with refuses("no-hidden-layer", "--head-width"):
        build(NetSpec(f"{user_file}:build", 2, head_width=5))


READS = """
import torch
from torch import nn

def build():
    torch.manual_seed(7)
    rates = [rate.item() for rate in torch.linspace(0, 0.5, 3)]
    hidden = [nn.Conv2d(4, 6, 8, 8), nn.Flatten(), nn.Linear(6 * 9, 8), nn.ReLU(), nn.Dropout(rates[1])]
    model = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), *hidden, nn.Linear(8, 3))
    model.input_size = 96
    return model
"""


@pytest.mark.parametrize("name", ["regnet_x_400mf", "custom"])
def test_constructors_that_read_values_of_tensors_are_supported(name, tmp_path):
    file = tmp_path / "reads.py"
    file.write_text(READS)
    name = f"{file}:build" if name == "custom" else name
    net = build(NetSpec(name, 2, 32)).eval()
    nn.init.normal_(net.score_fr.weight)
    save_net(tmp_path / "best.safetensors", net.state_dict(), Saved(net.spec, LABELS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, saved = load_net(tmp_path)
        assert inspect_fcn(saved.spec).params == sum(p.numel() for p in net.parameters())
        assert inspect_classifier(name).params == sum(p.numel() for p in build_classifier(name)[0].parameters())
    image = torch.rand(1, 3, 64, 70)
    assert torch.equal(loaded(image), net(image))


def test_pretrained_weights_of_a_custom_classifier_are_those_that_its_function_returns(tmp_path):
    file = tmp_path / "reads.py"
    file.write_text(READS)
    name = f"{file}:build"
    state = build_classifier(name)[0].state_dict()
    net = build(NetSpec(name, 2, 32), PRETRAINED)
    assert not net.spec.head_norm
    assert torch.equal(net.state_dict()["backbone.0.weight"], state["0.weight"])
    assert torch.equal(net.state_dict()["head.fc6.weight"].flatten(1), state["4.weight"])
    assert build(NetSpec(name, 2, 32)).spec.head_norm
    for other in ("digits", "caffenet"):  # they have random weights, so no pretrained ones
        random, missing = build_classifier(other, PRETRAINED)
        assert missing == frozenset(random.state_dict())
    with refuses("no-imagenet-weights", "'pretrained' or 'none'"):
        build_classifier(name, IMAGENET)


def test_a_job_has_the_absolute_path_and_logs_the_origin_of_the_weights(user_file, monkeypatch, caplog):
    dataset = DataSet("folder", user_file.parent, LABELS, {})
    monkeypatch.chdir(user_file.parent)
    caplog.set_level(logging.INFO, "fullconv")
    job = make_job(dataset, TrainingOptions("my_module.py:build", by_data=False))
    assert job.spec.model == f"{user_file.resolve()}:build"
    assert "my_module.py: the weights are those that build() returns" in caplog.messages[0]
    caplog.clear()
    for weights in ("none", user_file.parent / "own.safetensors"):
        make_job(dataset, TrainingOptions("digits", weights=weights, by_data=False))
    assert not caplog.messages
    make_job(dataset, TrainingOptions("digits", by_data=False))
    assert "digits: there are no pretrained weights" in caplog.messages[0]
    with refuses("no-classifier-file", "gone.py"):
        make_job(dataset, TrainingOptions("gone.py:build", by_data=False))


def test_a_file_may_import_its_neighbours_and_define_dataclasses(tmp_path):
    (tmp_path / "widths_of_mine.py").write_text("WIDTH = 6\n")
    file = tmp_path / "larger.py"
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom widths_of_mine import WIDTH\n"
    file.write_text(head + "@dataclass\nclass Widths:\n    first: int = WIDTH\n" + MODULE)
    before = list(sys.path)
    assert len(build_classifier(f"{file}:build")[0]) == 5
    assert sys.path == before


def test_a_wrong_input_size_is_refused_with_a_hint_to_input_size(user_file):
    user_file.write_text(MODULE.replace("    model.input_size = (40, 56)\n", ""))
    with refuses("network-does-not-run", "224x224 image", "an attribute input_size = (height, width)"):
        build(NetSpec(f"{user_file}:build", 2, 8))


@pytest.mark.parametrize("size", [(224,), (1, 3, 64, 64), "224", 0, (40, -56), 40.5, ("40", "56")])
def test_an_input_size_that_is_not_one_is_refused(user_file, size):
    user_file.write_text(MODULE.replace("(40, 56)", repr(size)))
    with refuses("wrong-input-size", user_file, repr(size)):
        input_size(f"{user_file}:build")


@pytest.mark.parametrize(("size", "expected"), [(None, 224), (64, 64), ([64, 64], 64), ((1, 64, 64), 64)])
def test_an_input_size_may_have_any_form_or_be_absent(user_file, size, expected):
    user_file.write_text(MODULE.replace("(40, 56)", repr(size)))
    assert input_size(f"{user_file}:build") == (expected, expected)


def test_mean_and_std_of_torchvision_are_those_of_the_weights():
    for name in torchvision.models.list_models(module=torchvision.models):
        half = name == "efficientnet_v2_l"
        assert mean_std(name) == (((0.5,) * 3,) * 2 if half else (IMAGENET_MEAN, IMAGENET_STD)), name


def test_a_classifier_in_data_parallel_is_unwrapped(user_file):
    user_file.write_text(MODULE + "\ndef parallel():\n    return nn.DataParallel(build())\n")
    assert isinstance(build_classifier(f"{user_file}:parallel")[0], nn.Sequential)
