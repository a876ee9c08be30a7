"""Runners: one interface to a network on torch, ONNX Runtime or OpenVINO, whole, in tiles or patch by patch."""

__all__: list[str] = []
