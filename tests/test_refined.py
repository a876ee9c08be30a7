"""The refined decoder, narrow late layers and stride 2: tiles, files, refusals, and what starts from what."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, load_net, save_net
from fullconv.net.fcn.depthwise import speed_up_depthwise
from fullconv.net.fcn.network import FCN, build, fcn2s
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.network import inspect_fcn
from fullconv.net.surgery.convolutionalize import transplant
from fullconv.onnx_export.file import assemble, check_file, describe
from fullconv.onnx_graph.compose import compose
from fullconv.onnx_graph.split import read_split
from fullconv.runtime.load import load_runner
from fullconv.runtime.onnx import OnnxFile
from fullconv.training.frozen_features import freeze_all_but_score
from fullconv.training.job import TrainingOptions, make_job
from fullconv.training.losses.supervision import compute_supervision
from nets import check_tile_with_halo, make
from refusals import refuses

LABELS = LabelSet.named(["a", "b"])
SPEC = NetSpec("mobilenet_v2", 2, 4, decoder="refined", decoder_width=8, context=True, late="narrow")
VGG = NetSpec("vgg16", 2, 8, decoder="refined", decoder_width=6)
SPECS = (
    SPEC,
    VGG,
    NetSpec("digits", 2, 4, decoder="refined", decoder_width=6, context=True),
    NetSpec("resnet18", 2, 16, decoder="refined", decoder_width=6),
    NetSpec("efficientnet_lite0", 2, 2, decoder="refined", decoder_width=8, late="short"),
    NetSpec("mobilenet_v2", 2, 32, decoder="refined", decoder_width=8, context=True, late="drop"),
    NetSpec("vgg16", 2, 2),
    NetSpec("mobilenet_v2", 2, 2, late="narrow"),
)


def name_of(spec: NetSpec) -> str:
    return f"{spec.name} on {spec.model}, {spec.late}"


@cache
def lively(spec: NetSpec) -> FCN:
    """Return a network whose score layers are random and whose norms have real statistics, so that every tap counts."""
    net = make(spec)
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight, std=0.1)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1
        nn.init.normal_(norm.bias, std=0.3)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    if norms:
        with torch.no_grad():
            net.train()(torch.rand(2, 3, 97, 131))
    return net.eval()


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_tile_with_halo_equals_the_whole_image(spec):
    check_tile_with_halo(lively(spec))
    lively(spec).float()


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, context=False)], ids=name_of)
def test_the_halo_is_not_larger_than_the_network_needs(spec):
    """The gradient of one pixel's logits reaches the border of its receptive field in at least one phase."""
    net = make(spec).double().eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.25 / module.weight[0].numel())  # no ReLU6 saturates
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 1e-3)
            nn.init.ones_(module.weight)
    before, after = net.geometry[1].field.halo
    reached = [0, 0]
    for pixel in range(before + 32, before + 64, 4):
        image = torch.full((1, 3, 40, before + after + 100), 0.5, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(net(image)[0, 0, 20, pixel], image)
        columns = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
        reached = [max(reached[0], pixel - int(columns[0])), max(reached[1], int(columns[-1]) - pixel)]
    assert before - 32 <= reached[0] <= before
    assert after - 32 <= reached[1] <= after


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_exported_file_equals_the_network(spec, tmp_path):
    """A resize replaces the transposed convolution where cells lie on finer cells, not between them."""
    net, path = lively(spec), tmp_path / "net.onnx"
    model = assemble(net, describe(net, Saved(spec, LABELS), {}))
    kinds = [node.op_type for node in model.graph.node]
    if spec.decoder == "refined":
        between = spec.model in ("vgg16", "digits")
        assert ("Resize" in kinds) == (not between and spec.stride < 32)
        assert ("ConvTranspose" in kinds) == between
    onnx.save(model, path)
    difference, classes = check_file(path, net)
    assert difference < 2e-3
    assert classes == 2


def test_openvino_gives_the_same_logits(tmp_path):
    openvino = pytest.importorskip("fullconv.runtime.openvino")
    net, path = lively(SPEC), tmp_path / "net.onnx"
    onnx.save(assemble(net, describe(net, Saved(SPEC, LABELS), {})), path)
    for size in ((1, 1), (45, 131)):
        images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        actual = openvino.OpenVinoFile.load(path, 1, "f32").scores(images)
        np.testing.assert_allclose(actual, OnnxFile.load(path).scores(images), atol=2e-3)


def test_labelling_starts_from_the_last_map_of_a_refined_network(tmp_path):
    """The file adds two score layers; the cut computes the one map that a single score layer can read."""
    net, path = lively(SPEC), tmp_path / "net.onnx"
    onnx.save(assemble(net, describe(net, Saved(SPEC, LABELS), {})), path)
    split = read_split(path)
    assert [score.weight.shape for score in split.scores] == [(2, 8)]
    assert split.upsamplings == ()
    joined = tmp_path / "joined.onnx"
    onnx.save(compose(split, split.scores, split.metadata), joined)
    images = np.random.default_rng(0).integers(0, 256, (1, 45, 70, 3), np.uint8)
    np.testing.assert_allclose(load_runner(joined).logits(images), load_runner(path).logits(images), atol=1e-3)


def test_late_layers_are_found_by_their_place():
    with torch.device("meta"):
        nets = {late: build(replace(SPEC, late=late, context=False)) for late in ("keep", "drop", "narrow", "short")}
        lite = build(replace(SPEC, model="efficientnet_lite0"))
        large = build(NetSpec("mobilenet_v3_large", 2, 8, late="drop"))
    widths = {late: [conv.in_channels for conv in projections(net)] for late, net in nets.items()}
    assert widths["keep"] == [1280, 576, 192, 144]
    assert widths["drop"] == [320, 576, 192, 144]
    assert widths["narrow"] == [320, 96, 32, 24]
    assert widths["short"] == [160, 96, 32, 24]
    assert [conv.in_channels for conv in projections(lite)] == [320, 112, 40, 24]
    assert (large.score_fr.in_channels, len(large.head)) == (160, 0)
    names = {name.partition(".")[0] for name in lite.backbone.state_dict()}
    assert names == {"conv_stem", "bn1", "blocks"}
    with refuses("no-late-layer", "resnet18", "--late"):
        build(NetSpec("resnet18", 2, late="drop"))
    with refuses("no-late-layer", "mobilenet_v3_large", "--late narrow"):
        build(NetSpec("mobilenet_v3_large", 2, 8, late="short"))


def projections(net: FCN) -> list[nn.Conv2d]:
    return [net.decoder.get_submodule(f"project_{name}")[0] for name in ("fr", *net.skips)]


def test_the_refined_decoder_starts_as_linear_sums():
    """Until a step has changed them, refinements and context add nothing, so that scores are linear on the taps."""
    net = make(SPEC).eval()
    nn.init.normal_(net.score_fr.weight)
    first, second = ([torch.randn_like(tap) for tap in net.encode(torch.rand(1, 3, 50, 60))] for _ in range(2))
    both = [one + other for one, other in zip(first, second, strict=True)]
    nothing = [torch.zeros_like(tap) for tap in first]
    scores = [net.score(maps, (50, 60)) for maps in (first, second, both, nothing)]
    torch.testing.assert_close(scores[0] + scores[1], scores[2] + scores[3], atol=1e-4, rtol=1e-4)
    lively_scores = [lively(SPEC).score(maps, (50, 60)) for maps in (first, second, both, nothing)]
    assert (lively_scores[0] + lively_scores[1] - lively_scores[2] - lively_scores[3]).abs().max() > 0.01


def test_a_finer_refined_network_starts_from_a_coarser_one():
    coarse, fine = lively(replace(SPEC, stride=8)), make(SPEC)
    copied, fresh = transplant(coarse, fine)
    assert {".".join(name.split(".")[:2]) for name in fresh} == {"decoder.project_pool2", "decoder.refine_pool2"}
    assert set(copied) == set(coarse.state_dict())
    assert not fine.is_pretrained("decoder.project_fr.0.weight")
    assert fine.is_pretrained("backbone.features.0.0.weight")


def test_weights_files_keep_the_decoder(tmp_path):
    net, path = lively(SPEC), tmp_path / "net.safetensors"
    save_net(path, net.state_dict(), Saved(SPEC, LABELS))
    loaded, saved = load_net(path)
    image = torch.rand(1, 3, 50, 60)
    assert saved.spec == SPEC
    assert saved.spec.name == "FCN-4s-refined"
    with torch.no_grad():
        assert torch.equal(loaded(image), net(image))
    old = {name: value for name, value in SPEC.to_dict().items() if name not in NEW}
    assert NetSpec.from_dict(old) == NetSpec("mobilenet_v2", 2, 4)


NEW = ("decoder", "decoder_width", "context", "late")


def test_inspection_counts_every_parameter():
    for spec in (SPEC, replace(SPEC, late="short", stride=2)):
        inspection = inspect_fcn(spec, (97, 131))
        assert inspection.params == sum(p.numel() for p in make(spec).parameters())
        names = [row.name for row in inspection.rows]
        inner = ("project_fr.0", "context.branches.2.0", "refine_pool2.pointwise.0")
        assert {f"decoder.{name}" for name in inner} <= set(names)
        last = next(row for row in inspection.rows if row.name == inspection.skip.upsamplings[-1].name)
        assert last.shape == (2, 97, 131)


def test_the_refined_network_is_cheap():
    """At stride 4 and 480x360, with 64 channels and without the last block, within 1.3 billion multiply-accumulates."""
    spec = NetSpec("efficientnet_lite0", 11, 4, decoder="refined", late="short")
    rows = inspect_fcn(spec, (360, 480)).rows
    assert sum(row.macs for row in rows if not row.kind.startswith("upsample")) < 1.3e9


def test_options_that_exclude_each_other_are_refused():
    with refuses("refined-decoder-differs", "--upsample learned"):
        build(replace(VGG, upsample="learned"))
    with refuses("refined-decoder-differs", "--recipe paper"):
        build(replace(VGG, at_once=True))
    with refuses("context-needs-refined", "--decoder refined"):
        build(NetSpec("vgg16", 2, context=True))
    with refuses("no-hidden-layer", "--late drop"):
        build(NetSpec("mobilenet_v3_large", 2, late="drop", head_width=8))
    for options in (TrainingOptions(decoder_width=8), TrainingOptions(decoder="refined", decoder_width=0)):
        with refuses("decoder-width-out-of-range", "--decoder refined"):
            options.check()
    with refuses("unknown-option-value", "decoder 'x'"):
        TrainingOptions(decoder="x").check()


@pytest.mark.parametrize("model", ["mobilenet_v2", "efficientnet_lite0", "vgg16"])
def test_stride_2_has_a_skip_more(model):
    with torch.device("meta"):
        net = fcn2s(model, 3).eval()
        assert net(torch.zeros(1, 3, 37, 50)).shape == (1, 3, 37, 50)
    assert net.skips == ("pool4", "pool3", "pool2", "pool1")
    assert net.upscores == ("upscore2", "upscore_pool4", "upscore_pool3", "upscore_pool2", "upscore_pool1")
    assert [int(tap.field.stride) for tap in net.geometry[0].taps] == [32, 16, 8, 4, 2]
    assert net.spec.name == "FCN-2s"


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_gradients_of_depthwise_convolutions_are_those_of_float32(kernel, stride):
    """Outputs stay those of autocast, bit by bit; gradients are nearer to float32's than those of bfloat16."""
    torch.manual_seed(0)
    slow = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False))
    fast, exact = copy.deepcopy(slow), copy.deepcopy(slow)
    assert speed_up_depthwise(fast) == 1
    assert list(fast.state_dict()) == list(slow.state_dict())
    image = torch.rand(2, 3, 19, 22)
    outputs = []
    for net, half in ((slow, True), (fast, True), (exact, False)):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = net(image)
        out.float().square().sum().backward()
        outputs.append(out)
    assert torch.equal(outputs[0], outputs[1])
    assert fast[1].weight.grad.dtype == torch.float32
    for index in (0, 1):
        expected = exact[index].weight.grad
        errors = [float((net[index].weight.grad - expected).norm() / expected.norm()) for net in (slow, fast)]
        assert errors[1] < max(0.01, errors[0])
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(fast)(image), exact(image))


