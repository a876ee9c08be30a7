"""Skip networks: output sizes, layer names, alignment, batches and tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from fullconv.net.fcn.network import FCN, build, fcn4s, fcn8s, fcn16s, fcn32s
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.surgery.convolutionalize import convolutionalize, transplant
from nets import check_tile_with_halo, lively, make, narrow_vgg16
from refusals import refuses

BUILDERS = {32: fcn32s, 16: fcn16s, 8: fcn8s, 4: fcn4s}
SMALL = ("vgg16", "digits", "resnet18", "mobilenet_v2")


@pytest.mark.parametrize("stride", BUILDERS)
@pytest.mark.parametrize("model", ["vgg16", "alexnet", "resnet18", "resnet50", "mobilenet_v2", "digits"])
def test_logits_have_the_size_of_the_image(model, stride):
    with torch.device("meta"):
        net = BUILDERS[stride](model, 3).eval()
        for size in ((1, 1), (37, 501), (64, 33), (2, 255)):
            assert net(torch.zeros(2, 3, *size)).shape == (2, 3, *size)
    assert [int(tap.field.stride) for tap in net.geometry[0].taps] == [s for s in BUILDERS if s >= stride]
    assert all(tap.layers for tap in net.geometry[0].taps)


@pytest.mark.parametrize("stride", BUILDERS)
@pytest.mark.parametrize("model", ["vgg16", "digits"])
def test_logits_of_a_new_network_are_zero(model, stride):
    net = make(NetSpec(model, 4, stride))
    assert net(torch.rand(2, 3, 45, 70)).count_nonzero() == 0
    assert net.spec.name == f"FCN-{stride}s"


def test_layers_have_the_names_of_the_paper():
    net = make(NetSpec("vgg16", 21, 8))
    assert [name for name, _ in net.head.named_children()] == ["fc6", "relu6", "drop6", "fc7", "relu7", "drop7"]
    assert net.upscores == ("upscore2", "upscore_pool4", "upscore8")
    assert {"score_fr", "score_pool4", "score_pool3", *net.upscores} <= {name for name, _ in net.named_children()}
    assert make(NetSpec("vgg16", 21, 32)).upscores == ("upscore32",)
    assert make(NetSpec("vgg16", 21, 16)).upscores == ("upscore2", "upscore16")
    assert NetSpec("vgg16", 21, 32, fixed=True).name == "FCN-32s-fixed"


@pytest.mark.parametrize(
    ("model", "channels", "fields"),
    [
        ("vgg16", (512, 256, 128), (404, 100, 44, 16)),
        ("resnet50", (1024, 512, 256), (427, 267, 91, 35)),
    ],
)
def test_skips_are_those_of_the_paper_or_the_ends_of_the_stages(model, channels, fields):
    """Their receptive fields identify pool4, pool3, pool2 in VGG16 and layer3, layer2, layer1 in ResNet."""
    with torch.device("meta"):
        net = fcn4s(model, 2)
    assert tuple(net.get_submodule(f"score_{skip}").in_channels for skip in net.skips) == channels
    assert tuple(tap.field.receptive_field for tap in net.geometry[0].taps) == fields


@pytest.mark.parametrize("stride", BUILDERS)
@pytest.mark.parametrize("model", SMALL)
def test_every_map_is_aligned_with_the_image(model, stride):
    """A map of the coordinates of its cells' centers is upsampled to the coordinates of the pixels."""
    net = make(NetSpec(model, 2, stride, norm=False)).double().eval()
    size = (170, 203)
    with torch.no_grad():
        shapes = [m.shape for m in net.encode(torch.zeros(1, 3, *size, dtype=torch.float64))]
    axes = range(2)
    centres = [
        [
            [float(g.taps[i].field.offset + j * g.taps[i].field.stride - g.lead) for j in range(shape[2 + axis])]
            for axis, g in enumerate(net.geometry)
        ]
        for i, shape in enumerate(shapes)
    ]
    margin = 0 if stride == 32 else 16  # an upsampled map fades beyond its last cell, and so does a sum with it
    low = [max(0, int(max(one[axis][0] for one in centres)) + 1 + margin) for axis in axes]
    high = [min(size[axis] - 1, int(min(one[axis][-1] for one in centres)) - margin) for axis in axes]
    assert all(high[axis] - low[axis] > 64 for axis in axes)
    for index, name in enumerate(("fr", *net.skips)):
        maps = [torch.zeros(shape, dtype=torch.float64) for shape in shapes]
        rows, columns = (torch.tensor(values, dtype=torch.float64) for values in centres[index])
        maps[index][0, 0], maps[index][0, 1] = rows[:, None], columns
        score = net.get_submodule(f"score_{name}")
        with torch.no_grad():
            score.weight[[0, 1], [0, 1]] = 1
            logits = net.decode(maps, size)[0, :, low[0] : high[0] + 1, low[1] : high[1] + 1]
        down, right = (torch.arange(low[a], high[a] + 1, dtype=torch.float64) for a in axes)
        torch.testing.assert_close(
            logits, torch.stack([down[:, None].expand_as(logits[0]), right.expand_as(logits[1])])
        )


