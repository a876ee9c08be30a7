"""The geometry of skip networks: upsampling, unpooling, crops, and the padding that covers every pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from fullconv.errors import ModelError
from fullconv.forks import lazy_property
from fullconv.geometry.fields import Field, Layer, Tap

__all__ = ["SkipGeometry", "Unpooling", "Upsampling", "aligned_crop", "bilinear_kernel"]


@dataclass(frozen=True)
class Upsampling:
    """Bilinear interpolation by an integer factor onto a finer grid, as a transposed convolution and a crop.

    The kernel has `kernel` taps with its peak at position `peak`. Output cell `crop` of the transposed convolution lies
    on cell 0 of the finer grid; if `crop` is negative, the output starts `-crop` cells after it.
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
        """For each output cell from `q * factor` to `(q + 1) * factor - 1`: the taps of coarse cells q - 1 and q.

        No other coarse cell contributes, since the kernel has at most 2 * factor taps. Taps from `kernel` on are zero.
        """
        return tuple((phase + self.factor, phase) for phase in range(self.factor))

    def sources(self, start: int, fine: int, coarse: int) -> range:
        """Return which of `coarse` cells contribute to the `fine` output cells from `start` on; at least one cell."""
        last = min(coarse - 1, (start + fine - 1) // self.factor)
        first = max(0, -((self.kernel - 1 - start) // self.factor))
        first = max(0, min(first, last))
        return range(first, max(first, last) + 1)

    def fused_size(self, coarse: int, fine: int) -> int:
        """Return the number of cells that `coarse` upsampled cells share with `fine` cells of the finer grid."""
        return min(self.layer.output_size(coarse) - max(0, self.crop), fine - max(0, -self.crop))


def aligned_crop(coarse: Field, fine: Field) -> Upsampling:
    """Return the upsampling whose output cells lie exactly on the cells of `fine`.

    The phase follows from the centres. The cells of VGG16 lie at (stride - 1) / 2, half-way between finer cells, and
    need the paper's kernel of 2 * factor taps. The cells of ResNet lie on finer cells and need 2 * factor - 1 taps.
    Any other phase moves the peak of the kernel.

    Raises ModelError if the ratio of the strides is not an integer.
    """
    ratio = coarse.stride / fine.stride
    if ratio.denominator != 1:
        message = f"stride {coarse.stride} is not a multiple of stride {fine.stride}, so the maps cannot be fused"
        raise ModelError(message, code="stride-not-multiple")
    factor = int(ratio)
    start = (coarse.offset - fine.offset) / fine.stride
    phase = start - (start.numerator // start.denominator)
    peak = factor - 1 + phase
    kernel = 2 * factor - (phase == 0)
    return Upsampling(factor, kernel, peak, int(peak - start))


def bilinear_kernel(upsampling: Upsampling) -> tuple[float, ...]:
    """Return the taps of the kernel along one axis: `max(0, 1 - |t - peak| / factor)`.

    With peak = factor - 1/2 and kernel = 2 * factor it is the bilinear filler of the paper's reference code.
    """
    taps = (1 - abs(t - upsampling.peak) / upsampling.factor for t in range(upsampling.kernel))
    return tuple(float(max(Fraction(0), tap)) for tap in taps)


@dataclass(frozen=True)
class Unpooling:
    """The inverse of a max pooling, from its output `coarse` to its input `fine`.

    Each value returns to the position of the maximum. The convolution `SMOOTH` then fills the gaps.
    """

    pool: Layer
    coarse: Tap
    fine: Tap

    def onto(self, field: Field) -> Upsampling:
        """Return the alignment of a map with the output of the pooling, as an upsampling by 1."""
        return aligned_crop(field, self.coarse.field)

    def after(self, field: Field) -> Field:
        """Return the field of the unpooled and filled map for an input with `field`; positions of maxima count."""
        up = self.onto(field)
        aligned = replace(field.after(up.layer).shift(up.crop), center=self.coarse.field.center)
        back = Layer(self.pool.kernel, self.pool.stride, self.pool.padding, transposed=True)
        unpooled = aligned.join(self.coarse.field).after(back).join(self.fine.field)
        return replace(unpooled.after(SMOOTH), center=self.fine.field.center)


SMOOTH = Layer(3, padding=(1, 1))
"""The convolution after an unpooling."""


@dataclass(frozen=True)
class SkipGeometry:
    """A skip network along one axis: taps from the coarsest to the finest, each upsampled onto the next.

    Two maps are fused on the cells that both have; the rest is cropped. The last sum is upsampled to pixels. If it does
    not cover all pixels of the image, the image is padded by the smallest amount that suffices: `padding(size)`, of
    which `lead` pixels before the image are the same for every size.

    `refinement` is a convolution after each sum that keeps the number of cells; None means there is none.

    For each tap, `unpoolings` cover all or part of the way to the next tap, before the bilinear upsampling.
    """

    taps: tuple[Tap, ...]
    unpoolings: tuple[tuple[Unpooling, ...], ...] = ()
    refinement: Layer | None = None

    @property
    def upsamplings(self) -> tuple[Upsampling, ...]:
        """The upsampling from each tap to the next, and the last one to pixels. They follow the unpoolings, if any."""
        return self._decode[0]

    @property
    def alignments(self) -> tuple[tuple[Upsampling, ...], ...]:
        """For each tap, the alignment of its map with each of its `unpoolings`."""
        return self._decode[2]

    @property
    def fused(self) -> tuple[Field, ...]:
        """The field of the sum on each finer tap, in the order of `upsamplings`; the last one is `field`.

        A refinement is included. All but the last are relative to the padded image, as those of the taps are.
        """
        return (*self._decode[1][1:], self.field)

    @lazy_property
    def lead(self) -> int:
        """The padding before the image in pixels, the same for every size: what the last crop lacks."""
        return max(0, -self.upsamplings[-1].crop)

    @lazy_property
    def field(self) -> Field:
        """The receptive field of an output pixel, relative to the image. Its halo is the halo of a tile."""
        final, lead = self.upsamplings[-1], self.lead
        padded = self._unpool(len(self.taps) - 1, self._decode[1][-1])[0].after(final.layer)
        padded = padded.shift(final.crop + lead)
        return Field(padded.advance, tuple((first - lead, last - lead) for first, last in padded.spans))

    @lazy_property
    def _decode(self) -> tuple[tuple[Upsampling, ...], tuple[Field, ...], tuple[tuple[Upsampling, ...], ...]]:
        """The upsamplings, the field of the sum on each tap, and the alignments with the unpoolings."""
        field, upsamplings, fused, alignments = self.taps[0].field, [], [self.taps[0].field], []
        for index, goal in enumerate((*(tap.field for tap in self.taps[1:]), Field())):
            field, aligned = self._unpool(index, field)
            up = aligned_crop(field, goal)
            upsamplings.append(up)
            alignments.append(aligned)
            if len(upsamplings) < len(self.taps):
                fine = goal.shift(max(0, -up.crop))
                field = replace(field.after(up.layer).shift(max(0, up.crop)).join(fine), center=fine.center)
                field = field if self.refinement is None else field.after(self.refinement)
                fused.append(field)
        return tuple(upsamplings), tuple(fused), tuple(alignments)

    def _unpool(self, index: int, field: Field) -> tuple[Field, tuple[Upsampling, ...]]:
        """Return the field after the unpoolings of one tap, and the alignment with each of them."""
        alignments = []
        for unpooling in self.unpoolings[index] if self.unpoolings else ():
            alignments.append(unpooling.onto(field))
            field = unpooling.after(field)
        return field, tuple(alignments)

    def padding(self, size: int) -> tuple[int, int]:
        """Return the smallest input padding (before, after) for which the output covers all `size` pixels.

        The paper's reference code pads 100 pixels on every side instead.
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
