"""How coarse maps are put onto finer ones: upsampling, unpooling, crops, and the padding that covers every pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from fullconv.errors import ModelError
from fullconv.geometry.field import Field, Layer, Tap

__all__ = ["SkipGeometry", "Unpooling", "Upsampling", "aligned_crop", "bilinear_kernel"]


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

    @property
    def phases(self) -> tuple[tuple[int, int], ...]:
        """For each of the `factor` cells from `q * factor` on, the taps that coarse cells q - 1 and q give to it.

        No other coarse cell reaches them: the kernel has at most 2 * factor taps. Those from `kernel` on are zero.
        """
        return tuple((phase + self.factor, phase) for phase in range(self.factor))

    def sources(self, start: int, fine: int, coarse: int) -> range:
        """Which of `coarse` cells, at least one, reach `fine` cells of the transposed convolution from `start` on."""
        last = min(coarse - 1, (start + fine - 1) // self.factor)
        first = max(0, -((self.kernel - 1 - start) // self.factor))
        first = max(0, min(first, last))
        return range(first, max(first, last) + 1)

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
class Unpooling:
    """The inverse of a max pooling: from the cells of its output, `coarse`, to those of its input, `fine`.

    Each value goes back to where the maximum came from; a convolution of `SMOOTH` then fills the gaps.
    """

    pool: Layer
    coarse: Tap
    fine: Tap

    def onto(self, field: Field) -> Upsampling:
        """How a map is shifted onto the pooling's output: an upsampling by 1."""
        return aligned_crop(field, self.coarse.field)

    def after(self, field: Field) -> Field:
        """The field of the filled map, made from a map with `field`: it depends on where the maxima lie, too."""
        up = self.onto(field)
        entered = replace(field.after(up.layer).shifted(up.crop), center=self.coarse.field.center)
        back = Layer(self.pool.kernel, self.pool.stride, self.pool.padding, transposed=True)
        opened = entered.joined(self.coarse.field).after(back).joined(self.fine.field)
        return replace(opened.after(SMOOTH), center=self.fine.field.center)


SMOOTH = Layer(3, padding=(1, 1))
"""The convolution behind an unpooling."""


@dataclass(frozen=True)
class SkipGeometry:
    """A skip network along one axis: taps from the coarsest to the finest, each upsampled onto the next.

    Two maps are fused on the cells that both have: the one that starts later or ends earlier crops the other.
    The last one is upsampled to pixels. Where that leaves pixels of the image uncovered, the image is padded,
    by no more than it takes: `lead` pixels before it whatever its size, and `padding(size)` in all.
    `unpoolings`, for each tap, take a part of the way to the next, or all of it.
    """

    taps: tuple[Tap, ...]
    unpoolings: tuple[tuple[Unpooling, ...], ...] = ()

    @property
    def upsamplings(self) -> tuple[Upsampling, ...]:
        """One from each tap to the next, and the last one to pixels; behind the unpoolings, if there are any."""
        return self._decode[0]

    @property
    def alignments(self) -> tuple[tuple[Upsampling, ...], ...]:
        """For each tap, how its map enters each of its `unpoolings`."""
        return self._decode[2]

    @property
    def fused(self) -> tuple[Field, ...]:
        """The field of the sum on each finer tap, in the order of `upsamplings`; the last one is `field`.

        Like those of the taps, fields over the padded image, but for the last one.
        """
        return (*self._decode[1][1:], self.field)

    @cached_property
    def lead(self) -> int:
        """Pixels of padding before the image, the same for every size: whatever the last crop lacks."""
        return max(0, -self.upsamplings[-1].crop)

    @cached_property
    def field(self) -> Field:
        """The field of one pixel of the output over the image; its halo is what a tile needs."""
        final, lead = self.upsamplings[-1], self.lead
        padded = self._unpooled(len(self.taps) - 1, self._decode[1][-1])[0].after(final.layer)
        padded = padded.shifted(final.crop + lead)
        return Field(padded.advance, tuple((first - lead, last - lead) for first, last in padded.spans))

    @cached_property
    def _decode(self) -> tuple[tuple[Upsampling, ...], tuple[Field, ...], tuple[tuple[Upsampling, ...], ...]]:
        """The upsamplings, the field of the sum on each tap, and the alignments."""
        field, ups, fused, alignments = self.taps[0].field, [], [self.taps[0].field], []
        for index, goal in enumerate((*(tap.field for tap in self.taps[1:]), Field())):
            field, entered = self._unpooled(index, field)
            up = aligned_crop(field, goal)
            ups.append(up)
            alignments.append(entered)
            if len(ups) < len(self.taps):
                fine = goal.shifted(max(0, -up.crop))
                field = replace(field.after(up.layer).shifted(max(0, up.crop)).joined(fine), center=fine.center)
                fused.append(field)
        return tuple(ups), tuple(fused), tuple(alignments)

    def _unpooled(self, index: int, field: Field) -> tuple[Field, tuple[Upsampling, ...]]:
        """The field behind the unpoolings of one tap, and how its map enters them."""
        entered = []
        for unpooling in self.unpoolings[index] if self.unpoolings else ():
            entered.append(unpooling.onto(field))
            field = unpooling.after(field)
        return field, tuple(entered)

    def padding(self, size: int) -> tuple[int, int]:
        """The smallest input padding (before, after) with which the output covers every one of `size` pixels.

        The reference code pads 100 on every side instead.
        """
        final = self.upsamplings[-1]
        cells, padded = final.layer.input_size(final.crop + self.lead + size), self.lead + size
        for index in range(len(self.taps) - 1, -1, -1):
            if self.unpoolings and self.unpoolings[index]:
                padded = max(padded, self.unpoolings[index][-1].fine.input_size(cells))
                cells = 1
            if index > 0:
                up = self.upsamplings[index - 1]
                padded = max(padded, self.taps[index].input_size(cells + max(0, -up.crop)))
                cells = up.layer.input_size(cells + max(0, up.crop))
        padded = max(padded, self.taps[0].input_size(cells))
        return self.lead, padded - self.lead - size
