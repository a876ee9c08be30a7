"""Data sets: layouts, class names, the digit scenes, batches."""

__all__: list[str] = []
