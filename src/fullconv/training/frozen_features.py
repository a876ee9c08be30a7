"""FCN-32s-fixed: train only the score layer, on feature maps that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fullconv.forks import native_call
from fullconv.net.fcn.network import FCN
from fullconv.training.samples import Position, SegmentationDataset
from fullconv.training.task import explain_image_memory

__all__ = ["FeatureCache", "FeatureItem", "calibrate", "evaluation_mode", "freeze_all_but_score"]

FeatureItem = tuple[list[Tensor], Tensor, str]
"""The maps of `FCN.encode` without batch dimension, the label map, and the name."""


class FeatureCache(Dataset[FeatureItem]):
    """The samples of `samples`, with the feature maps of `net.encode` in place of the images.

    The maps stay in memory as bfloat16. Epoch e uses the crops of epoch `e % views`, so the maps of each image are
    computed `views` times.
    """

    def __init__(
        self, samples: SegmentationDataset, net: FCN, views: int, bf16: bool, on_item: Callable[[int, int], None]
    ) -> None:
        self.samples, self.views = samples, views
        self.items: dict[Position, FeatureItem] = {}
        positions = [(view, index) for view in range(views) for index in range(len(samples))]
        device = net.mean.device.type
        with evaluation_mode(net), torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            for done, position in enumerate(positions):
                image, target, name = samples[position]
                is_whole = samples.augmentation is None
                with native_call(), explain_image_memory(name, target) if is_whole else nullcontext():
                    maps = [_shrink(m[0]).cpu() for m in net.encode(image[None].to(device))]
                self.items[position] = (maps, target, name)
                on_item(done + 1, len(positions))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: Position) -> FeatureItem:
        epoch, number = position
        repeat, index = divmod(number, len(self))  # repeats of an epoch have negative numbers
        maps, target, name = self.items[(epoch - repeat) % self.views, index]
        return [m.float() if m.is_floating_point() else m for m in maps], target, name


def calibrate(net: FCN, samples: SegmentationDataset, images: int = 32) -> None:
    """Set the batch norms of the head to the mean and variance of real feature maps.

    Otherwise a head that starts from random weights and is not trained would keep its initial mean 0 and variance 1.
    """
    norms = [module for module in net.head.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    with evaluation_mode(net), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        for index in range(min(images, len(samples))):
            image = samples[0, index][0][None]
            with native_call():
                net.encode(image.to(net.mean.device))
        for norm in norms:
            norm.momentum = 0.1


def freeze_all_but_score(net: FCN) -> None:
    """Freeze all layers except `score_fr`, the refined decoder, and the layers that fill the gaps of unpooling."""
    net.requires_grad_(False)
    if net.decoder is not None:
        net.decoder.requires_grad_(True)
    net.score_fr.requires_grad_(True)
    net.unpools.requires_grad_(True)


def _shrink(values: Tensor) -> Tensor:
    """Convert maps to bfloat16, and the indices of poolings to int32."""
    return values.to(torch.bfloat16 if values.is_floating_point() else torch.int32)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Set all modules to evaluation, and then back to their modes."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
