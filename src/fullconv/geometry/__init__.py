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

from fullconv.geometry.field import Field, Layer, Tap, chain_size, same_sizes
from fullconv.geometry.fusion import SkipGeometry, Unpooling, Upsampling, aligned_crop, bilinear_kernel

__all__ = [
    "Field",
    "Layer",
    "SkipGeometry",
    "Tap",
    "Unpooling",
    "Upsampling",
    "aligned_crop",
    "bilinear_kernel",
    "chain_size",
    "same_sizes",
]
