"""Layers along one axis, and which input pixels the cells behind them see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from math import gcd, lcm

from fullconv.errors import ModelError

__all__ = ["Field", "Layer", "Tap", "chain_size", "same_sizes"]


@dataclass(frozen=True)
class Layer:
    """One convolution, pooling or transposed convolution along one axis; sizes in cells.

    `padding` is (before, after). `ceil_mode` is pooling's rounding up, with torch's rule that the last window
    starts inside the input or its left padding. `output_padding` belongs to transposed layers only.
    """

    kernel: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    ceil_mode: bool = False
    transposed: bool = False
    output_padding: int = 0

    def __post_init__(self) -> None:
        if min(self.kernel, self.stride, self.dilation) < 1 or min(*self.padding, self.output_padding) < 0:
            raise ModelError(f"no such layer: {self}")

    @property
    def reach(self) -> int:
        """From the first tap of the kernel to its last: `dilation * (kernel - 1)`."""
        return self.dilation * (self.kernel - 1)

    def output_size(self, size: int) -> int:
        """Cells that come out of `size` cells; 0 or less where the input is too small.

        Forward, `h_o = (h_i + 2 pad - kernel) / stride + 1`; transposed, the same equation solved for h_i.
        """
        if self.transposed:
            return (size - 1) * self.stride - sum(self.padding) + self.reach + self.output_padding + 1
        room = size + sum(self.padding) - self.reach - 1
        if not self.ceil_mode:
            return room // self.stride + 1
        out = -(-room // self.stride) + 1
        return out - 1 if (out - 1) * self.stride >= size + self.padding[0] else out

    def input_size(self, out: int) -> int:
        """The fewest cells, at least 1, from which `output_size` makes `out` or more."""
        if self.transposed:
            need = out + sum(self.padding) - self.reach - self.output_padding - 1
            return max(1, -(-need // self.stride) + 1)
        floor_size = (out - 1) * self.stride + self.reach + 1 - sum(self.padding)
        size = max(1, floor_size - (self.stride - 1 if self.ceil_mode else 0))
        while self.output_size(size) < out:
            size += 1
        return size

    def rarefied(self, finer: int, most: int) -> Layer:
        """This layer on a map `finer` times as fine, where its taps meet the same cells as before.

        The paper's filter rarefaction (section 3.2): holes between the taps. Of its stride the largest divisor up to
        `most` is kept; the map that it makes is `finer * self.stride // rarefied.stride` times as fine.
        """
        kept = max(step for step in range(1, self.stride + 1) if self.stride % step == 0 and step <= max(1, most))
        before, after = self.padding
        padding = (finer * before, finer * after)
        return replace(self, stride=kept, padding=padding, dilation=finer * self.dilation)


def chain_size(layers: Iterable[Layer], size: int) -> int:
    """The output size of layers one after another.

    Raises ModelError where a layer would get fewer cells than its kernel needs.
    """
    for layer in layers:
        out = layer.output_size(size)
        if out < 1:
            raise ModelError(f"an input of {size} cells is too small for {layer}")
        size = out
    return size


@dataclass(frozen=True)
class Field:
    """Which input pixels the cells of a feature map see, along one axis.

    Cell `j` sees pixels `first(j)` to `last(j)`, both included; pixels outside of the image are padding.
    The pattern repeats: cell `j + len(spans)` sees what cell `j` sees, `advance` pixels on. Without
    transposed convolution the period is one cell and `advance` the stride. Spans are hulls and never too
    small: holes that dilation leaves are counted in, and so is what surrounds a cell that a transposed
    convolution with a kernel shorter than its stride leaves empty. A span with first > last sees nothing.
    """

    advance: int = 1
    spans: tuple[tuple[int, int], ...] = ((0, 0),)
    center: Fraction = Fraction(0)

    def first(self, cell: int) -> int:
        """The first pixel that `cell` sees."""
        period, phase = divmod(cell, len(self.spans))
        return self.spans[phase][0] + period * self.advance

    def last(self, cell: int) -> int:
        """The last pixel that `cell` sees."""
        period, phase = divmod(cell, len(self.spans))
        return self.spans[phase][1] + period * self.advance

    @property
    def stride(self) -> Fraction:
        """Input pixels per cell."""
        return Fraction(self.advance, len(self.spans))

    @property
    def receptive_field(self) -> int:
        """Input pixels that one cell sees: the most over all phases."""
        return max(last - first + 1 for first, last in self.spans)

    @property
    def offset(self) -> Fraction:
        """The input coordinate of the centre of cell 0, pixel centres lying at integers."""
        return self.center

    @property
    def halo(self) -> tuple[int, int]:
        """Pixels before and after a cell's own place that it needs, for cells that are pixels (stride 1).

        A tile with so many pixels more on each side gives the cells between them as the whole image does.
        """
        if self.stride != 1:
            raise ModelError(f"the halo is asked of an output at stride 1, this one has stride {self.stride}")
        before = max(cell - first for cell, (first, _) in enumerate(self.spans))
        after = max(last - cell for cell, (_, last) in enumerate(self.spans))
        return max(0, before), max(0, after)

    def after(self, layer: Layer) -> Field:
        """The field of the cells that `layer` makes of these cells."""
        pad, reach, stride = layer.padding[0], layer.reach, layer.stride
        shift = Fraction(reach, 2) - pad
        if layer.transposed:
            spans = (
                (self.first(-((reach - pad - cell) // stride)), self.last((cell + pad) // stride))
                for cell in range(stride * len(self.spans))
            )
            return _reduced(self.advance, tuple(spans), self.center - shift * self.stride / stride)
        cells = len(self.spans) // gcd(len(self.spans), stride)
        starts = [cell * stride - pad for cell in range(cells)]
        spans = ((self.first(start), self.last(start + reach)) for start in starts)
        advance = self.advance * stride * cells // len(self.spans)
        return _reduced(advance, tuple(spans), self.center + shift * self.stride)

    def through(self, layers: Iterable[Layer]) -> Field:
        """The field after layers one after another."""
        return reduce(Field.after, layers, self)

    def shifted(self, cells: int) -> Field:
        """The field after a crop of `cells` cells before the first (negative: padding)."""
        spans = tuple((self.first(cells + j), self.last(cells + j)) for j in range(len(self.spans)))
        return Field(self.advance, spans, self.center + cells * self.stride)

    def joined(self, other: Field) -> Field:
        """The field of a sum or concatenation of two maps, cell by cell: the hull of both.

        Its centre is that of the map with the larger receptive field. Raises ModelError where strides differ.
        """
        if self.stride != other.stride:
            raise ModelError(f"maps at strides {self.stride} and {other.stride} cannot be joined")
        cells = lcm(len(self.spans), len(other.spans))
        spans = ((min(self.first(j), other.first(j)), max(self.last(j), other.last(j))) for j in range(cells))
        wider = max(self, other, key=lambda field: field.receptive_field)
        return _reduced(int(self.stride * cells), tuple(spans), wider.center)


def _reduced(advance: int, spans: tuple[tuple[int, int], ...], center: Fraction) -> Field:
    """The field with its shortest period."""
    for period in range(1, len(spans)):
        if len(spans) % period or (advance * period) % len(spans):
            continue
        step = advance * period // len(spans)
        moved = (
            (first - spans[j % period][0], last - spans[j % period][1]) == (j // period * step,) * 2
            for j, (first, last) in enumerate(spans)
        )
        if all(moved):
            return Field(step, spans[:period], center)
    return Field(advance, spans, center)


@dataclass(frozen=True)
class Tap:
    """A feature map along one axis: what its cells see, and the layers that its size comes from."""

    field: Field = Field()
    layers: tuple[Layer, ...] = ()

    def size(self, pixels: int) -> int:
        """Cells for an input of `pixels`; ModelError where it is too small."""
        return chain_size(self.layers, pixels)

    def input_size(self, cells: int) -> int:
        """The fewest pixels that give `cells` cells or more."""
        return reduce(lambda out, layer: layer.input_size(out), reversed(self.layers), cells)

    def after(self, layer: Layer) -> Tap:
        """The map that `layer` makes of this one."""
        return Tap(self.field.after(layer), (*self.layers, layer))

    def cropped(self, before: int, after: int) -> Tap:
        """The map without its first `before` and its last `after` cells."""
        return Tap(self.field.shifted(before), (*self.layers, Layer(before + after + 1)))


def same_sizes(one: Tap, other: Tap) -> bool:
    """Whether two maps have one size whatever the image's is.

    Told from what follows their last common layer, on 64 sizes from where both have cells: more than the remainders
    of any stride between two joins.
    """
    common = next(
        (i for i, (a, b) in enumerate(zip(one.layers, other.layers, strict=False)) if a != b),
        min(len(one.layers), len(other.layers)),
    )
    ends = Tap(layers=one.layers[common:]), Tap(layers=other.layers[common:])
    start = max(end.input_size(1) for end in ends)
    return all(ends[0].size(n) == ends[1].size(n) for n in range(start, start + 64))
