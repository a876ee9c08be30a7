"""Classifiers by name or from a user's file, and their weights."""

__all__: list[str] = []
