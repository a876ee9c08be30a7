"""Networks as ONNX files that need neither torch nor fullconv to run."""

from fullconv.onnx_export.file import Exported, export

__all__ = ["Exported", "export"]
