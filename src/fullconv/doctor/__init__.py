"""Check a data set in one pass over its files, show the faults on one page, and repair a copy."""

__all__: list[str] = []
