"""Inspect the network that an .onnx file was exported from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fullconv.errors import ModelError
from fullconv.files import StrPath
from fullconv.net.classifiers.user_file import allow_code
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.inspection import Inspection, Pair
from fullconv.net.inspect.network import inspect_fcn
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.onnx_scan import scan_onnx

__all__ = ["inspect_exported"]


def inspect_exported(path: Path, size: Pair | None = None, code: StrPath | None = None) -> Inspection:
    """Inspect the network that an .onnx file of fullconv was exported from, for images of `size` (height, width).

    `code` is as in `load_net`. Raises ModelError if fullconv did not write the file, or if the file does not describe
    the layers (live models and files of early versions).
    """
    network = ModelMetadata.from_metadata(path, scan_onnx(path)).notes.get("network")
    try:
        spec = NetSpec.from_dict(network or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} does not describe the layers of its network; name the run folder that it was exported from"
        raise ModelError(message, code="no-network-in-onnx") from error
    return inspect_fcn(replace(spec, model=allow_code(spec.model, spec.code_sha256, path, code)), size)
