"""The values that an option may have, as types: the command line, Python and mypy check the same ones."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Dilation", "PaddingMode", "RecipeName", "Stride", "UpsampleMode"]

Stride: TypeAlias = Literal[32, 16, 8, 4]
"""Prediction stride: pixels from one cell of the finest score map to the next."""

Dilation: TypeAlias = Literal[16, 8, 4]
"""The stride at which the backbone's maps stay; later layers are dilated."""

UpsampleMode: TypeAlias = Literal["fixed", "learned", "unpool", "resize"]
"""Bilinear kernels, fixed or learned; the indices of the poolings; a plain resize."""

PaddingMode: TypeAlias = Literal["minimal", "reference"]
"""The least padding with which every pixel is covered, or the 100 pixels of the published networks."""

RecipeName: TypeAlias = Literal["default", "paper"]
"""The recipes of `fullconv.learn.recipe`."""
