"""The geometry of convolutional networks, in exact integer arithmetic, one axis at a time.

A `Layer` is one convolution, pooling or transposed convolution along one axis. A `Field` gives the receptive field of
each cell of a feature map. It is propagated through a network layer by layer; stride, receptive field, offset, padding,
crops and the halo of a tile all follow from it. No other module of fullconv derives these numbers.

The size formulas are those of Dumoulin and Visin, "A guide to convolution arithmetic for deep learning"
(arXiv:1603.07285). Receptive fields of convolutions agree with Araujo et al., "Computing receptive fields of
convolutional neural networks" (Distill, 2019). They are extended to transposed convolutions, whose cells repeat with a
period.
"""

from fullconv.geometry.fields import Field, Layer, Tap, chain_size, have_same_size
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
    "have_same_size",
]
