"""Unpooling and plain resize as ways back to pixels."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from fullconv.errors import ModelError
from fullconv.net.fcn import build, rebuild
from fullconv.net.spec import NetSpec
from fullconv.net.upsample import Unpool
from nets import check_a_tile_with_its_halo, lively, make


def test_unpooling_puts_maxima_back_where_they_were():
    """Unpooling the maxima themselves, with nothing learned around it, keeps them and clears all else."""
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
    values, places = functional.max_pool2d(image, 2, return_indices=True)
    back = unpool(values, places, (9, 13))
    assert back.shape == image.shape
    kept = back != 0
    assert kept.sum() == values.numel()
    torch.testing.assert_close(back[kept], image[kept])
    torch.testing.assert_close(pool(back), values)


@pytest.mark.parametrize(("model", "pools"), [("vgg16", [1, 1, 3]), ("digits", [1, 1, 2]), ("alexnet", [1, 1, 1])])
def test_every_pooling_on_the_way_is_undone(model, pools):
    with torch.device("meta"):
        net = rebuild(NetSpec(model, 3, 8, upsample="unpool"))
        assert [len(own) for own in net.unpools] == pools
        for size in ((1, 1), (37, 101), (64, 33)):
            assert net(torch.zeros(2, 3, *size)).shape == (2, 3, *size)
    assert all(net.get_submodule(name).mode == "unpool" for name in net.upscores)
    assert not any(net.is_pretrained(f"unpools.{name}") for name, _ in net.unpools.named_parameters())


@pytest.mark.parametrize(("model", "stride"), [("vgg16", 8), ("vgg16", 32), ("digits", 8), ("digits", 4)])
def test_with_unpooling_a_tile_with_its_halo_is_the_whole_image(model, stride):
    check_a_tile_with_its_halo(lively(make(NetSpec(model, 2, stride, upsample="unpool"))))


@pytest.mark.parametrize("upsample", ["unpool", "resize"])
@pytest.mark.parametrize("model", ["vgg16", "digits"])
def test_everything_learns(model, upsample):
    net = lively(make(NetSpec(model, 2, 8, upsample=upsample))).train()
    logits = net(torch.rand(2, 3, 70, 91))
    torch.autograd.backward(logits.square().mean())
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not [name for name in still if name.startswith(("unpools", "score_", "head"))]


def test_a_network_without_poolings_is_refused():
    with pytest.raises(ModelError, match="no max pooling at stride 32 or 16 or 8 that unpooling"):
        build(NetSpec("resnet18", 3, 8, upsample="unpool"))


def test_resize_is_interpolate_at_every_step():
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
