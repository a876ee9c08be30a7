"""The report of a model: its scores, errors and pictures on labelled images, as one HTML file."""

__all__: list[str] = []
