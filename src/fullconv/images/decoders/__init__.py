"""One adapter for each library that decodes image files, all with the same interface."""

__all__: list[str] = []
