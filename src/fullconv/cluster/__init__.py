"""Prediction past one process: shares of one image and their join, and the workers of a Ray cluster."""

__all__: list[str] = []
