"""Files to arrays and back: one reader for every command."""

__all__: list[str] = []
