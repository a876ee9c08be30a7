"""Caffe's classifiers: CaffeNet, the names of the layers, and the mean and std of the images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn

from fullconv.errors import ModelError
from fullconv.net.classifiers.caffemodel import read_caffemodel

__all__ = ["CONVS", "caffe_mean_std", "caffenet", "fit_shape", "read_classifier_state"]

CONVS = {
    "vgg16": tuple(f"conv{stage}_{n}" for stage, last in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, last + 1)),
    "caffenet": tuple(f"conv{n}" for n in range(1, 6)),
}
"""Caffe's names of a classifier's convolutions, first to last; fc6, fc7 and fc8 follow them."""


def caffe_mean_std() -> tuple[Tensor, Tensor]:
    """Return the mean and std, 3 x 1 x 1 for RGB in 0..1, of Caffe's images: BGR in 0..255, mean subtracted.

    The mean is that of voc_layers.py and net.py in shelhamer/fcn.berkeleyvision.org: (104.00699, 116.66877, 122.67892).
    """
    return torch.tensor((122.67892, 116.66877, 104.00699)).view(3, 1, 1) / 255, torch.full((3, 1, 1), 1 / 255)


def caffenet(
    widths: Sequence[int] = (96, 256, 384, 384, 256), hidden: int = 4096, num_classes: int = 1000
) -> nn.Module:
    """Build CaffeNet, for 227 x 227 images: AlexNet with its norms after the pooling, and Caffe's layer names.

    Krizhevsky et al., "ImageNet classification with deep convolutional neural networks" (NIPS 2012), as in
    models/bvlc_reference_caffenet of BVLC/caffe: conv2, conv4 and conv5 in two groups, pooling with kernel 3 and
    stride 2 whose size is rounded up, local response norm over 5 channels. `widths` are the channels of conv1 to
    conv5. It has 61 M parameters.
    """
    one, two, three, four, five = widths
    features = [
        ("conv1", nn.Conv2d(3, one, 11, stride=4)),
        ("relu1", nn.ReLU()),
        ("pool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
        ("norm1", nn.LocalResponseNorm(5)),
        ("conv2", nn.Conv2d(one, two, 5, padding=2, groups=2)),
        ("relu2", nn.ReLU()),
        ("pool2", nn.MaxPool2d(3, 2, ceil_mode=True)),
        ("norm2", nn.LocalResponseNorm(5)),
        ("conv3", nn.Conv2d(two, three, 3, padding=1)),
        ("relu3", nn.ReLU()),
        ("conv4", nn.Conv2d(three, four, 3, padding=1, groups=2)),
        ("relu4", nn.ReLU()),
        ("conv5", nn.Conv2d(four, five, 3, padding=1, groups=2)),
        ("relu5", nn.ReLU()),
        ("pool5", nn.MaxPool2d(3, 2, ceil_mode=True)),
    ]
    end = [
        ("fc6", nn.Linear(36 * five, hidden)),
        ("relu6", nn.ReLU()),
        ("drop6", nn.Dropout()),
        ("fc7", nn.Linear(hidden, hidden)),
        ("relu7", nn.ReLU()),
        ("drop7", nn.Dropout()),
        ("fc8", nn.Linear(hidden, num_classes)),
    ]
    parts = {
        "features": nn.Sequential(OrderedDict(features)),
        "flatten": nn.Flatten(),
        "classifier": nn.Sequential(OrderedDict(end)),
    }
    return nn.Sequential(OrderedDict(parts))


def read_classifier_state(path: Path, name: str, model: nn.Module) -> dict[str, Tensor]:
    """Read a .caffemodel as a state dict of `model`, the classifier `name`, for RGB images.

    Layers that the file lacks are left out. The images still need Caffe's mean and std (`caffe_mean_std`). Raises
    ModelError for a classifier whose layers have no names in Caffe.
    """
    if name not in CONVS:
        message = f"{path} cannot be loaded into {name}: a .caffemodel holds weights of {' or '.join(CONVS)}"
        raise ModelError(message, code="caffemodel-of-other-classifier")
    blobs, shapes = read_caffemodel(path), {key: value.shape for key, value in model.state_dict().items()}
    modules = [key for key, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    state: dict[str, Tensor] = {}
    for module_name, caffe_name in zip(modules, (*CONVS[name], "fc6", "fc7", "fc8"), strict=True):
        for kind, blob in zip(("weight", "bias"), blobs.get(caffe_name, ()), strict=False):
            key = f"{module_name}.{kind}"
            value = fit_shape(blob, shapes[key])
            state[key] = blob if value is None else value
    first = f"{modules[0]}.weight"
    return state | ({first: state[first].flip(1)} if first in state else {})


def fit_shape(value: Tensor, shape: torch.Size) -> Tensor | None:
    """Return `value` in `shape`; None if they differ by more than axes of length 1 or a linear layer's flattened input.

    A linear layer over C x h x w has its numbers in the order of a convolution's.
    """
    squeezed, linear = [n for n in value.shape if n > 1], (shape[0], prod(shape[1:]))
    fits = squeezed in ([n for n in shape if n > 1], [n for n in linear if n > 1])
    return value.reshape(shape) if fits else None
