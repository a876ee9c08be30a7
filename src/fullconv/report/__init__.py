"""The report of a run: what a model gets right and wrong on labelled images, as one HTML file."""

__all__: list[str] = []
