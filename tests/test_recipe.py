"""The published recipe gives the weights of a simple loop that follows its description."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.errors import UsageError
from fullconv.net.checkpoint import load_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.score_layers import Scale
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.data_module import DataModule
from fullconv.training.job import Job
from fullconv.training.recipe import Recipe, override, paper_recipe
from fullconv.training.samples import make_seed
from fullconv.training.task import PUBLISHED_RATES, SegmentationTask
from fullconv.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")

AT_ONCE = NetSpec("digits", 11, 8, norm=False, at_once=True)


def test_the_paper_recipe_is_sgd_on_loss_sums_over_whole_images(tmp_path: Path) -> None:
    """All layers equal those of a loop with momentum 0.99, doubled rates of biases, and one image per step."""
    root = write_digit_dataset(tmp_path / "data", train=3, val=1, size=(50, 61))
    dataset, recipe = find_dataset(root), override(paper_recipe(), {"epochs": 2, "bf16": False, "lr": 1e-7})
    train(dataset, Job(AT_ONCE, recipe), tmp_path / "run")
    torch.manual_seed(recipe.seed)
    net = build(AT_ONCE).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    data, number = DataModule(dataset, recipe), 0
    for epoch in range(2):
        for ((_, index),) in data.order(epoch * 3):
            image, target, _ = data.train_samples[epoch, index]
            assert image.shape == (3, 50, 61)
            torch.manual_seed(make_seed(0, number, 0))
            loss = functional.cross_entropy(net(image[None]), target[None].long(), ignore_index=255, reduction="sum")
            gradients = torch.autograd.grad(loss, list(net.parameters()))
            with torch.no_grad():
                for (name, value), gradient in zip(net.named_parameters(), gradients, strict=True):
                    decay = 5e-4 if value.ndim > 1 else 0
                    velocity[name] = 0.99 * velocity[name] + gradient + decay * value
                    value -= 1e-7 * (2 if name.endswith("bias") else 1) * velocity[name]
            number += 1
    trained = load_net(tmp_path / "run" / "last.safetensors")[0].state_dict()
    for name, value in net.named_parameters():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-6)
    assert trained["score_fr.weight"].abs().max() > 0


def test_the_paper_recipe_has_the_published_learning_rates() -> None:
    def rates(spec: NetSpec) -> set[float]:
        task = SegmentationTask(build(spec), paper_recipe(), DIGIT_LABELS, torch.ones(11), 10)
        return {group["lr"] for group in task.make_optimizer().param_groups}

    assert rates(AT_ONCE) == {1e-10, 2e-10}
    for stride, rate in ((32, 1e-10), (16, 1e-12), (8, 1e-14)):
        assert PUBLISHED_RATES[stride] == rate
        assert rates(replace(AT_ONCE, stride=stride, at_once=False)) == {rate, 2 * rate}


def test_at_once_networks_scale_their_skips_and_have_no_norms() -> None:
    net = build(AT_ONCE)
    scales = [module.factor for module in net.modules() if isinstance(module, Scale)]
    assert scales == [0.01, 0.0001]
    assert not any(isinstance(m, nn.BatchNorm2d) for name, m in net.named_modules() if name.startswith("norm_"))


def test_a_long_wrong_value_is_one_short_sentence() -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.from_dict({"scale": [["x" * 5000] * 300] * 2})
    assert len(str(caught.value)) < 1500
