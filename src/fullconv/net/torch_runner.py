"""Run trained networks with PyTorch, on the GPU if there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fullconv.arrays import Float32, UInt8
from fullconv.choices import Device
from fullconv.cores import usable_cores
from fullconv.errors import ModelError, UsageError
from fullconv.files import StrPath
from fullconv.forks import lazy_property, native_call
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.net.checkpoint import load_classifier, load_net
from fullconv.net.classifiers.backbones import IMAGENET_MEAN, IMAGENET_STD
from fullconv.net.fcn.network import FCN

__all__ = ["TorchClassifier", "TorchRunner", "find_device", "largest"]

ROWS = 64
"""The number of rows whose logits are upsampled at a time."""


def largest(logits: torch.Tensor) -> torch.Tensor:
    """Map N x K x H x W logits to the class of the largest, N x H x W uint8; ties go to the first class.

    The loop goes class by class: on a CPU, `argmax` over a dimension other than the last takes several times as long.
    """
    most, best = logits[:, 0].clone(), torch.zeros_like(logits[:, 0], dtype=torch.uint8)
    for index in range(1, logits.shape[1]):
        one = logits[:, index]
        best.masked_fill_(one > most, index)
        torch.maximum(most, one, out=most)
    return best


def _use_one_thread() -> None:
    """Compute on one thread in a forked child, where OpenMP would wait for the threads of the parent."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_use_one_thread)


class TorchRunner:
    """A `Runner` of an FCN on torch in float32."""

    net: FCN

    def __init__(self, net: FCN, labels: LabelSet, device: str | None = None) -> None:
        """Move the network to `device`; None is the GPU if there is one, otherwise the CPU."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = net.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._labels = labels

    @classmethod
    def load(cls, path: Path, device: str | None = None, *, code: StrPath | None = None) -> TorchRunner:
        """Load a run folder or a weights file; torch gets at most one thread for each core of the process.

        `code` is as in `load_net`.
        """
        net, saved = load_net(path, code)
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
        return cls(net, saved.labels, device)

    @lazy_property
    def info(self) -> ModelInfo:
        """The network that runs; it is not exact with global context or a plain resize."""
        return ModelInfo(self._labels, self.net.windows, self.net.exact, self.net.spec.input)

    @property
    def mean_color(self) -> tuple[int, ...]:
        """One byte for each channel: the colour that the network normalizes to zero, up to rounding."""
        return tuple(round(255 * float(value)) for value in self.net.mean.flatten())

    def logits(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to N x K x H x W float32."""
        with native_call(), self._running(images) as batch:
            result: Float32 = self.net(batch).float().cpu().numpy()
        return result

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids; logits are upsampled some rows at a time."""
        height, width = images.shape[1:3]
        with native_call(), self._running(images) as batch:
            scores = self.net.score(self.net.encode(batch), (height, width))
            bands = [range(top, min(top + ROWS, height)) for top in range(0, height, ROWS)]
            maps = [largest(self.net.upsample(scores, (height, width), rows)) for rows in bands]
        result: UInt8 = torch.cat(maps, 1).cpu().numpy()
        return result

    @contextmanager
    def _running(self, images: UInt8) -> Iterator[torch.Tensor]:
        """Yield the batch on the device, and turn errors of torch into MemoryError or ModelError."""
        size = f"{images.shape[1]}x{images.shape[2]}"
        try:
            with torch.inference_mode():
                yield torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(self.device)
        except (RuntimeError, ValueError) as error:
            if "alloc" in str(error) or "out of memory" in str(error):
                raise MemoryError(f"an image of {size} does not fit in memory") from error
            raise ModelError(f"the network fails on {size} pixels: {error}", code="network-failed") from error


def find_device(device: Device) -> str | None:
    """Return the device for a runner, None for auto. Raises UsageError for cuda if torch finds no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        message = "--device cuda: torch finds no NVIDIA GPU here; leave the option out"
        raise UsageError(message, code="no-such-device")
    return None if device == "auto" else device


class TorchClassifier:
    """A classifier of one image size on torch in float32."""

    def __init__(self, net: nn.Module, size: tuple[int, int], labels: LabelSet, device: str | None = None) -> None:
        """Take a classifier of images of `size` (height, width); `device` as in `TorchRunner`."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = net.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.size, self.labels = size, labels
        self._mean, self._std = (
            torch.tensor(v, device=self.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD)
        )

    @classmethod
    def load(cls, path: Path, device: str | None = None, *, code: StrPath | None = None) -> TorchClassifier:
        """Load a file that `checkpoint.save_classifier` wrote; `code` is as in `load_net`."""
        return cls(*load_classifier(path, code), device)

    @property
    def mean_color(self) -> tuple[int, ...]:
        """The RGB bytes that the classifier normalizes to zero, up to rounding."""
        return tuple(round(255 * value) for value in IMAGENET_MEAN)

    def logits(self, images: UInt8) -> Float32:
        """Map N x height x width x 3 uint8 RGB to N x K float32."""
        with native_call(), torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(self.device)
            result: Float32 = self.net((batch / 255 - self._mean) / self._std).float().cpu().numpy()
        return result
