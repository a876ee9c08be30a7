"""The libraries that decode image files, each behind the same interface."""

__all__: list[str] = []
