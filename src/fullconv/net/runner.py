"""Trained networks behind the seams of `run`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fullconv.cores import usable_cores
from fullconv.errors import ModelError
from fullconv.labels import LabelSet
from fullconv.net.backbones import IMAGENET_MEAN, IMAGENET_STD
from fullconv.net.checkpoint import load_classifier, load_net
from fullconv.net.fcn import FCN
from fullconv.tiling import Window

__all__ = ["TorchClassifier", "TorchRunner", "largest"]

ROWS = 64


def largest(logits: torch.Tensor) -> torch.Tensor:
    """N x K x H x W logits to N x H x W uint8, the class of the largest, the first one of equals.

    Class by class: `argmax` over a dimension that is not the last takes a multiple of the time on a processor.
    """
    most, best = logits[:, 0].clone(), torch.zeros_like(logits[:, 0], dtype=torch.uint8)
    for index in range(1, logits.shape[1]):
        one = logits[:, index]
        best.masked_fill_(one > most, index)
        torch.maximum(most, one, out=most)
    return best


class TorchRunner:
    """Runs an FCN with torch in float32, on the GPU where there is one."""

    net: FCN

    def __init__(self, net: FCN, labels: LabelSet, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = net.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._labels = labels

    @classmethod
    def load(cls, path: Path, device: str | None = None) -> TorchRunner:
        """From a run folder or a weights file, on no more threads than the process has cores."""
        net, saved = load_net(path)
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
        return cls(net, saved.labels, device)

    @property
    def labels(self) -> LabelSet:
        """What the channels of the logits mean."""
        return self._labels

    @property
    def channels(self) -> int:
        """Those of the images that it takes."""
        return self.net.spec.channels

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The numbers in files that become 0 and 255, where their type does not say it."""
        return self.net.spec.value_range

    @property
    def mean_color(self) -> tuple[int, ...]:
        """The bytes, one for each channel, that the network takes for zero, all but the rounding."""
        return tuple(round(255 * float(value)) for value in self.net.mean.flatten())

    @property
    def windows(self) -> tuple[Window, Window]:
        """Which rows and which columns of the image a pixel's logits depend on."""
        return self.net.windows

    @property
    def exact(self) -> bool:
        """Whether they depend on no others; not so with global context, nor with a plain resize."""
        return self.net.exact

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """N x H x W x C uint8 to N x K x H x W float32."""
        with self._running(images) as batch:
            result: npt.NDArray[np.float32] = self.net(batch).float().cpu().numpy()
        return result

    def label_maps(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """N x H x W x C uint8 to N x H x W uint8 class ids; logits are upsampled for some rows at a time."""
        height, width = images.shape[1:3]
        with self._running(images) as batch:
            scores = self.net.score(self.net.encode(batch), (height, width))
            bands = [range(top, min(top + ROWS, height)) for top in range(0, height, ROWS)]
            found = [largest(self.net.upsample(scores, (height, width), rows)) for rows in bands]
        result: npt.NDArray[np.uint8] = torch.cat(found, 1).cpu().numpy()
        return result

    @contextmanager
    def _running(self, images: npt.NDArray[np.uint8]) -> Iterator[torch.Tensor]:
        """The batch on the device; torch's errors become ours."""
        size = f"{images.shape[1]}x{images.shape[2]}"
        try:
            with torch.inference_mode():
                yield torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(self.device)
        except RuntimeError as error:
            if "alloc" in str(error) or "out of memory" in str(error):
                raise MemoryError(f"an image of {size} does not fit in memory") from error
            raise ModelError(f"the network fails on {size} pixels: {error}") from error


class TorchClassifier:
    """Runs a classifier of one image size with torch in float32, on the GPU where there is one."""

    def __init__(self, net: nn.Module, size: tuple[int, int], labels: LabelSet, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.net = net.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._size, self._labels = size, labels
        self._mean, self._std = (
            torch.tensor(v, device=self.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD)
        )

    @classmethod
    def load(cls, path: Path, device: str | None = None) -> TorchClassifier:
        """From a file of `checkpoint.save_classifier`."""
        return cls(*load_classifier(path), device)

    @property
    def labels(self) -> LabelSet:
        """What the logits mean."""
        return self._labels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that it takes."""
        return self._size

    @property
    def mean_color(self) -> tuple[int, ...]:
        """The RGB bytes that the classifier takes for zero, all but the rounding."""
        return tuple(round(255 * value) for value in IMAGENET_MEAN)

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """N x height x width x 3 uint8 RGB to N x K float32."""
        batch = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(self.device)
        with torch.inference_mode():
            logits = self.net((batch / 255 - self._mean) / self._std)
        result: npt.NDArray[np.float32] = logits.float().cpu().numpy()
        return result
