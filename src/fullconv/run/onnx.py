"""Exported files on ONNX Runtime, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fullconv.cores import usable_cores
from fullconv.errors import ModelError
from fullconv.run.about import About, Float32

__all__ = ["OnnxFile"]

UInt8 = npt.NDArray[np.uint8]


class OnnxFile:
    """Runs a file of `fullconv export` with ONNX Runtime on the CPU.

    One session takes every size: fixed shapes are no faster, and each would cost a session (benchmarks/sessions.py).
    ONNX Runtime's arena keeps the memory of the largest call, without which images of a megapixel take nearly twice as
    long; its plan of memory for each size is off, so that calls of many sizes do not add up (memory_runner.py).
    """

    def __init__(self, session: onnxruntime.InferenceSession, about: About) -> None:
        self.session, self.about = session, about

    @classmethod
    def load(cls, path: Path, threads: int | None = None) -> OnnxFile:
        """From a file; `threads` None takes all cores that the process may use. ModelError where it is none of ours."""
        if not path.is_file():
            raise ModelError(f"there is no model {path}; name a .onnx file that fullconv export wrote")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3
        options.enable_mem_pattern = False
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            about = About.from_metadata(session.get_modelmeta().custom_metadata_map)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        except Exception as error:  # ONNX Runtime's have no class in common but this one
            raise ModelError(f"{path} cannot be read as an ONNX file: {error}") from error
        return cls(session, about)

    def scores(self, images: UInt8) -> Float32:
        """The output `logits`: N x H x W x C uint8 to N x K x h x w float32 at the prediction stride."""
        scores: Float32 = self._run("logits", images)
        return scores

    def label_maps(self, images: UInt8) -> UInt8:
        """The output `label_map`, N x H x W uint8: for those who have the file alone; `full_size_labels` is quicker."""
        maps: UInt8 = self._run("label_map", images)
        return maps

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