@pytest.mark.parametrize("model", SMALL)
def test_finer_network_starts_with_the_logits_of_the_coarser_one(model):
    """New score layers start at zero, so the finer network only interpolates in two steps instead of one."""
    coarse = lively(make(NetSpec(model, 3, 32)))
    with torch.no_grad():
        coarse.score_fr.weight.zero_()
    image = torch.rand(1, 3, 130, 150)
    expected = coarse(image)
    for stride in (16, 8, 4):
        torch.manual_seed(1)
        fine = make(NetSpec(model, 3, stride)).eval()
        copied, fresh = transplant(coarse, fine)
        skip = fine.skips[-1]
        assert {name.split(".")[0] for name in fresh} == {f"score_{skip}", f"norm_{skip}"}
        assert len(copied) + len(fresh) == len(fine.state_dict())
        inner = (..., slice(48, -64), slice(48, -64))
        torch.testing.assert_close(fine(image)[inner], expected[inner])
        assert fine(image)[inner].abs().min() > 0
        coarse = fine


@pytest.mark.parametrize("model", SMALL)
def test_batch_equals_its_images_and_uint8_equals_float(model):
    net = lively(make(NetSpec(model, 3, 8)))
    images = torch.randint(0, 256, (3, 3, 50, 77), dtype=torch.uint8)
    with torch.no_grad():
        together = net(images)
        assert together.dtype == torch.float32
        assert together.std() > 0
        tolerance = {"rtol": 1e-4, "atol": 1e-4 * float(together.abs().max())}
        torch.testing.assert_close(together, torch.cat([net(image[None]) for image in images]), **tolerance)
        torch.testing.assert_close(together, net(images.float() / 255), **tolerance)


@pytest.mark.parametrize(
    ("model", "stride"), [("vgg16", 8), ("digits", 16), ("digits", 4), ("resnet18", 16), ("mobilenet_v2", 8)]
)
def test_tile_with_halo_equals_the_whole_image(model, stride):
    check_tile_with_halo(lively(make(NetSpec(model, 2, stride))))


def test_head_has_the_weights_of_the_classifier():
    model = narrow_vgg16(hidden=12)
    net = FCN(convolutionalize(model), NetSpec("vgg16", 3, 32))
    for name, linear in (("fc6", model.classifier[0]), ("fc7", model.classifier[3])):
        conv = net.head.get_submodule(name)
        assert torch.equal(conv.weight.flatten(1), linear.weight)
        assert torch.equal(conv.bias, linear.bias)
    assert (net.head.fc6.kernel_size, net.head.fc6.padding) == ((7, 7), (3, 3))
    assert net.score_fr.in_channels == 12


def test_head_width_and_norms_change_the_head():
    spec = NetSpec("vgg16", 3, 16, head_width=7, head_norm=True)
    net = make(spec)
    assert [name for name, _ in net.head.named_children()][:3] == ["fc6", "norm6", "relu6"]
    assert (net.head.fc6.out_channels, net.head.fc7.in_channels, net.score_fr.in_channels) == (7, 7, 7)
    assert isinstance(net.norm_pool4, nn.BatchNorm2d)
    assert isinstance(make(replace(spec, norm=False)).norm_pool4, nn.Identity)
    assert net.is_pretrained("backbone.features.0.weight")
    assert not net.is_pretrained("head.fc6.weight")
    assert not net.is_pretrained("score_fr.weight")
    assert make(NetSpec("vgg16", 3, 16)).is_pretrained("head.fc6.weight")
    with refuses("no-hidden-layer", "resnet18", "--head-width"):
        build(NetSpec("resnet18", 3, head_width=64))


def test_fine_modules_are_those_before_the_stride():
    net = make(NetSpec("vgg16", 3, 8))
    assert net.fine_modules(2) == [f"features.{i}" for i in range(4)]
    assert net.fine_modules(8) == [f"features.{i}" for i in range(16)]
    assert all(net.backbone.get_submodule(name) for name in net.fine_modules(32))


def test_learned_upsampling_starts_equal_to_fixed():
    fixed = lively(make(NetSpec("digits", 3, 8)))
    learned = make(NetSpec("digits", 3, 8, upsample="learned")).eval()
    copied, fresh = transplant(fixed, learned)
    assert len(copied) == len(fixed.state_dict())
    assert set(fresh) == {f"{name}.weight" for name in learned.upscores}
    image = torch.rand(1, 3, 61, 90)
    torch.testing.assert_close(fixed(image), learned(image))


def test_logits_are_float32_under_autocast():
    net = lively(make(NetSpec("digits", 3, 8)))
    image = torch.rand(1, 3, 60, 60)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(image)
    assert half.dtype == torch.float32
    assert functional.mse_loss(half, net(image)) < 0.01 * net(image).var()


def test_impossible_networks_are_refused():
    with refuses("invalid-stride", "stride 64"):
        build(NetSpec("digits", 3, 64))
    with refuses("unknown-classifier", "'lenet'", "vgg16"):
        build(NetSpec("lenet", 3))
    small = nn.Sequential(nn.Conv2d(3, 2, 3, 8, 1), nn.Flatten(), nn.Linear(32, 2))
    with refuses("no-map-at-stride", "FCN-16s", "small is at stride 8"):
        FCN(convolutionalize(small, (32, 32)), NetSpec("small", 2, 16))
    with refuses("no-map-at-stride", "FCN-4s", "no feature map at stride 4 (available: 8)"):
        FCN(convolutionalize(small, (32, 32)), NetSpec("small", 2, 4))
