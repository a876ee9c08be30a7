"""Losses of a training: cross-entropy, hard pixels, Dice, Lovász and a teacher."""

__all__: list[str] = []