def test_deep_supervision_reads_the_label_at_the_centre_of_each_cell():
    """Cells of MobileNetV2 lie at multiples of their stride, so the labels are those of every 32nd, 16th, ... pixel."""
    net = make(SPEC)
    net.decoder.supervise(2)
    nn.init.normal_(net.score_fr.weight)
    for layer in net.decoder.auxiliary:
        nn.init.normal_(layer.weight)
    image = torch.rand(2, 3, 70, 99)
    target = torch.randint(0, 2, (2, 70, 99), dtype=torch.uint8)
    target[:, :9] = 255
    maps = net.eval().encode(image)
    *coarse, last = net.score_all(maps, (70, 99))
    assert torch.equal(last, net.score(maps, (70, 99)))
    weights = torch.tensor([1.0, 3.0])
    expected = []
    for score, stride in zip(coarse, (32, 16, 8), strict=True):
        labels = torch.full((2, *score.shape[2:]), 255)
        inside = target[:, ::stride, ::stride]
        labels[:, : inside.shape[1], : inside.shape[2]] = inside
        expected.append(nn.functional.cross_entropy(score, labels, weights, ignore_index=255))
    loss = compute_supervision(net, coarse, target, weights)
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    loss.backward()
    assert net.decoder.auxiliary[0].weight.grad.abs().sum() > 0
    assert compute_supervision(net, coarse, torch.full_like(target, 255), weights) == 0


