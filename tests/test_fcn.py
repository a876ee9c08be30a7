"""The skip networks: sizes, names, alignment, and that tiles, batches and files give the same logits."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from fullconv.errors import ModelError, UsageError
from fullconv.labels import LabelSet
from fullconv.net.backbones import IMAGENET, classifier, digit_net
from fullconv.net.checkpoint import Saved, find_weights, load_net, save_net
from fullconv.net.fcn import FCN, build, fcn4s, fcn8s, fcn16s, fcn32s, rebuild
from fullconv.net.spec import NetSpec
from fullconv.net.surgery import convolutionalize, transplant
from nets import narrow_vgg16

BUILDERS = {32: fcn32s, 16: fcn16s, 8: fcn8s, 4: fcn4s}
SMALL = ("vgg16", "digits", "resnet18", "mobilenet_v2")


def make(spec: NetSpec) -> FCN:
    """`rebuild`, with few channels for VGG16."""
    torch.manual_seed(0)
    return FCN(convolutionalize(narrow_vgg16()), spec) if spec.model == "vgg16" else rebuild(spec)


def lively(net: FCN) -> FCN:
    """With score layers that are not zero, so that the logits depend on everything."""
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net.eval()


@pytest.mark.parametrize("stride", BUILDERS)
@pytest.mark.parametrize("model", ["vgg16", "alexnet", "resnet18", "resnet50", "mobilenet_v2", "digits"])
def test_logits_have_the_size_of_the_image_whatever_it_is(model, stride):
    with torch.device("meta"):
        net = BUILDERS[stride](model, 3).eval()
        for size in ((1, 1), (37, 501), (64, 33), (2, 255)):
            assert net(torch.zeros(2, 3, *size)).shape == (2, 3, *size)
    assert [int(tap.field.stride) for tap in net.geometry[0].taps] == [s for s in BUILDERS if s >= stride]
    assert all(tap.layers for tap in net.geometry[0].taps)


@pytest.mark.parametrize("stride", BUILDERS)
@pytest.mark.parametrize("model", ["vgg16", "digits"])
def test_a_new_network_knows_nothing(model, stride):
    net = make(NetSpec(model, 4, stride))
    assert net(torch.rand(2, 3, 45, 70)).count_nonzero() == 0
    assert net.spec.name == f"FCN-{stride}s"


def test_layers_have_the_papers_names():
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
def test_skips_are_the_papers_or_the_ends_of_the_stages(model, channels, fields):
    """Receptive fields of pool4, pool3, pool2 and of layer3, layer2, layer1 tell that they are the taps."""
    with torch.device("meta"):
        net = fcn4s(model, 2)
    assert tuple(net.get_submodule(f"score_{skip}").in_channels for skip in net.skips) == channels
    assert tuple(tap.field.receptive_field for tap in net.geometry[0].taps) == fields


@pytest.mark.parametrize("stride", BUILDERS)
@pytest.mark.parametrize("model", SMALL)
def test_every_map_lands_where_its_cells_look(model, stride):
    """A map that holds the coordinates of its cells' centres comes out as the coordinates of the pixels."""
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
    margin = 0 if stride == 32 else 16  # an upsampled map fades beyond its last cell, and the next one mixes that in
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
def test_each_network_goes_on_from_the_one_before(model):
    """What is new starts at zero: until it learns, a finer network interpolates twice what the coarser one did once."""
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
def test_a_batch_is_its_images_and_bytes_are_floats(model):
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
def test_a_tile_with_its_halo_is_the_whole_image(model, stride):
    net = lively(make(NetSpec(model, 2, stride))).double()
    step, (before, after) = 32, net.geometry[1].field.halo
    start = -(-before // step) * step
    inside = slice(start + step, start + 3 * step + 5)
    whole = torch.rand(1, 3, 40, inside.stop + after + 50, dtype=torch.float64)
    tile = whole[..., step : inside.stop + after]
    with torch.no_grad():
        ours, theirs = net(tile)[..., inside.start - step : inside.stop - step], net(whole)[..., inside]
        torch.testing.assert_close(ours, theirs)
        left = net(whole[..., : inside.stop + after])[..., : inside.stop]
        torch.testing.assert_close(left, net(whole)[..., : inside.stop])
    assert theirs.std(-1).min() > 0


def test_the_head_is_the_classifiers():
    model = narrow_vgg16(hidden=12)
    net = FCN(convolutionalize(model), NetSpec("vgg16", 3, 32))
    for name, linear in (("fc6", model.classifier[0]), ("fc7", model.classifier[3])):
        conv = net.head.get_submodule(name)
        assert torch.equal(conv.weight.flatten(1), linear.weight)
        assert torch.equal(conv.bias, linear.bias)
    assert (net.head.fc6.kernel_size, net.head.fc6.padding) == ((7, 7), (3, 3))
    assert net.score_fr.in_channels == 12


def test_head_width_and_norms():
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
    with pytest.raises(UsageError, match="resnet18 has no hidden linear layer: --head-width"):
        build(NetSpec("resnet18", 3, head_width=64))


def test_fine_modules_are_those_before_a_stride():
    net = make(NetSpec("vgg16", 3, 8))
    assert net.fine_modules(2) == [f"features.{i}" for i in range(4)]
    assert net.fine_modules(8) == [f"features.{i}" for i in range(16)]
    assert all(net.backbone.get_submodule(name) for name in net.fine_modules(32))


def test_learned_upsampling_starts_as_fixed():
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
    with pytest.raises(UsageError, match="stride 64: a prediction stride is 32, 16, 8 or 4"):
        build(NetSpec("digits", 3, 64))
    with pytest.raises(ModelError, match=r"no classifier is called 'lenet'.*there are torchvision's .*vgg16"):
        build(NetSpec("lenet", 3))
    small = nn.Sequential(nn.Conv2d(3, 2, 3, 8, 1), nn.Flatten(), nn.Linear(32, 2))
    with pytest.raises(ModelError, match="ends at stride 8, it has no FCN-16s"):
        FCN(convolutionalize(small, (32, 32)), NetSpec("small", 2, 16))
    with pytest.raises(ModelError, match="no feature map at stride 4"):
        FCN(convolutionalize(small, (32, 32)), NetSpec("small", 2, 4))


LABELS = LabelSet.named(["a", "b", "c"])


def test_a_checkpoint_gives_the_same_logits_to_the_bit(tmp_path):
    net = lively(make(NetSpec("digits", 3, 8)))
    saved = Saved(net.spec, LABELS, {"mean_iou": 0.5})
    save_net(tmp_path / "best.safetensors", net.state_dict(), saved)
    image = torch.randint(0, 256, (1, 3, 70, 41), dtype=torch.uint8)
    for path in (tmp_path, tmp_path / "best.safetensors"):
        again, description = load_net(path)
        assert description == saved
        assert not again.training
        assert torch.equal(again(image), net(image))
    assert [name for name, p in again.named_parameters() if not p.requires_grad] == []


def test_files_that_are_no_models_are_refused(tmp_path):
    net = make(NetSpec("digits", 3, 32))
    good = tmp_path / "good.safetensors"
    save_net(good, net.state_dict(), Saved(net.spec, LABELS))
    state, meta = net.state_dict(), {"spec": net.spec.to_dict(), "labels": LABELS.to_dict(), "notes": {}}

    def written(name: str, meta: dict[str, str] | None, state: dict[str, Tensor] = state):
        save_file(state, tmp_path / name, metadata=meta)
        return tmp_path / name

    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-1000])
    text = tmp_path / "text.safetensors"
    text.write_text("not a model")
    newer = {**meta, "spec": {**net.spec.to_dict(), "heads": 2}}
    wrong = {**meta, "spec": {**net.spec.to_dict(), "num_classes": 4}}
    cases = [
        (cut, "cut.safetensors cannot be read as safetensors"),
        (text, "text.safetensors cannot be read as safetensors"),
        (written("foreign.safetensors", None), "was not written by fullconv"),
        (written("odd.safetensors", {"fullconv": "{"}), "has a description that this version of fullconv cannot read"),
        (written("newer.safetensors", {"fullconv": json.dumps(newer)}), "cannot read: TypeError.*heads"),
        (written("wrong.safetensors", {"fullconv": json.dumps(wrong)}), "does not fit its own description"),
        (written("few.safetensors", {"fullconv": json.dumps(meta)}, {"mean": net.mean}), "does not fit its own"),
        (tmp_path, "holds no best.safetensors"),
        (tmp_path / "none", "there is no model .*none; name a run folder"),
    ]
    for path, sentence in cases:
        with pytest.raises(ModelError, match=sentence):
            load_net(path)
    assert find_weights(good) == good


