"""Networks that several tests use."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision
from torch import nn
from torchvision.models.vgg import make_layers

from fullconv.net.backbones import digit_net
from fullconv.net.caffe import caffenet

torch.set_num_threads(1)

NARROW = [2, 2, "M", 3, 3, "M", 4, 4, 4, "M", 6, 6, 6, "M", 6, 6, 6, "M"]


def narrow_vgg16(hidden: int = 12, num_classes: int = 5) -> nn.Module:
    """torchvision's VGG16, layer by layer and name by name, with few channels."""
    with torch.device("meta"):
        model = torchvision.models.vgg16()
    model.features = make_layers(NARROW)
    shapes = {0: (6 * 49, hidden), 3: (hidden, hidden), 6: (hidden, num_classes)}
    for index, shape in shapes.items():
        model.classifier[index] = nn.Linear(*shape)
    return model


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "vgg16": narrow_vgg16,
    "alexnet": lambda: torchvision.models.alexnet(num_classes=5),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "resnet50": lambda: torchvision.models.resnet50(num_classes=5),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=5),
    "caffenet": lambda: caffenet((4, 6, 8, 8, 6), hidden=12, num_classes=5),
    "digits": digit_net,
}
