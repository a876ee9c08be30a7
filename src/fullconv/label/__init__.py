"""Labelling in the browser while the network learns."""

__all__: list[str] = []
