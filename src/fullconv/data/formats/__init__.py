"""Read data sets of annotation tools and benchmarks: one module for each format."""

__all__: list[str] = []
