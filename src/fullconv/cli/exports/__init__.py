"""The command `fullconv export` and its options."""

__all__: list[str] = []
