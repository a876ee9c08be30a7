"""Exported files on OpenVINO: quicker than ONNX Runtime where the processor has instructions for bfloat16."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import openvino

from fullconv.cores import usable_cores
from fullconv.errors import ModelError
from fullconv.run.metadata import Float32, ModelMetadata

__all__ = ["OpenVinoFile", "Precision"]

Precision = Literal["f32", "bf16"]

KERNELS = 256
"""Compiled kernels that OpenVINO keeps: its own 5000 grow to a gigabyte where every image has another size."""


class OpenVinoFile:
    """Runs a file of `fullconv export` on the CPU, in the precision that OpenVINO finds best for it.

    One compiled network takes every size. The file's label map is left out: `full_size_labels` is quicker.
    """

    def __init__(self, request: openvino.InferRequest, metadata: ModelMetadata) -> None:
        self.request, self.metadata = request, metadata

    @classmethod
    def load(cls, path: Path, threads: int | None = None, precision: Precision | None = None) -> OpenVinoFile:
        """Load a file of `fullconv export`; ModelError for other files.

        `threads` None uses all cores of the process, `precision` None lets OpenVINO choose the faster one.
        """
        if not path.is_file():
            raise ModelError(f"there is no model {path}; name a .onnx file that fullconv export wrote", code="no-model")
        try:
            core = _core()
            whole = core.read_model(path)
            metadata = ModelMetadata.from_metadata(_metadata(whole))
            model = openvino.Model([whole.output("logits")], whole.get_parameters())
            settings: dict[str, Any] = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": threads or usable_cores(),
                "CPU_RUNTIME_CACHE_CAPACITY": KERNELS,
            }
            settings |= {"INFERENCE_PRECISION_HINT": precision} if precision else {}
            request = core.compile_model(model, "CPU", settings).create_infer_request()
        except ModelError as error:
            raise ModelError(f"{path}: {error}", code=error.code) from error
        except Exception as error:  # OpenVINO's have no class in common but this one
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{path} cannot be read as an ONNX file: {reason}", code="damaged-onnx") from error
        return cls(request, metadata)

    def scores(self, images: npt.NDArray[np.uint8]) -> Float32:
        """Return the output `logits`: N x H x W x C uint8 to N x K x h x w float32 at the prediction stride."""
        size = f"{images.shape[1]}x{images.shape[2]}"
        try:
            scores: Float32 = self.request.infer([np.ascontiguousarray(images)], share_inputs=True)[0]
        except Exception as error:
            if "alloc" in str(error).lower():
                raise MemoryError(f"an image of {size} does not fit in memory") from error
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"the network fails on {size} pixels: {reason}", code="network-failed") from error
        return scores


@cache
def _core() -> openvino.Core:
    """One a process: where two end, OpenVINO leaves the thread a freed signal stack, and the next signal kills it."""
    return openvino.Core()


def _metadata(model: Any) -> dict[str, str]:
    """The file's metadata_props, which OpenVINO keeps as the model's runtime information."""
    if not model.has_rt_info(["framework"]):
        return {}
    return {name: str(text) for name, text in model.get_rt_info(["framework"]).value.items()}
