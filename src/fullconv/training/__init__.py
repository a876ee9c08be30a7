"""Training: recipes, runs and what they leave on the disk."""

__all__: list[str] = []
