"""Layer-wise rates: the rate of a backbone layer falls with the stages above it."""

from __future__ import annotations

import pytest
import torch

from fullconv.demo.digits import DIGIT_LABELS
from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.fcn.stages import count_stages_above
from fullconv.training.recipe import Recipe, override
from fullconv.training.task import SegmentationTask
from refusals import refuses


def rates(net: FCN, **values: float) -> dict[str, float]:
    """Return the rate of each parameter by its name."""
    task = SegmentationTask(net, Recipe(lr=1e-3, **values), DIGIT_LABELS, torch.ones(11), 10)
    groups = task.make_optimizer().param_groups
    by_id = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    return {name: by_id[id(parameter)] for name, parameter in net.named_parameters()}


EXPECTED = {
    "resnet18": {
        "backbone.conv1.weight": 4, "backbone.layer1.0.conv1.weight": 3, "backbone.layer2.1.conv2.weight": 2,
        "backbone.layer3.0.bn1.weight": 1, "backbone.layer4.0.downsample.0.weight": 0,
    },
    "mobilenet_v2": {
        "backbone.features.0.0.weight": 4, "backbone.features.2.conv.0.0.weight": 4,
        "backbone.features.2.conv.1.0.weight": 3, "backbone.features.18.0.weight": 0,
    },
}  # fmt: skip
"""Stages above, by hand: the strides of the maps are 2, 4, 8, 16 and 32."""


@pytest.mark.parametrize("model", EXPECTED)
def test_the_rate_falls_by_the_factor_for_each_stage_above(model):
    net = rebuild(NetSpec(model, 11, 8))
    plain, decayed = rates(net), rates(net, layer_decay=0.5)
    stages = {name: round(torch.log2(torch.tensor(plain[name] / decayed[name])).item(), 6) for name in plain}
    highest = max(stages.values())
    for name, above in EXPECTED[model].items():
        assert stages[name] == above, name
    assert all(value == 0 for name, value in stages.items() if not name.startswith("backbone."))
    assert sorted(set(stages.values())) == list(range(int(highest) + 1))


def test_a_decay_of_one_changes_no_rate_and_keeps_the_groups():
    net = rebuild(NetSpec("digits", 11, 8))
    assert set(rates(net).values()) == {1e-3, 5e-3}


def test_a_dilated_backbone_has_fewer_stages():
    stages = [set(count_stages_above(rebuild(NetSpec("resnet18", 11, 8, dilate=d))).values()) for d in (None, 8)]
    assert stages == [{0, 1, 2, 3, 4}, {0, 1, 2}]


@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_impossible_decays_are_refused(value):
    with refuses("invalid-recipe-value", "layer_decay"):
        override(Recipe(), {"layer_decay": value})
