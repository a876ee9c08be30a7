"""Exported files on ONNX Runtime, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from fullconv.cores import usable_cores
from fullconv.errors import ModelError
from fullconv.run.metadata import Float32, ModelMetadata

__all__ = ["OnnxFile"]

UInt8 = npt.NDArray[np.uint8]


class OnnxFile:
    """Runs a file of `fullconv export` with ONNX Runtime on the CPU.

    One session takes every size: fixed shapes are no faster, and each would cost a session (benchmarks/sessions.py).
    ONNX Runtime's arena keeps the memory of the largest call, without which images of a megapixel take nearly twice as
    long; its plan of memory for each size is off, so that calls of many sizes do not add up (memory_runner.py).
    """

    def __init__(self, session: onnxruntime.InferenceSession, metadata: ModelMetadata) -> None:
        self.session, self.metadata = session, metadata

    @classmethod
    def load(cls, path: Path, threads: int | None = None) -> OnnxFile:
        """Load a file of `fullconv export`; ModelError for others. `threads` None uses all cores of the process."""
        if not path.is_file():
            raise ModelError(f"there is no model {path}; name a .onnx file that fullconv export wrote", code="no-model")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.log_severity_level = 3
        options.enable_mem_pattern = False
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            metadata = ModelMetadata.from_metadata(session.get_modelmeta().custom_metadata_map)
        except ModelError as error:
            raise ModelError(f"{path}: {error}", code=error.code) from error
        except Exception as error:  # ONNX Runtime's have no class in common but this one
            raise ModelError(f"{path} cannot be read as an ONNX file: {error}", code="damaged-onnx") from error
        return cls(session, metadata)

    def scores(self, images: UInt8) -> Float32:
        """Return the output `logits`: N x H x W x C uint8 to N x K x h x w float32 at the prediction stride."""
        scores: Float32 = self._run("logits", images)
        return scores

    def label_maps(self, images: UInt8) -> UInt8:
        """Return the output `label_map`, N x H x W uint8, made for other programs: `full_size_labels` is quicker."""
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
            raise ModelError(f"the network fails on {size} pixels: {error}", code="network-failed") from error
        array: npt.NDArray[Any] = result
        return array
