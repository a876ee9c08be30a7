"""Export of networks to ONNX files that run without torch and without fullconv."""

from fullconv.onnx_export.file import Exported, export

__all__ = ["Exported", "export"]