def test_layers_of_deep_supervision_are_not_kept(tmp_path):
    net, path = make(SPEC), tmp_path / "net.safetensors"
    net.decoder.supervise(2)
    assert any(name.startswith("decoder.auxiliary.") for name in net.state_dict())
    save_net(path, net.state_dict(), Saved(SPEC, LABELS))
    assert not load_net(path)[0].decoder.auxiliary
    with refuses("supervision-needs-refined", "--decoder refined"):
        options = TrainingOptions(model="digits", values={"deep_supervision": 0.4}, by_data=False)
        make_job(SimpleNamespace(labels=LABELS), options)


def test_a_fixed_backbone_leaves_the_decoder_to_be_trained():
    net = make(replace(SPEC, stride=32, fixed=True))
    freeze_all_but_score(net)
    trained = {name.split(".")[0] for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained == {"decoder", "score_fr"}
    assert net.spec.name == "FCN-32s-refined-fixed"


def test_layers_of_the_refined_decoder_have_a_higher_rate_unless_it_is_given():
    def scale(**options) -> float:
        job = make_job(SimpleNamespace(labels=LABELS), TrainingOptions(model="digits", by_data=False, **options))
        return job.recipe.head_lr_scale

    assert (scale(), scale(decoder="refined")) == (5, 15)
    assert scale(decoder="refined", values={"head_lr_scale": 2.0}) == 2
