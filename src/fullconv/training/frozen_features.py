"""FCN-32s-fixed: only the score layer learns, on feature maps that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fullconv.net.fcn.network import FCN
from fullconv.training.samples import Position, SegmentationDataset

__all__ = ["FeatureCache", "FeatureItem", "calibrate", "freeze_all_but_score"]

FeatureItem = tuple[list[Tensor], Tensor, str]
"""The maps of `FCN.encode`, without batch dimension, the label map, the name."""


class FeatureCache(Dataset[FeatureItem]):
    """The samples of `samples` with `net.encode` in place of the images, kept in memory as bfloat16.

    Epoch e gets the crops of epoch `e % views`, so that each image's maps are computed `views` times in all.
    """

    def __init__(
        self, samples: SegmentationDataset, net: FCN, views: int, bf16: bool, on_item: Callable[[int, int], None]
    ) -> None:
        self.samples, self.views = samples, views
        self.items: dict[Position, FeatureItem] = {}
        positions = [(view, index) for view in range(views) for index in range(len(samples))]
        device = net.mean.device.type
        with _evaluating(net), torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            for done, position in enumerate(positions):
                image, target, name = samples[position]
                maps = [_small(m[0]).cpu() for m in net.encode(image[None].to(device))]
                self.items[position] = (maps, target, name)
                on_item(done + 1, len(positions))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: Position) -> FeatureItem:
        epoch, index = position
        maps, target, name = self.items[epoch % self.views, index]
        return [m.float() if m.is_floating_point() else m for m in maps], target, name


def calibrate(net: FCN, samples: SegmentationDataset, images: int = 32) -> None:
    """Give the batch norms of the head the mean and variance of real feature maps.

    A head that starts from scratch and does not learn would otherwise keep the mean 0 and variance 1 that
    it was born with.
    """
    norms = [module for module in net.head.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    with _evaluating(net), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        for index in range(min(images, len(samples))):
            net.encode(samples[0, index][0][None].to(net.mean.device))
        for norm in norms:
            norm.momentum = 0.1


def freeze_all_but_score(net: FCN) -> None:
    """Let nothing learn but `score_fr`, and what fills the gaps of unpooling."""
    net.requires_grad_(False)
    net.score_fr.requires_grad_(True)
    net.unpools.requires_grad_(True)


def _small(values: Tensor) -> Tensor:
    """In half the bytes: maps as bfloat16, indices of poolings as int32."""
    return values.to(torch.bfloat16 if values.is_floating_point() else torch.int32)


@contextmanager
def _evaluating(net: FCN) -> Iterator[None]:
    training = net.training
    net.eval()
    yield
    net.train(training)
