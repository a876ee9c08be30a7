"""Images to results: labels, overlays, polygons and areas, for images of any size."""

__all__: list[str] = []
