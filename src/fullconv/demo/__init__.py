"""The demo: a classifier of handwritten digits becomes the four networks of the paper."""

__all__: list[str] = []
