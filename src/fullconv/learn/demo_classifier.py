"""The demo's classifier of digits: its training, and what its dense form gives and costs beside a sliding window."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule, Trainer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_linear_bn_eval
from torch.utils.data import DataLoader, TensorDataset

from fullconv.data.digits import digit_patches
from fullconv.errors import ModelError
from fullconv.image import atomic_write
from fullconv.net.backbones import digit_net, input_size
from fullconv.net.fcn import IMAGENET_MEAN, IMAGENET_STD
from fullconv.net.surgery import Surgery, convolutionalize
from fullconv.net.trace import trace

__all__ = ["Comparison", "accuracy", "compare", "normalized", "save_classifier", "sliding_window", "train_classifier"]

Bytes = npt.NDArray[np.uint8]

JITTER = 12
"""How far from the middle of a patch its digit may be: about half the stride, as a cell has to take what it meets."""

BATCH = 32
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Comparison:
    """One dense pass beside the same windows one by one: cells, largest difference of the logits, seconds of each."""

    cells: tuple[int, int]
    difference: float
    dense_seconds: float
    window_seconds: float

    @property
    def speedup(self) -> float:
        """How many times faster the dense pass is."""
        return self.window_seconds / self.dense_seconds


def normalized(images: Bytes | Tensor) -> Tensor:
    """N x H x W x 3 uint8 RGB to N x 3 x H x W float32 as `FCN` normalizes it, channels last in memory."""
    batch = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def train_classifier(
    patches: int, epochs: int, seed: int = 0, bf16: bool = False, tell: Callable[[str], None] = print
) -> nn.Module:
    """`digit_net` trained on windows of digit scenes in colours of all kinds, in evaluation mode.

    Its hidden layers have batch norm while they learn, which is folded into them at the end.
    """
    images, labels = digit_patches(patches, input_size("digits")[0], seed, "train", JITTER)
    torch.manual_seed(seed)
    data = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=patches >= BATCH)
    task = _Task(_with_norms(digit_net()), epochs * len(loader), tell)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            precision="bf16-mixed" if bf16 else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(task, loader)
    return _folded(task.net.eval())


def _with_norms(net: nn.Module) -> nn.Module:
    end = net.get_submodule("classifier")
    for index, layer in list(enumerate(end.children()))[:-1]:
        if isinstance(layer, nn.Linear):
            end[index] = nn.Sequential(layer, nn.BatchNorm1d(layer.out_features))  # type: ignore[index]
    return net


def _folded(net: nn.Module) -> nn.Module:
    end = net.get_submodule("classifier")
    for index, layer in enumerate(end.children()):
        if isinstance(layer, nn.Sequential):
            end[index] = fuse_linear_bn_eval(layer[0], layer[1])  # type: ignore[index]
    return net


class _Task(LightningModule):
    """Cross-entropy on patches whose colours are swapped, inverted and scaled at random."""

    def __init__(self, net: nn.Module, steps: int, tell: Callable[[str], None]) -> None:
        super().__init__()
        self.net, self.steps, self.tell = net.to(memory_format=torch.channels_last), steps, tell  # type: ignore[call-overload]
        self.losses: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch of N x H x W x 3 uint8 patches and N labels."""
        images, labels = batch
        loss = functional.cross_entropy(self.net(normalized(_recolored(images))).float(), labels)
        self.losses.append(float(loss.detach()))
        return loss

    def on_train_epoch_end(self) -> None:
        """One line an epoch."""
        recent = self.losses[-(self.steps // (self.trainer.max_epochs or 1)) :]
        self.tell(f"classifier epoch {self.current_epoch + 1} of {self.trainer.max_epochs}: loss {np.mean(recent):.3f}")

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with one rise and fall of the rate."""
        optimizer = torch.optim.AdamW(self.parameters(), weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=self.steps, pct_start=0.2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _recolored(images: Tensor) -> Tensor:
    """Channels in another order, light and dark exchanged in every second patch, a little less contrast."""
    count = len(images)
    order = torch.rand(count, 3).argsort(1)[:, None, None, :].expand_as(images)
    images = images.gather(3, order).float()
    images = torch.where(torch.rand(count, 1, 1, 1) < 0.5, 255 - images, images)
    return 128 + (images - 128) * (0.7 + 0.4 * torch.rand(count, 1, 1, 1)) + 40 * (torch.rand(count, 1, 1, 3) - 0.5)
