"""Exported files on ONNX Runtime, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fullconv.arrays import Float32, UInt8
from fullconv.choices import Device
from fullconv.cores import usable_cores
from fullconv.errors import ModelError, UsageError
from fullconv.forks import ForkSafe
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.onnx_bytes.cut import read_for
from fullconv.runtime.onnx_bytes.half_weights import has_halves, restore_weights
from fullconv.runtime.onnx_bytes.scan import MAX_FOLDED, read_onnx

__all__ = ["OnnxFile", "open_session"]

_MAX_OUTPUT = "optimization.constant_folding_max_output_size_in_bytes"
"""ONNX Runtime computes a node of constants while it loads a file only if its output has at most so many bytes."""


_ON_CPU, _ON_GPU = "CPUExecutionProvider", "CUDAExecutionProvider"


def open_session(
    path: Path,
    model: Callable[[], str | bytes],
    nodes: int,
    threads: int | None = None,
    spin: bool = True,
    device: Device = "auto",
) -> ForkSafe[onnxruntime.InferenceSession]:
    """Open a session for a file name or the content of a file, which `model` returns, of so many nodes.

    A forked child calls `model` again. `threads`, `spin` and `device` are those of `OnnxFile.load`. Raises ModelError,
    which names `path`, if ONNX Runtime cannot read it, and UsageError if it has no CUDA.
    """
    providers = _find_providers(device)
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 4  # its errors are exceptions, which fullconv words
    options.enable_mem_pattern = False
    options.add_session_config_entry(_MAX_OUTPUT, str(MAX_FOLDED // max(1, nodes)))
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    try:
        session = ForkSafe(lambda: onnxruntime.InferenceSession(model(), options, providers=providers))
    except Exception as error:  # ONNX Runtime's exceptions have no other common class
        raise ModelError(f"{path}: cannot be read as an ONNX file: {error}", code="invalid-onnx-file") from error
    if session.value.get_providers()[0] != providers[0]:  # ONNX Runtime would go on without a word, on the CPU
        message = "--device cuda: ONNX Runtime cannot start CUDA; install the CUDA and cuDNN that it needs"
        raise UsageError(message, code="no-such-device")
    return session


def _find_providers(device: Device) -> list[str]:
    """Return the names of ONNX Runtime's providers for a device. Raises UsageError if it has no CUDA."""
    if device != "cuda":
        return [_ON_CPU]
    if _ON_GPU not in onnxruntime.get_available_providers():
        message = (
            "--device cuda: the installed ONNX Runtime has no CUDA; install onnxruntime-gpu instead of onnxruntime, or "
            "leave the option out"
        )
        raise UsageError(message, code="no-such-device")
    return [_ON_GPU, _ON_CPU]


class OnnxFile:
    """A file written by `fullconv export`, run by ONNX Runtime, on the CPU unless CUDA is asked for.

    One session handles images of every size. Fixed shapes are not faster, and each would need its own session
    (benchmarks/sessions.py). ONNX Runtime's arena keeps the memory of the largest call; without it, images of a
    megapixel take 1.65 times as long. The memory pattern for each size is off, so that calls with many sizes do not
    accumulate memory (benchmarks/memory_runner.py). The session holds only what the logits need: ONNX Runtime would
    compute the label map of the file with every call.
    """

    def __init__(
        self, metadata: ModelMetadata, open_for: Callable[[str], ForkSafe[onnxruntime.InferenceSession]]
    ) -> None:
        """Take a function that opens a session for one output; `load` makes both from a file."""
        self.metadata, self._open_for = metadata, open_for
        self._sessions = {"logits": open_for("logits")}

    @classmethod
    def load(cls, path: Path, threads: int | None = None, spin: bool = True, device: Device = "auto") -> OnnxFile:
        """Load a file. `threads` None means all cores that the process may use.

        Threads that wait for work spin for a moment, which is the fastest if one image is computed at a time. Without
        `spin` they sleep, so that other threads of the process get the cores (benchmarks/serving.py).

        Raises ModelError if it does not exist, or `fullconv export` did not write it, and UsageError for a device that
        ONNX Runtime does not have.
        """
        if not path.is_file():
            message = f"{path}: no such file; give a .onnx file that fullconv export wrote"
            raise ModelError(message, code="model-not-found")
        content = read_onnx(path)
        metadata = ModelMetadata.from_metadata(path, content.metadata)
        return cls(
            metadata,
            lambda output: open_session(
                path, lambda: _read(path.absolute(), output), content.nodes, threads, spin, device
            ),
        )

    def scores(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to logits at the prediction stride, N x K x h x w float32 (the output `logits`)."""
        scores: Float32 = self._run("logits", images)
        return scores

    def label_maps(self, images: UInt8) -> UInt8:
        """Map N x H x W x C uint8 to N x H x W uint8 class ids (the output `label_map`).

        The output serves users who have only the file. `full_size_labels` computes the same faster. The first call
        opens a second session.
        """
        if "label_map" not in self._sessions:
            self._sessions["label_map"] = self._open_for("label_map")
        maps: UInt8 = self._run("label_map", images)
        return maps

    def release_memory(self) -> None:
        """Give the memory of the largest call back to the system, by a small call at whose end the arena shrinks."""
        self._run("logits", np.zeros((1, 64, 64, self.metadata.info.input.channels), np.uint8), shrink=True)

    def _run(self, output: str, images: UInt8, shrink: bool = False) -> npt.NDArray[Any]:
        size = f"{images.shape[1]}x{images.shape[2]}"
        options = onnxruntime.RunOptions()
        if shrink:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        options.log_severity_level = 4
        try:
            (result,) = self._sessions[output].value.run([output], {"images": np.ascontiguousarray(images)}, options)
        except Exception as error:
            if "alloc" in str(error).lower():
                raise MemoryError(f"an image of {size} does not fit in memory") from error
            raise ModelError(f"the network fails on {size} pixels: {error}", code="network-failed") from error
        array: npt.NDArray[Any] = result
        return array


def _read(path: Path, output: str) -> bytes | str:
    """Return what a session for one output opens: the file's absolute path, or its content, cut and in float32."""
    content = read_for(path, output)
    if isinstance(content, bytes):
        return restore_weights(content)
    return restore_weights(path.read_bytes()) if has_halves(path) else content
