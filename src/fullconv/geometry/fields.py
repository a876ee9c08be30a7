"""Layers along one axis, and the receptive fields of the cells of their outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from math import gcd, lcm

from fullconv.errors import ModelError

__all__ = ["Field", "Layer", "Tap", "chain_size", "have_same_size"]


@dataclass(frozen=True)
class Layer:
    """One convolution, pooling or transposed convolution along one axis; sizes are in cells.

    `padding` is (before, after). `ceil_mode` rounds the size of a pooling up, with torch's rule that the last window
    starts inside the input or its left padding. `output_padding` is for transposed layers only.

    Raises ModelError if kernel, stride or dilation is below 1, or a padding is negative.
    """

    kernel: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    ceil_mode: bool = False
    transposed: bool = False
    output_padding: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.kernel, self.stride, self.dilation) < 1 or min(*self.padding, self.output_padding) < 0:
            message = f"{self}: kernel, stride and dilation must be at least 1, padding at least 0"
            raise ModelError(message, code="invalid-layer")

    @property
    def reach(self) -> int:
        """The distance from the first tap of the kernel to the last: `dilation * (kernel - 1)`."""
        return self.dilation * (self.kernel - 1)

    def output_size(self, size: int) -> int:
        """Return the number of output cells for `size` input cells; 0 or less if the input is too small.

        For a convolution it is `h_o = (h_i + 2 pad - kernel) / stride + 1`; for a transposed convolution the same
        equation is solved for h_i.
        """
        if self.transposed:
            return (size - 1) * self.stride - sum(self.padding) + self.reach + self.output_padding + 1
        room = size + sum(self.padding) - self.reach - 1
        if not self.ceil_mode:
            return room // self.stride + 1
        out = -(-room // self.stride) + 1
        return out - 1 if (out - 1) * self.stride >= size + self.padding[0] else out

    def input_size(self, out: int) -> int:
        """Return the smallest input size, at least 1, whose `output_size` is `out` or more."""
        if self.transposed:
            need = out + sum(self.padding) - self.reach - self.output_padding - 1
            return max(1, -(-need // self.stride) + 1)
        floor_size = (out - 1) * self.stride + self.reach + 1 - sum(self.padding)
        size = max(1, floor_size - (self.stride - 1 if self.ceil_mode else 0))
        while self.output_size(size) < out:
            size += 1
        return size

    def rarefy(self, finer: int, most: int) -> Layer:
        """Return this layer for a map that is `finer` times as fine; its taps read the same positions as before.

        This is the paper's filter rarefaction (section 3.2): zeros between the taps. The new stride is the largest
        divisor of the old stride that is at most `most`. The output is `finer * self.stride // result.stride` times as
        fine as that of this layer.
        """
        stride = max(step for step in range(1, self.stride + 1) if self.stride % step == 0 and step <= max(1, most))
        before, after = self.padding
        padding = (finer * before, finer * after)
        return replace(self, stride=stride, padding=padding, dilation=finer * self.dilation)


def chain_size(layers: Iterable[Layer], size: int) -> int:
    """Return the output size of `layers` applied in order to `size` cells.

    Raises ModelError if a layer would get fewer cells than its kernel needs.
    """
    for layer in layers:
        out = layer.output_size(size)
        if out < 1:
            message = f"an input of {size} cells is too small for {layer}; use a larger image"
            raise ModelError(message, code="input-too-small")
        size = out
    return size


@dataclass(frozen=True)
class Field:
    """The receptive fields of the cells of a feature map, along one axis.

    The receptive field of cell `j` is the pixels `first(j)` to `last(j)`, both included; pixels outside the image are
    padding. The pattern repeats: the field of cell `j + len(spans)` is that of cell `j`, moved by `advance` pixels.
    Without transposed convolutions the period is one cell, and `advance` is the stride.

    Spans are intervals and never too small: they include the holes that dilation leaves, and the surroundings of a cell
    that a transposed convolution with a kernel shorter than its stride leaves empty. If first > last, the cell depends
    on no pixel. `center` is the input coordinate of the centre of cell 0.
    """

    advance: int = 1
    spans: tuple[tuple[int, int], ...] = ((0, 0),)
    center: Fraction = Fraction(0)

    def first(self, cell: int) -> int:
        """Return the first pixel of the receptive field of `cell`."""
        period, phase = divmod(cell, len(self.spans))
        return self.spans[phase][0] + period * self.advance

    def last(self, cell: int) -> int:
        """Return the last pixel of the receptive field of `cell`."""
        period, phase = divmod(cell, len(self.spans))
        return self.spans[phase][1] + period * self.advance

    @property
    def stride(self) -> Fraction:
        """The number of input pixels per cell."""
        return Fraction(self.advance, len(self.spans))

    @property
    def receptive_field(self) -> int:
        """The size of the receptive field in pixels: the largest of all phases."""
        return max(last - first + 1 for first, last in self.spans)

    @property
    def offset(self) -> Fraction:
        """The input coordinate of the centre of cell 0; pixel centres are at integers."""
        return self.center

    @property
    def halo(self) -> tuple[int, int]:
        """The number of pixels before and after an output pixel that it depends on.

        A tile that is larger than its output by this margin gives the same output as the whole image. Raises ModelError
        if the stride is not 1.
        """
        if self.stride != 1:
            message = f"a halo is defined for an output at stride 1, but this one has stride {self.stride}"
            raise ModelError(message, code="halo-needs-stride-1")
        before = max(cell - first for cell, (first, _) in enumerate(self.spans))
        after = max(last - cell for cell, (_, last) in enumerate(self.spans))
        return max(0, before), max(0, after)

    def after(self, layer: Layer) -> Field:
        """Return the field of the output of `layer` applied to this map."""
        pad, reach, stride = layer.padding[0], layer.reach, layer.stride
        shift = Fraction(reach, 2) - pad
        if layer.transposed:
            spans = (
                (self.first(-((reach - pad - cell) // stride)), self.last((cell + pad) // stride))
                for cell in range(stride * len(self.spans))
            )
            return _with_shortest_period(self.advance, tuple(spans), self.center - shift * self.stride / stride)
        cells = len(self.spans) // gcd(len(self.spans), stride)
        starts = [cell * stride - pad for cell in range(cells)]
        spans = ((self.first(start), self.last(start + reach)) for start in starts)
        advance = self.advance * stride * cells // len(self.spans)
        return _with_shortest_period(advance, tuple(spans), self.center + shift * self.stride)

    def through(self, layers: Iterable[Layer]) -> Field:
        """Return the field of the output of `layers` applied in order."""
        return reduce(Field.after, layers, self)

    def shift(self, cells: int) -> Field:
        """Return the field after the first `cells` cells were cropped (negative: after padding)."""
        spans = tuple((self.first(cells + j), self.last(cells + j)) for j in range(len(self.spans)))
        return Field(self.advance, spans, self.center + cells * self.stride)

    def join(self, other: Field) -> Field:
        """Return the field of a sum or concatenation of two maps: for each cell, the smallest interval with both.

        Its centre is that of the map with the larger receptive field. Raises ModelError if the strides differ.
        """
        if self.stride != other.stride:
            message = f"feature maps at strides {self.stride} and {other.stride} cannot be combined"
            raise ModelError(message, code="strides-differ")
        cells = lcm(len(self.spans), len(other.spans))
        spans = ((min(self.first(j), other.first(j)), max(self.last(j), other.last(j))) for j in range(cells))
        wider = max(self, other, key=lambda field: field.receptive_field)
        return _with_shortest_period(int(self.stride * cells), tuple(spans), wider.center)


def _with_shortest_period(advance: int, spans: tuple[tuple[int, int], ...], center: Fraction) -> Field:
    """Return the field with these spans, described by its shortest period."""
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
    """A feature map along one axis: the receptive fields of its cells, and the layers that determine its size."""

    field: Field = Field()
    layers: tuple[Layer, ...] = ()

    def size(self, pixels: int) -> int:
        """Return the number of cells for an input of `pixels`. Raises ModelError if the input is too small."""
        return chain_size(self.layers, pixels)

    def input_size(self, cells: int) -> int:
        """Return the smallest number of pixels that gives `cells` cells or more."""
        return reduce(lambda out, layer: layer.input_size(out), reversed(self.layers), cells)

    def after(self, layer: Layer) -> Tap:
        """Return the output of `layer` applied to this map."""
        return Tap(self.field.after(layer), (*self.layers, layer))

    def cropped(self, before: int, after: int) -> Tap:
        """Return the map without its first `before` and its last `after` cells."""
        return Tap(self.field.shift(before), (*self.layers, Layer(before + after + 1)))


def have_same_size(one: Tap, other: Tap) -> bool:
    """Return whether two maps have the same size for every size of the image.

    The layers after the last common layer are compared on 64 input sizes, from the first size for which both maps have
    cells. That is more than the period of any stride between two joins.
    """
    common = next(
        (i for i, (a, b) in enumerate(zip(one.layers, other.layers, strict=False)) if a != b),
        min(len(one.layers), len(other.layers)),
    )
    ends = Tap(layers=one.layers[common:]), Tap(layers=other.layers[common:])
    start = max(end.input_size(1) for end in ends)
    return all(ends[0].size(n) == ends[1].size(n) for n in range(start, start + 64))
