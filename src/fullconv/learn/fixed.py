"""FCN-32s-fixed: only the score layer learns, on feature maps that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fullconv.data.batches import Pairs, Position
from fullconv.net.fcn import FCN

__all__ = ["MapItem", "Maps", "calibrate", "freeze_all_but_score"]

MapItem = tuple[list[Tensor], Tensor, str]
"""The maps of `FCN.encode`, without batch dimension, the label map, the name."""


class Maps(Dataset[MapItem]):
    """The samples of `pairs` with `net.encode` in place of the images, kept in memory as bfloat16.

    Epoch e gets the crops of epoch `e % views`, so that each image's maps are computed `views` times in all.
    """

    def __init__(self, pairs: Pairs, net: FCN, views: int, bf16: bool, tell: Callable[[int, int], None]) -> None:
        self.pairs, self.views = pairs, views
        self.items: dict[Position, MapItem] = {}
        positions = [(view, index) for view in range(views) for index in range(len(pairs))]
        device = net.mean.device.type
        with _evaluating(net), torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            for done, position in enumerate(positions):
                image, target, name = pairs[position]
                maps = [_small(m[0]).cpu() for m in net.encode(image[None].to(device))]
                self.items[position] = (maps, target, name)
                tell(done + 1, len(positions))

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, position: Position) -> MapItem:
        epoch, index = position
        maps, target, name = self.items[epoch % self.views, index]
        return [m.float() if m.is_floating_point() else m for m in maps], target, name


def calibrate(net: FCN, pairs: Pairs, images: int = 32) -> None:
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
        for index in range(min(images, len(pairs))):
            net.encode(pairs[0, index][0][None].to(net.mean.device))
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
