"""Data sets: their layouts, class names, splits, channels and statistics."""

__all__: list[str] = []
