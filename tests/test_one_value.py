"""Training where a batch has one value per channel: single crops of 32 pixels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fullconv
from fullconv.images import write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.training.one_value import allow_one_value, explain_one_value
from refusals import refuses

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 32 x 32 pixels with two classes."""
    root, labels = tmp_path_factory.mktemp("data"), LabelSet.named(["ground", "red"])
    for split, count in (("train", 3), ("val", 1)):
        for number in range(count):
            mask = np.zeros((32, 32), np.uint8)
            mask[4 : 18 + number, 6:20] = 1
            image = np.where(mask[..., None] > 0, np.array([200, 60, 50], np.uint8), np.array([90, 110, 90], np.uint8))
            write_image(root / "images" / split / f"{number}.png", image)
            write_label_map(root / "masks" / split / f"{number}.png", mask, labels)
    (root / "classes.txt").write_text("ground\nred\n")
    return root


@pytest.mark.parametrize("model", ["mobilenet_v2", "resnet18"])
@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_crops_of_one_cell_train(
    data: Path, tmp_path: Path, model: str, recipe: str, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"recipe": recipe, "crop": 32, "batch": 1} if recipe == "default" else {"recipe": recipe}
    with caplog.at_level(logging.INFO, "fullconv"):
        run = fullconv.train(data, model=model, weights="none", epochs=1, out=tmp_path / "run", **options)
    assert run.scores.pixel_accuracy >= 0
    lines = [line for line in caplog.messages if "one value per channel" in line]
    assert len(lines) == 1
    assert caplog.messages.index(lines[0]) < next(i for i, m in enumerate(caplog.messages) if "epoch 1:" in m)


def test_one_value_is_normalized_with_the_running_statistics() -> None:
    norm = nn.BatchNorm2d(3)
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 9.0, 16.0])
    allow_one_value(norm)
    result = norm(torch.tensor([3.0, 5.0, 7.0]).view(1, 3, 1, 1))
    assert torch.allclose(result.flatten(), torch.ones(3), atol=1e-4)
    assert norm.training
    assert norm.running_mean.tolist() == [1, 2, 3]


def test_more_values_are_normalized_as_before() -> None:
    plain, allowed, values = nn.BatchNorm2d(3), nn.BatchNorm2d(3), torch.rand(1, 3, 1, 2)
    allow_one_value(allowed)
    assert torch.equal(plain(values), allowed(values))
    assert plain.running_mean is not None
    assert allowed.running_mean is not None
    assert torch.equal(plain.running_mean, allowed.running_mean)
    assert allowed.training


def test_norms_without_running_statistics_are_refused() -> None:
    for norm in (nn.BatchNorm2d(3, track_running_stats=False), nn.InstanceNorm2d(3)):
        allow_one_value(norm)
        with refuses("one-value-per-channel", "1 image", "32x40"), explain_one_value((1, 32, 40)):
            norm(torch.rand(1, 3, 1, 1))
