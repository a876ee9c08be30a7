"""Running a model: the seam to whatever computes it, prediction of files, and scoring."""

__all__: list[str] = []
