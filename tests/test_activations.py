"""--activation relu: ReLU6 becomes ReLU in the network, in its file, and in what is loaded again."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import torch
from torch import nn

from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.fcn.network import build, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.onnx_export.file import assemble, check_file, describe
from fullconv.training.job import TrainingOptions
from refusals import refuses

LABELS = LabelSet.named(["a", "b"])
SPEC = NetSpec("mobilenet_v2", 2, 8, activation="relu")


def kinds(net: nn.Module) -> set[type]:
    return {type(module) for module in net.modules()} & {nn.ReLU, nn.ReLU6}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = rebuild(SPEC).eval()
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight, std=0.1)
    return net


def test_weights_fit_both_and_logits_are_equal_as_long_as_nothing_exceeds_six(net):
    clipped = rebuild(replace(SPEC, activation="keep")).eval()
    assert kinds(net) == {nn.ReLU}
    assert kinds(clipped) == {nn.ReLU6}
    clipped.load_state_dict(net.state_dict())
    images = torch.rand(1, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(images), clipped(images))
        for module in (*net.modules(), *clipped.modules()):
            if isinstance(module, nn.BatchNorm2d):
                module.bias.fill_(7)
        assert not torch.allclose(net(images), clipped(images))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.fill_(0)


def test_the_file_has_relu_and_no_clip_and_equals_torch(net, tmp_path):
    model = assemble(net, describe(net, Saved(SPEC, LABELS), {}))
    assert {"Relu", "Clip"} & {node.op_type for node in model.graph.node} == {"Relu"}
    onnx.save(model, tmp_path / "net.onnx")
    check_file(tmp_path / "net.onnx", net)


def test_a_saved_network_is_loaded_with_its_activations(net, tmp_path):
    save_net(tmp_path / "net.safetensors", net.state_dict(), Saved(SPEC, LABELS, {}))
    loaded, saved = load_net(tmp_path / "net.safetensors")
    assert saved.spec == SPEC
    assert kinds(loaded) == {nn.ReLU}
    older = {name: value for name, value in SPEC.to_dict().items() if name != "activation"}
    assert NetSpec.from_dict(older).activation == "keep"


def test_what_has_no_relu6_and_unknown_activations_are_refused():
    with refuses("no-relu6", "resnet18", "--activation"):
        build(NetSpec("resnet18", 2, activation="relu"), None)
    with refuses("unknown-option-value", "activation"):
        TrainingOptions(activation="swish").check()
