"""The bytes of ONNX files, without any library: check them, cut them, restore their weights."""

__all__: list[str] = []
