"""Build networks from classifiers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fullconv.errors import UsageError
from fullconv.extras import need_torch

if TYPE_CHECKING:
    from torch import nn

    from fullconv.net.fcn.network import FCN
    from fullconv.net.surgery.convolutionalize import Surgery

__all__ = ["convolutionalize", "fcn2s", "fcn4s", "fcn8s", "fcn16s", "fcn32s"]


def convolutionalize(model: nn.Module, size: int | tuple[int, int] = (224, 224), channels: int = 3) -> Surgery:
    """Turn a classifier for images of `size` into one for images of that size or larger.

    The classifier is not changed. The result's `module` returns a map of logits; `coerced` lists the layers that became
    convolutions; `fidelity` says how a cell compares with the classifier on its crop. See
    `fullconv.net.surgery.convolutionalize.convolutionalize`.

    Args:
        model: A classifier, such as torchvision.models.vgg16().
        size: Height and width of the images that the classifier takes, or one number for both.
        channels: Channels of these images.

    Raises:
        ModelError: The classifier has no dense form, for example because it has attention.
        UsageError: `model` is not a module, or `size` is not one or two positive whole numbers.
    """
    need_torch()
    from torch import nn

    from fullconv.net.surgery.convolutionalize import convolutionalize as dense_form

    if not isinstance(model, nn.Module):
        message = f"a classifier is a torch module, and this is {model!r:.80}; build one, as torchvision.models.vgg16()"
        raise UsageError(message, code="not-a-module")
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, tuple | list) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        message = f"size is {size!r}; give the height and width of the classifier's images, such as (224, 224)"
        raise UsageError(message, code="invalid-size")
    return dense_form(model, (sides[0], sides[1]), channels)


def fcn32s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-32s on a classifier: one score layer, whose output is upsampled 32 times.

    Args:
        model: Name of a classifier, as in `train`.
        num_classes: The number of classes of a pixel, from 1 to 255.
        weights: Weights of the classifier: a file, "pretrained", "imagenet" or "none"; None is "none".

    Raises:
        ModelError: There is no such classifier, or it has no feature map at this stride.
        UsageError: There is no such number of classes.
    """
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn32s as build

    return build(model, num_classes, backbone_weights)


def fcn16s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-16s: FCN-32s with a skip at stride 16. Arguments and errors are those of `fcn32s`."""
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn16s as build

    return build(model, num_classes, backbone_weights)


def fcn8s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-8s: FCN-16s with a skip at stride 8. Arguments and errors are those of `fcn32s`."""
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn8s as build

    return build(model, num_classes, backbone_weights)


def fcn4s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-4s: FCN-8s with a skip at stride 4, beyond the paper. Arguments and errors are those of `fcn32s`."""
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn4s as build

    return build(model, num_classes, backbone_weights)


def fcn2s(model: str, num_classes: int, weights: str | os.PathLike[str] | None = None) -> FCN:
    """Build FCN-2s: FCN-4s with a skip at stride 2, beyond the paper. Arguments and errors are those of `fcn32s`."""
    backbone_weights = _read_weights(weights)
    from fullconv.net.fcn.network import fcn2s as build

    return build(model, num_classes, backbone_weights)


def _read_weights(weights: str | os.PathLike[str] | None) -> str | None:
    """Return the weights as the builders take them: None for "none". Raises MissingExtra if torch is missing."""
    need_torch()
    return None if weights is None or weights == "none" else os.fspath(weights)
