"""Where every cell of a convolutional network looks, in exact integer arithmetic, one axis at a time.

A `Layer` is one convolution, pooling or transposed convolution along one axis. A `Field` says, for each cell
of a feature map, which input pixels it sees; it is carried through a network layer by layer, and stride,
receptive field, offset, padding, crops and the halo of a tile all follow from it. Nothing else in fullconv
derives such numbers.

The size formulas are those of Dumoulin and Visin, "A guide to convolution arithmetic for deep learning"
(arXiv:1603.07285); the composition of receptive fields is exact where Araujo et al., "Computing receptive
fields of convolutional neural networks" (Distill, 2019) give it for convolutions, and goes on through
transposed convolutions, whose cells repeat with a period.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, reduce
from math import gcd, lcm

from fullconv.errors import ModelError

__all__ = [
    "Field",
    "Layer",
    "SkipGeometry",
    "Tap",
    "Upsampling",
    "aligned_crop",
    "bilinear_kernel",
    "chain_size",
]


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
class Upsampling:
    """Bilinear interpolation by an integer factor onto a finer grid, as a transposed convolution and a crop.

    `kernel` taps with their peak at `peak`; `crop` is the first cell of the transposed convolution's output
    that lies on the finer grid's cell 0 (negative: the coarse map does not reach that far).
    """

    factor: int
    kernel: int
    peak: Fraction
    crop: int

    @property
    def layer(self) -> Layer:
        """The transposed convolution, without padding."""
        return Layer(self.kernel, self.factor, transposed=True)

    def fused_size(self, coarse: int, fine: int) -> int:
        """The cells that `coarse` upsampled cells share with `fine` cells of the finer grid."""
        return min(self.layer.output_size(coarse) - max(0, self.crop), fine - max(0, -self.crop))


def aligned_crop(coarse: Field, fine: Field) -> Upsampling:
    """The upsampling that puts `coarse` exactly onto the cells of `fine`.

    The phase follows from the centres: cells of VGG16 lie at (stride - 1) / 2, half-way between finer cells,
    and take the paper's kernel of 2 * factor; cells of ResNet lie on finer cells, with a kernel of
    2 * factor - 1. Any other fraction moves the kernel's peak. Raises ModelError where the ratio of the
    strides is not a whole number.
    """
    ratio = coarse.stride / fine.stride
    if ratio.denominator != 1:
        raise ModelError(f"stride {coarse.stride} is not a multiple of stride {fine.stride}")
    factor = int(ratio)
    start = (coarse.offset - fine.offset) / fine.stride
    phase = start - (start.numerator // start.denominator)
    peak = factor - 1 + phase
    kernel = 2 * factor - (phase == 0)
    return Upsampling(factor, kernel, peak, int(peak - start))


def bilinear_kernel(upsampling: Upsampling) -> tuple[float, ...]:
    """The taps along one axis: `1 - |t - peak| / factor`, never below zero.

    With peak = factor - 1/2 and kernel = 2 * factor, the filler of the paper's reference code.
    """
    taps = (1 - abs(t - upsampling.peak) / upsampling.factor for t in range(upsampling.kernel))
    return tuple(float(max(Fraction(0), tap)) for tap in taps)


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


@dataclass(frozen=True)
class SkipGeometry:
    """A skip network along one axis: taps from the coarsest to the finest, each upsampled onto the next.

    Two maps are fused on the cells that both have: the one that starts later or ends earlier crops the other.
    The last one is upsampled to pixels. Where that leaves pixels of the image uncovered, the image is padded,
    by no more than it takes: `lead` pixels before it whatever its size, and `padding(size)` in all.
    """

    taps: tuple[Tap, ...]

    @cached_property
    def upsamplings(self) -> tuple[Upsampling, ...]:
        """One from each tap to the next, and the last one to pixels."""
        return self._decode[0]

    @property
    def fused(self) -> tuple[Field, ...]:
        """The field of the sum on each finer tap, in the order of `upsamplings`; the last one is `field`.

        Like those of the taps, fields over the padded image, but for the last one.
        """
        return (*self._decode[1], self.field)

    @cached_property
    def lead(self) -> int:
        """Pixels of padding before the image, the same for every size: whatever the last crop lacks."""
        return max(0, -self.upsamplings[-1].crop)

    @cached_property
    def field(self) -> Field:
        """The field of one pixel of the output over the image; its halo is what a tile needs."""
        final, lead = self.upsamplings[-1], self.lead
        coarse = (self.taps[0].field, *self._decode[1])[-1]
        padded = coarse.after(final.layer).shifted(final.crop + lead)
        return Field(padded.advance, tuple((first - lead, last - lead) for first, last in padded.spans))

    @cached_property
    def _decode(self) -> tuple[tuple[Upsampling, ...], tuple[Field, ...]]:
        """The upsamplings, and the field of the sum on each tap but the first."""
        field, ups, fused = self.taps[0].field, [], []
        for tap in self.taps[1:]:
            up = aligned_crop(field, tap.field)
            fine = tap.field.shifted(max(0, -up.crop))
            field = field.after(up.layer).shifted(max(0, up.crop)).joined(fine)
            field = replace(field, center=fine.center)
            ups.append(up)
            fused.append(field)
        return (*ups, aligned_crop(field, Field())), tuple(fused)

    def padding(self, size: int) -> tuple[int, int]:
        """The smallest input padding (before, after) with which the output covers every one of `size` pixels.

        The reference code pads 100 on every side instead.
        """
        final = self.upsamplings[-1]
        cells, padded = final.layer.input_size(final.crop + self.lead + size), self.lead + size
        for tap, up in zip(self.taps[:0:-1], self.upsamplings[-2::-1], strict=True):
            padded = max(padded, tap.input_size(cells + max(0, -up.crop)))
            cells = up.layer.input_size(cells + max(0, up.crop))
        padded = max(padded, self.taps[0].input_size(cells))
        return self.lead, padded - self.lead - size
