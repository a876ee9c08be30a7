"""Small networks for several tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision
from torch import nn
from torchvision.models.vgg import make_layers

from fullconv.net.classifiers.caffe import caffenet
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.fcn.network import FCN, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.surgery.convolutionalize import convolutionalize

torch.set_num_threads(1)

NARROW = [2, 2, "M", 3, 3, "M", 4, 4, 4, "M", 6, 6, 6, "M", 6, 6, 6, "M"]


def narrow_vgg16(hidden: int = 12, num_classes: int = 5) -> nn.Module:
    """Return torchvision's VGG16, with the same layers and names but few channels."""
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


def make(spec: NetSpec) -> FCN:
    """Return `rebuild(spec)`, with few channels for VGG16."""
    torch.manual_seed(0)
    return FCN(convolutionalize(narrow_vgg16()), spec) if spec.model == "vgg16" else rebuild(spec)


def lively(net: FCN) -> FCN:
    """Draw the score layers at random, so that the logits depend on all layers, and return the network in eval mode."""
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net.eval()


def check_tile_with_halo(net: FCN) -> None:
    """Assert that a tile's columns equal the whole image's, except in the halo at its inner borders."""
    net = net.double()
    step, (before, after) = 32, net.geometry[1].field.halo
    start = -(-before // step) * step
    inside = slice(start + step, start + 3 * step + 5)
    whole = torch.rand(1, 3, 40, inside.stop + after + 50, dtype=torch.float64)
    tile = whole[..., step : inside.stop + after]
    with torch.no_grad():
        tiled, expected = net(tile)[..., inside.start - step : inside.stop - step], net(whole)[..., inside]
        torch.testing.assert_close(tiled, expected)
        left = net(whole[..., : inside.stop + after])[..., : inside.stop]
        torch.testing.assert_close(left, net(whole)[..., : inside.stop])
    assert expected.std(-1).min() > 0
