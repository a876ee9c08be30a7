"""What a labelling session keeps: strokes in journals, classes, and the masks that follow from both."""

__all__: list[str] = []
