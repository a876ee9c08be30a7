"""The demo: turn a classifier of handwritten digits into the four networks of the paper."""

__all__: list[str] = []
