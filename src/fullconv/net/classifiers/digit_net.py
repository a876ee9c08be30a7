"""The classifier of digits that the demo uses."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

__all__ = ["digit_net"]


def digit_net(num_classes: int = 11) -> nn.Module:
    """Build a small VGG for 94 x 94 RGB patches: convolutions that halve the map five times, Flatten, linear layers.

    It classifies background and ten digits. No convolution is padded and no size leaves a remainder, so its dense
    form equals it on every window of an image. It has 0.3 M parameters and stride 32 at the end, as VGG16.
    """
    features: list[nn.Module] = []
    channels = 3
    for width, kernel in ((24, 4), (32, 3), (64, 3), (128, 3), (128, 1)):
        stem = not features
        features += [nn.Conv2d(channels, width, kernel, 2 if stem else 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if not stem:
            features.append(nn.MaxPool2d(2))
        channels = width
    hidden = [
        nn.Linear(2 * 2 * channels, 256),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Dropout(0.2),
    ]
    end = nn.Sequential(*hidden, nn.Linear(256, num_classes))
    parts = {"features": nn.Sequential(*features), "flatten": nn.Flatten(), "classifier": end}
    return nn.Sequential(OrderedDict(parts))
