"""The graph of a classifier, and the size and receptive field of each value in it."""

__all__: list[str] = []
