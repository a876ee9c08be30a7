"""What is wrong with a data set, found in one pass over its files, shown on one page, and repaired in a copy."""

__all__: list[str] = []
