"""Exported networks behind the seam, on ONNX Runtime and without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fullconv.errors import ModelError
from fullconv.labels import LabelSet
from fullconv.run.about import About, Float32
from fullconv.tiling import Window

__all__ = ["OnnxRunner", "full_size", "usable_cores"]

BAND = 64
CGROUP = Path("/sys/fs/cgroup")

UInt8 = npt.NDArray[np.uint8]


class OnnxRunner:
    """Runs a file of `fullconv export` with ONNX Runtime on the CPU.

    One session takes every size: fixed shapes are no faster, and each would cost a session. What ONNX Runtime would
    keep from call to call, an arena and a plan of memory for each size, is off, so that calls of many sizes do not add
    up; it saves nothing that can be measured (benchmarks/memory_runner.py).
    """

    def __init__(self, session: onnxruntime.InferenceSession, about: About) -> None:
        self.session, self.about = session, about

    @classmethod
    def load(cls, path: Path, threads: int | None = None) -> OnnxRunner:
        """From a file; `threads` None takes all cores that the process may use. ModelError where it is none of ours."""
        if not path.is_file():
            raise ModelError(f"there is no model {path}; name a .onnx file that fullconv export wrote")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            about = About.from_metadata(session.get_modelmeta().custom_metadata_map)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except Exception as error:  # ONNX Runtime's have no class in common but this one
            raise ModelError(f"{path} cannot be read as an ONNX file: {error}") from error
        return cls(session, about)

    @property
    def labels(self) -> LabelSet:
        """What the channels of the logits mean."""
        return self.about.labels

    @property
    def windows(self) -> tuple[Window, Window]:
        """Which rows and which columns of the image a pixel's logits depend on."""
        return self.about.windows

    @property
    def exact(self) -> bool:
        """Whether they depend on no others; not so with global context."""
        return self.about.exact

    def logits(self, images: UInt8) -> Float32:
        """N x H x W x C uint8 to N x K x H x W float32; beside the result, memory holds some rows of it."""
        return full_size(self.scores(images), self.about, (images.shape[1], images.shape[2]))

    def label_maps(self, images: UInt8) -> UInt8:
        """N x H x W x C uint8 to N x H x W uint8 class ids; no full-size logits are made."""
        maps: UInt8 = self._run("label_map", images)
        return maps

    def scores(self, images: UInt8) -> Float32:
        """The file's own `logits`, N x K x h x w float32 at the prediction stride."""
        scores: Float32 = self._run("logits", images)
        return scores

    def _run(self, output: str, images: UInt8) -> npt.NDArray[Any]:
        size = f"{images.shape[1]}x{images.shape[2]}"
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        try:
            (result,) = self.session.run([output], {"images": np.ascontiguousarray(images)}, options)
        except Exception as error:
            if "alloc" in str(error).lower():
                raise MemoryError(f"an image of {size} does not fit in memory") from error
            raise ModelError(f"the network fails on {size} pixels: {error}") from error
        found: npt.NDArray[Any] = result
        return found


def usable_cores() -> int:
    """The cores that the process may use: those that it is bound to, or the container's quota, whichever are fewer."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *_quotas()]))


def _quotas() -> Sequence[int]:
    """The processor quota of control groups of version 2 or 1, rounded up to whole cores."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((CGROUP / name).read_text() for name in names).split()
            return [-(-int(quota) // int(period))] if int(quota) > 0 else []
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
    return []


def full_size(scores: Float32, about: About, size: tuple[int, int]) -> Float32:
    """Logits N x K x H x W at `size` from N x K x h x w scores, the numbers of the network's own upsampling."""
    count, classes, height, width = scores.shape
    rows, columns = (up.factor for up in about.upsamplings)
    (top, left), deep = about.start, max(1, BAND // rows)
    result = np.empty((count, classes, *size), np.float32)
    padded = np.zeros((count, classes, height + 2 + deep, width + 2), np.float32)
    padded[:, :, 1 : height + 1, 1 : width + 1] = scores
    for first in range(top // rows, (top + size[0] - 1) // rows + 1, deep):
        strip = padded[:, :, first : min(first + deep, height + 1) + 1]
        band = _blocks(strip, about).reshape(count, classes, -1, (width + 1) * columns)
        begin = max(0, first * rows - top)
        skip = begin + top - first * rows
        end = min(size[0], begin + band.shape[2] - skip)
        result[:, :, begin:end] = band[:, :, skip : skip + end - begin, left : left + size[1]]
    return result


def _blocks(strip: Float32, about: About) -> Float32:
    """N x K x (b + 1) x (c + 1) scores to N x K x b x rows x c x columns logits."""
    count, classes, height, width = (n - edge for n, edge in zip(strip.shape, (0, 0, 1, 1), strict=True))
    rows, columns = (up.factor for up in about.upsamplings)
    quads = np.stack([strip[:, :, y : y + height, x : x + width] for y in (0, 1) for x in (0, 1)])
    if about.kernel is None:
        logits = (about.blocks @ quads.reshape(4, -1)).reshape(rows, columns, count, classes, height, width)
        return logits.transpose(2, 3, 4, 0, 5, 1)
    cells = quads.transpose(1, 3, 4, 0, 2).reshape(count, height, width, -1)
    logits = (cells @ about.blocks).reshape(count, height, width, rows, columns, classes)
    return logits.transpose(0, 5, 1, 3, 2, 4)
