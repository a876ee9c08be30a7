"""One pass of a model over labelled images: scores, intervals, and where the errors lie."""

__all__: list[str] = []
