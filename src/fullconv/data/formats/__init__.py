"""Data sets as annotation tools and benchmarks write them, read in place, and written."""

__all__: list[str] = []
