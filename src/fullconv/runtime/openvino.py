"""Exported files on OpenVINO, which is faster than ONNX Runtime on processors with bfloat16 instructions."""

from __future__ import annotations

import math
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fullconv.arrays import Float32, UInt8
from fullconv.choices import Precision
from fullconv.cores import usable_cores
from fullconv.errors import ModelError
from fullconv.forks import ForkSafe
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.onnx_bytes.scan import MAX_FOLDED, scan_onnx
from fullconv.runtime.openvino_process import OpenVinoProcess

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it sends usage data and writes into HOME

import openvino  # noqa: E402

__all__ = ["OpenVinoFile"]

KERNELS = 256
"""The number of compiled kernels that OpenVINO keeps.

Its default, 5000, can take a gigabyte of memory if every image has another size.
"""


_PER_BYTE = 32
"""The bytes of constant expressions that one byte of a file may take more; weights of one byte take 16 as floats."""


class OpenVinoFile:
    """A file written by `fullconv export`, run by OpenVINO on the CPU.

    One compiled network handles images of every size. The file's output `label_map` is left out, because
    `full_size_labels` is faster. Any thread may call it; the network computes one batch at a time, on all its threads.
    """

    def __init__(self, network: ForkSafe[_Network | OpenVinoProcess], metadata: ModelMetadata) -> None:
        """Wrap a compiled network; `load` creates one from a file."""
        self._network, self.metadata = network, metadata

    @classmethod
    def load(cls, path: Path, threads: int | None = None, precision: Precision | None = None) -> OpenVinoFile:
        """Load a file.

        `threads` None means all cores that the process may use. With `precision` None OpenVINO chooses: bfloat16 if the
        processor has instructions for it. Raises ModelError if the file does not exist, or `fullconv export` did not
        write it.
        """
        if not path.is_file():
            message = f"{path}: no such file; give a .onnx file that fullconv export wrote"
            raise ModelError(message, code="model-not-found")
        absolute = path.absolute()
        try:
            network = ForkSafe(lambda: _make_network(absolute, threads, precision))
        except ModelError:
            raise
        except Exception as error:  # OpenVINO's exceptions have no other common class
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{path}: cannot be read as an ONNX file: {reason}", code="invalid-onnx-file") from error
        return cls(network, network.value.metadata)

    def scores(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to logits at the prediction stride, N x K x h x w float32."""
        size = f"{images.shape[1]}x{images.shape[2]}"
        try:
            return self._network.value.scores(np.ascontiguousarray(images))
        except (ModelError, MemoryError):
            raise
        except Exception as error:
            if "alloc" in str(error).lower():
                raise MemoryError(f"an image of {size} does not fit in memory") from error
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"the network fails on {size} pixels: {reason}", code="network-failed") from error


class _Network:
    """A compiled network in this process, which computes one batch at a time."""

    def __init__(self, path: Path, threads: int | None, precision: Precision | None) -> None:
        core = _core_guard().value
        self.metadata = ModelMetadata.from_metadata(path, scan_onnx(path))
        whole = core.read_model(path)
        _check_constants(path, whole)
        model = openvino.Model([whole.output("logits")], whole.get_parameters())
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "CPU_RUNTIME_CACHE_CAPACITY": KERNELS,
        }
        settings |= {"INFERENCE_PRECISION_HINT": precision} if precision else {}
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._lock = threading.Lock()

    def scores(self, images: UInt8) -> Float32:
        with self._lock:
            logits: Float32 = self._request.infer([images], share_inputs=True)[0]
        return logits


def _check_constants(path: Path, model: openvino.Model) -> None:
    """Refuse a network whose constant expressions are large; OpenVINO would compute them all in advance."""
    constant: set[str] = set()
    folded = 0
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        sources = [port.get_source_output().get_node().get_name() for port in node.inputs()]
        if kind in ("Constant", "ShapeOf") or (sources and constant.issuperset(sources)):
            constant.add(node.get_name())
            if kind != "Constant":
                folded += sum(_count_bytes(port) for port in node.outputs())
    if folded > MAX_FOLDED + _PER_BYTE * path.stat().st_size:
        size = f"{folded / 1e9:.1f} GB"
        advice = "which fullconv export does not write; export the model again"
        message = f"{path} has constant expressions of {size}, {advice}"
        raise ModelError(message, code="large-constants")


def _count_bytes(port: openvino.Output) -> int:
    shape = port.get_partial_shape()
    return math.prod(shape.to_shape()) * port.get_element_type().size if shape.is_static else 0


def _make_network(path: Path, threads: int | None, precision: Precision | None) -> _Network | OpenVinoProcess:
    if _core_guard().inherited:
        return OpenVinoProcess(path, threads, precision)
    return _Network(path, threads, precision)


def _core_guard() -> ForkSafe[openvino.Core]:
    """Return the only core of this process.

    When a second core ends, OpenVINO leaves a freed signal stack to the thread, and the next signal kills the process.
    """
    with _one_at_a_time:  # nothing forks meanwhile, because loading a model is a native call
        return _make_core()


_one_at_a_time = threading.Lock()


@cache
def _make_core() -> ForkSafe[openvino.Core]:
    return ForkSafe(openvino.Core)
