"""The report on a network: its layers, with geometry and cost, and its totals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

__all__ = ["Inspection", "LayerRow", "Pair", "SkipFacts", "UpsamplingFacts"]

Pair = tuple[int, int]
"""Two integers: vertical and horizontal, or before and after."""

Fractions = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class LayerRow:
    """One layer. Pairs are (vertical, horizontal), and None where the layer has no such value or it is not known.

    `shape` is that of the output, C x H x W. `stride` (the distance between cells), `receptive_field` and `offset`
    (the coordinate of the first cell's center) describe the output's cells in pixels of the image. `macs` counts the
    multiply-accumulates for one image.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    macs: int
    kernel: Pair | None = None
    step: Pair | None = None
    padding: Pair | None = None
    stride: Fractions | None = None
    receptive_field: Pair | None = None
    offset: Fractions | None = None


@dataclass(frozen=True)
class UpsamplingFacts:
    """The upsampling of a score map to the next finer grid; a negative `crop` cuts the finer map instead."""

    name: str
    factor: Pair
    kernel: Pair
    crop: Pair


@dataclass(frozen=True)
class SkipFacts:
    """The geometry of a skip network at one input size: `padding` and `halo` in pixels (before, after) by axis."""

    padding: tuple[Pair, Pair]
    upsamplings: tuple[UpsamplingFacts, ...]
    halo: tuple[Pair, Pair]


@dataclass(frozen=True)
class Inspection:
    """The layers of a network for images of `size` (height, width); `skip` is None for a classifier.

    `context` names the operations at which values of the whole image enter the map, so that tiles differ from it.
    """

    name: str
    size: Pair
    rows: tuple[LayerRow, ...]
    skip: SkipFacts | None = None
    context: tuple[str, ...] = ()

    @property
    def params(self) -> int:
        """The number of parameters, without buffers."""
        return sum(row.params for row in self.rows)

    @property
    def macs(self) -> int:
        """The number of multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; whole strides and offsets are integers."""
        plain: dict[str, Any] = _plain({**asdict(self), "params": self.params, "macs": self.macs})
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return value
