"""Data sets written in the layouts of other tools."""

__all__: list[str] = []
