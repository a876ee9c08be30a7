"""The published networks: their padding and their weights."""

__all__: list[str] = []
