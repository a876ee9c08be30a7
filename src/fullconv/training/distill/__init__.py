"""Distillation: a trained network as the teacher, and images without masks, which only the teacher labels."""

__all__: list[str] = []
