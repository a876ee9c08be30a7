"""Scores of a model on labelled images, their intervals, and the location of the errors."""

__all__: list[str] = []
