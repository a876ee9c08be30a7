"""Unpooling and resizing as alternatives to upsampling by transposed convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from fullconv.net.fcn.network import build, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.fcn.upsample import Unpool
from nets import check_tile_with_halo, lively, make
from refusals import refuses


def test_unpooling_puts_maxima_back_at_their_positions():
    """With identity convolutions around it, unpooling of the maxima keeps them and sets all other cells to zero."""
    pool = nn.MaxPool2d(2)
    vertical, horizontal = lively(make(NetSpec("vgg16", 2, 32, upsample="unpool"))).geometry
    unpool = Unpool(3, 3, pool, (vertical.alignments[0][1], horizontal.alignments[0][1]))
    with torch.no_grad():
        unpool.widen.weight.copy_(torch.eye(3)[:, :, None, None])
        unpool.widen.bias.zero_()
        unpool.fill.weight.zero_()
        unpool.fill.weight[range(3), range(3), 1, 1] = 1
        unpool.fill.bias.zero_()
    image = torch.rand(2, 3, 9, 13)
    values, indices = functional.max_pool2d(image, 2, return_indices=True)
    back = unpool(values, indices, (9, 13))
    assert back.shape == image.shape
    maxima = back != 0
    assert maxima.sum() == values.numel()
    torch.testing.assert_close(back[maxima], image[maxima])
    torch.testing.assert_close(pool(back), values)


@pytest.mark.parametrize(("model", "pools"), [("vgg16", [1, 1, 3]), ("digits", [1, 1, 2]), ("alexnet", [1, 1, 1])])
def test_every_pooling_is_undone(model, pools):
    with torch.device("meta"):
        net = rebuild(NetSpec(model, 3, 8, upsample="unpool"))
        assert [len(undone) for undone in net.unpools] == pools
        for size in ((1, 1), (37, 101), (64, 33)):
            assert net(torch.zeros(2, 3, *size)).shape == (2, 3, *size)
    assert all(net.get_submodule(name).mode == "unpool" for name in net.upscores)
    assert not any(net.is_pretrained(f"unpools.{name}") for name, _ in net.unpools.named_parameters())


@pytest.mark.parametrize(("model", "stride"), [("vgg16", 8), ("vgg16", 32), ("digits", 8), ("digits", 4)])
def test_unpooled_tile_with_halo_equals_the_whole_image(model, stride):
    check_tile_with_halo(lively(make(NetSpec(model, 2, stride, upsample="unpool"))))


@pytest.mark.parametrize("upsample", ["unpool", "resize"])
@pytest.mark.parametrize("model", ["vgg16", "digits"])
def test_all_new_layers_get_gradients(model, upsample):
    net = lively(make(NetSpec(model, 2, 8, upsample=upsample))).train()
    logits = net(torch.rand(2, 3, 70, 91))
    torch.autograd.backward(logits.square().mean())
    constant = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not [name for name in constant if name.startswith(("unpools", "score_", "head"))]


def test_unpooling_of_a_network_without_max_pooling_is_refused():
    with refuses("no-max-pooling", "stride 32 or 16 or 8"):
        build(NetSpec("resnet18", 3, 8, upsample="unpool"))


def test_resize_equals_interpolate_at_every_step():
    net = lively(make(NetSpec("vgg16", 2, 16, upsample="resize")))
    image = torch.rand(1, 3, 70, 91)
    with torch.no_grad():
        deep, fine = net.encode(image)
        sums = functional.interpolate(net.score_fr(deep), fine.shape[2:], mode="bilinear")
        sums = sums + net.score_pool4(net.norm_pool4(fine))
        padded = [n + sum(g.padding(n)) for g, n in zip(net.geometry, (70, 91), strict=True)]
        expected = functional.interpolate(sums, padded, mode="bilinear")[:, :, :70, :91]
        torch.testing.assert_close(net(image), expected)
        rows = net.upsample(net.score([deep, fine], (70, 91)), (70, 91), range(11, 30))
        torch.testing.assert_close(rows, net(image)[:, :, 11:30])
