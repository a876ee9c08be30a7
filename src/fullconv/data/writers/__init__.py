"""Write data sets: one module for each layout."""

__all__: list[str] = []
