"""The teacher: a trained network whose logits a training imitates (Hinton, Vinyals, Dean, 2015)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fullconv.choices import Device
from fullconv.data.dataset import DataSet
from fullconv.errors import ModelError
from fullconv.labels import check_classes
from fullconv.net.checkpoint import find_weights
from fullconv.net.fcn.network import FCN
from fullconv.net.torch_runner import TorchRunner
from fullconv.runtime.load import load_runner
from fullconv.runtime.runner import Runner
from fullconv.training.loss import sum_of_bands

__all__ = ["Teacher", "compute_imitation", "describe_teacher", "load_teacher"]

Rows = Callable[[range], Tensor]
"""Returns the logits of some rows of one image, 1 x K x rows x W float."""


class Teacher:
    """A trained network that is not trained further: an FCN on torch, or an exported file on ONNX Runtime."""

    def __init__(self, runner: Runner) -> None:
        """Take a runner; one of torch runs on the device of the images, within the training's autocast."""
        self._runner = runner
        self.net: FCN | None = runner.net.requires_grad_(False) if isinstance(runner, TorchRunner) else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        """Return the same teacher, which no copy of a training changes."""
        return self

    def iterate(self, images: Tensor) -> Iterator[Rows]:
        """Yield the logits of each image of N x C x H x W uint8, as a function of the rows.

        Torch computes the score maps of all images at once, and upsamples rows when they are asked for. ONNX Runtime
        computes one image at a time, with all its logits in memory.
        """
        size = (images.shape[-2], images.shape[-1])
        if self.net is None:
            for image in images:
                pixels = image.permute(1, 2, 0)[None].contiguous().cpu().numpy()
                logits = torch.from_numpy(self._runner.logits(pixels)).to(images.device)
                yield partial(_cut_rows, logits)
            return
        net = self.net.to(images.device)
        with torch.no_grad():
            scores = net.score(net.encode(images), size)
        for index in range(len(images)):
            yield partial(net.upsample, scores[index : index + 1], size)


def load_teacher(path: Path, dataset: DataSet, device: Device = "auto") -> Teacher:
    """Load a run folder, or a .safetensors or .onnx file, as a teacher for this data set.

    Raises ModelError if it is not a model, has other classes than the data or another order of them, or takes images in
    another format. `device` is as in `load_runner`.
    """
    runner = load_runner(path, spin=False, device=device)
    check_classes(path, runner.info.labels, dataset.root, dataset.labels)
    if runner.info.input != dataset.input:
        takes, has = (f"{i.channels} channels, range {i.value_range}" for i in (runner.info.input, dataset.input))
        message = f"{path} cannot be the teacher: it takes images of {takes}, and {dataset.root} has {has}"
        raise ModelError(message, code="teacher-of-other-images")
    return Teacher(runner)


def describe_teacher(path: Path) -> dict[str, Any]:
    """Return the path of the teacher and the SHA-256 of its file, which identifies it. Raises ModelError without it."""
    with find_weights(path).open("rb") as opened:
        return {"path": str(path), "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}


def compute_imitation(
    net: FCN,
    score: Tensor,
    images: Tensor,
    teacher: Teacher,
    temperature: float,
    normalized: bool = True,
    *,
    band_bytes: int | None = None,
) -> Tensor:
    """Return T^2 times the Kullback-Leibler divergence of the network from the teacher, both at temperature T.

    images: N x C x H x W uint8; score: N x K x h x w float, from `net.score`. The divergence is that of the softmax of
    logits / T at full resolution, the mean over all pixels of all images if `normalized`, else their sum. Images are
    computed one after the other, and rows in bands as in `compute_banded_loss`: value and gradient are exact, and there
    are full-resolution logits of one image at most.
    """
    size = (images.shape[-2], images.shape[-1])
    total = score.new_zeros(())
    for index, rows_of in enumerate(teacher.iterate(images)):

        def of_band(logits: Tensor, rows: range, rows_of: Rows = rows_of) -> Tensor:
            with torch.no_grad():
                target = (rows_of(rows) / temperature).log_softmax(1)
            own = (logits / temperature).log_softmax(1)
            return functional.kl_div(own, target.to(own.dtype), reduction="sum", log_target=True)

        total = total + sum_of_bands(net, score[index : index + 1], size, of_band, band_bytes=band_bytes)
    return temperature**2 * (total / (len(images) * size[0] * size[1]) if normalized else total)


def _cut_rows(logits: Tensor, rows: range) -> Tensor:
    return logits[:, :, rows.start : rows.stop]
