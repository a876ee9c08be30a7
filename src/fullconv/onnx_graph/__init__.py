"""ONNX graphs without torch: padding, fusion and label map, and files cut at their score layers and joined again."""

__all__: list[str] = []
