"""A file of `fullconv export` as a graph and its description."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from fullconv.errors import ModelError
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.onnx_bytes.scan import scan_onnx

__all__ = ["read_exported", "write_exported"]


def read_exported(path: Path) -> tuple[onnx.ModelProto, ModelMetadata]:
    """Read a file of `fullconv export` and its description. Raises ModelError for any other file."""
    if not path.is_file():
        message = f"{path}: no such file; give a .onnx file that fullconv export wrote"
        raise ModelError(message, code="model-not-found")
    metadata = ModelMetadata.from_metadata(path, scan_onnx(path))
    try:
        return onnx.load(path), metadata
    except Exception as error:  # protobuf's errors have no common class
        raise ModelError(f"{path}: cannot be read as an ONNX file: {error}", code="invalid-onnx-file") from error


def write_exported(path: Path, model: onnx.ModelProto, metadata: ModelMetadata) -> None:
    """Write a graph with another description than it had. The model is changed."""
    del model.metadata_props[:]
    helper.set_model_props(model, metadata.to_metadata())
    onnx.save(model, path)
