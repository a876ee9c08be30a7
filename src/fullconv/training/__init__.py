"""Training: recipes, runs, and the files in a run folder."""

__all__: list[str] = []
