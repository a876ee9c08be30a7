"""Parts of a run: its settings, its loop, its reports, and its result."""

__all__: list[str] = []
