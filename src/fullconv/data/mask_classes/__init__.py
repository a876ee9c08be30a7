"""What all masks of a data set store, and the classes that follow from it."""

__all__: list[str] = []
