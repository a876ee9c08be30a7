"""Augmentation keeps images and label maps aligned."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors

from fullconv.training.augment import Augmentation, RandomScale


@pytest.mark.parametrize("scale", [0.6, 0.77, 1.0, 1.3, 1.37, 1.9, 2.0])
def test_edges_of_image_and_label_map_coincide_at_every_scale(scale: float) -> None:
    """The scaled image crosses half its brightness exactly where the scaled label map changes."""
    target = torch.zeros(60, 60, dtype=torch.uint8)
    target[:, 23:] = 1
    target[31:] = 1 - target[31:]
    image = (255 * target).expand(3, -1, -1)
    large, labels = RandomScale((scale, scale))(tv_tensors.Image(image), tv_tensors.Mask(target))
    assert labels.shape == large.shape[1:] == (round(60 * scale),) * 2
    level = large[0].float() / 255
    clear = (level - 0.5).abs() > 0.02
    assert torch.equal((level > 0.5)[clear], labels.bool()[clear])
    assert clear.float().mean() > 0.9


def test_equal_seeds_give_equal_pairs() -> None:
    augmentation = Augmentation(32, (0.5, 2.0), 0.5, 0.3)
    image, target = torch.randint(0, 256, (3, 40, 50)).to(torch.uint8), torch.randint(0, 5, (40, 50)).to(torch.uint8)
    first, again, other = (augmentation(image, target, seed) for seed in (1, 1, 2))
    assert first[0].shape == (3, 32, 32)
    assert first[1].shape == (32, 32)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_crop_zero_keeps_the_whole_image() -> None:
    image, target = torch.randint(0, 256, (3, 40, 50)).to(torch.uint8), torch.randint(0, 5, (40, 50)).to(torch.uint8)
    same = Augmentation(0, (1.0, 1.0), 0.0, 0.0)(image, target, 3)
    assert torch.equal(same[0], image)
    assert torch.equal(same[1], target)