def test_an_interrupted_write_leaves_the_last_good_file(tmp_path):
    net = make(NetSpec("digits", 3, 32))
    path = tmp_path / "best.safetensors"
    save_net(path, net.state_dict(), Saved(net.spec, LABELS))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_net(path, net.state_dict(), Saved(net.spec, LABELS, {"no": object()}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_come_from_files(tmp_path, suffix):
    state, path = digit_net().state_dict(), tmp_path / f"digits.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    model, missing = classifier("digits", path)
    assert missing == frozenset()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_features_without_a_head_give_a_fresh_head_with_norm(tmp_path):
    path = tmp_path / "features.safetensors"
    save_file({k: v for k, v in digit_net().half().state_dict().items() if k.startswith("features.")}, path)
    model, missing = classifier("digits", path)
    assert missing == {name for name in model.state_dict() if name.startswith("classifier.")}
    net = build(NetSpec("digits", 3, 32), path)
    assert net.spec.head_norm
    assert isinstance(net.head.norm6, nn.BatchNorm2d)
    assert not build(NetSpec("digits", 3, 32, norm=False), path).spec.head_norm
    full = tmp_path / "full.safetensors"
    save_file(digit_net().state_dict(), full)
    assert not build(NetSpec("digits", 3, 32), full).spec.head_norm
    assert build(NetSpec("digits", 3, 32, head_width=16), full).spec.head_norm


def test_weights_that_do_not_fit_are_refused(tmp_path):
    state = digit_net().state_dict()
    path = tmp_path / "weights.safetensors"
    (tmp_path / "text.pth").write_text("not weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers.pth")
    cases = [
        (
            {k: v for k, v in state.items() if k != "features.0.weight"},
            "features.0.weight is missing. The classifier's own names",
        ),
        ({**state, "features.0.weight": torch.zeros(1, 2)}, r"features.0.weight is \(1, 2\)"),
        ({"module." + k: v for k, v in state.items()}, "is missing; .* and [0-9]+ more. The classifier's own names"),
    ]
    for wrong, sentence in cases:
        save_file(wrong, path)
        with pytest.raises(ModelError, match=sentence):
            classifier("digits", path)
    for name in ("text.pth", "list.pth", "numbers.pth"):
        with pytest.raises(ModelError, match=rf"{name} (is not a plain|cannot be read|does not hold a) "):
            classifier("digits", tmp_path / name)
    with pytest.raises(ModelError, match=r"there is no weights file .*gone.pth; name a .safetensors or .pth file"):
        classifier("digits", tmp_path / "gone.pth")
    with pytest.raises(ModelError, match="no classifier is called 'lenet'"):
        classifier("lenet")
    with pytest.raises(ModelError, match="digits has no ImageNet weights"):
        classifier("digits", IMAGENET)


def test_without_a_network_the_remedy_is_named(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no route to host")

    entry = torchvision.models.get_model_weights("mobilenet_v2")["DEFAULT"]
    monkeypatch.setattr(type(entry), "get_state_dict", refuse)
    with pytest.raises(ModelError, match=r"no route to host.* Put the file at .*mobilenet_v2-.*pth, name a file"):
        classifier("mobilenet_v2", IMAGENET)
