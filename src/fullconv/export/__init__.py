"""Export of networks to ONNX files that run without torch and without fullconv."""

from fullconv.export.file import Exported, export

__all__ = ["Exported", "export"]
