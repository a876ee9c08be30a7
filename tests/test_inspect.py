"""The rows of inspect match what networks compute, and the totals match published numbers."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fullconv.choices import UpsampleMode
from fullconv.cli.inspect import print_inspection
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, read_saved, save_net
from fullconv.net.classifiers.backbones import build_classifier, input_size
from fullconv.net.fcn.network import build, rebuild
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.inspect.layer_rows import list_nodes
from fullconv.net.inspect.network import inspect_classifier, inspect_fcn, inspect_model
from fullconv.net.surgery.convolutionalize import convolutionalize
from refusals import refuses


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("vgg16", 138.36e6, 15.47e9),
        ("alexnet", 61.10e6, 0.714e9),
        ("resnet18", 11.69e6, 1.814e9),
        ("resnet50", 25.56e6, 4.089e9),
        ("mobilenet_v2", 3.505e6, 0.3008e9),
        ("convnext_tiny", 28.59e6, 4.456e9),
    ],
)
def test_totals_match_published_numbers(name: str, params: float, macs: float) -> None:
    inspection = inspect_classifier(name)
    assert inspection.params == pytest.approx(params, rel=1e-3)
    assert inspection.macs == pytest.approx(macs, rel=1e-3)


def test_vgg16_has_the_receptive_fields_of_the_paper() -> None:
    rows = {row.name: row for row in inspect_classifier("vgg16", (500, 500)).rows}
    fc6 = rows["classifier.0"]
    assert fc6.receptive_field == (404, 404)
    assert fc6.stride == (32, 32)
    assert fc6.shape == (4096, 9, 9)
    assert rows["features.30"].offset == (Fraction(31, 2), Fraction(31, 2))


def outputs(net: nn.Module, image: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """Return the shape of each module's output, by name."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, result: object) -> None:
        first = result[0] if isinstance(result, tuple) else result  # max pooling that returns indices
        shapes[name] = tuple(getattr(first, "shape", ()))[1:]

    for name, module in net.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: note(name, o))
    with torch.inference_mode():
        net.eval()(image)
    return shapes


@pytest.mark.parametrize("name", ["digits", "resnet18"])
def test_rows_match_what_the_dense_classifier_computes(name: str) -> None:
    size = (input_size(name)[0] + 40, input_size(name)[1] + 75)
    dense = convolutionalize(build_classifier(name)[0], input_size(name)).module
    shapes = outputs(dense, torch.zeros(1, 3, *size))
    rows = inspect_classifier(name, size).rows
    assert {row.name: row.shape for row in rows if row.name in shapes} == {
        row.name: shapes[row.name] for row in rows if row.name in shapes
    }
    assert sum(row.params for row in rows) == sum(p.numel() for p in dense.parameters())


@pytest.mark.parametrize("upsample", ["fixed", "learned", "unpool", "resize"])
@pytest.mark.parametrize(("name", "stride"), [("digits", 32), ("digits", 8), ("resnet18", 4), ("mobilenet_v2", 16)])
@pytest.mark.parametrize("size", [(1, 1), (37, 101)])
def test_rows_match_what_the_skip_network_computes(
    name: str, stride: int, upsample: UpsampleMode, size: tuple[int, int]
) -> None:
    spec = NetSpec(name, 3, stride, upsample=upsample)
    if upsample == "unpool" and name != "digits":
        pytest.skip("no poolings to undo")
    net = rebuild(spec)
    inspection = inspect_fcn(spec, size)
    with FlopCounterMode(display=False) as counter:
        shapes = outputs(net, torch.zeros(1, 3, *size))
    assert counter.get_total_flops() == 2 * inspection.macs
    rows = {row.name: row.shape for row in inspection.rows if row.kind not in ("sum", "concat")}
    assert rows == {row: shapes[row] for row in rows}
    assert inspection.params == sum(p.numel() for p in net.parameters())
    assert inspection.skip is not None
    assert [up.name for up in inspection.skip.upsamplings] == list(net.upscores)
    assert inspection.rows[-1].shape == (3, *size)
    assert inspection.rows[-1].stride == (1, 1)
    assert inspection.rows[-1].offset == (0, 0)


class Shared(nn.Module):
    """Transposed convolutions as module and function, two calls of one module, and a linear layer on channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.norm = nn.Conv2d(3, 8, 4, 4), nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.BatchNorm2d(8)
        self.twice, self.mix, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(4, 6), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.twice(self.norm(self.twice(self.down(x)))))
        x = functional.conv_transpose2d(x, self.up.weight, stride=4, groups=2)[:, :4] + self.up(x).mean((2, 3), True)
        return cast(torch.Tensor, self.fc(self.mix(x.permute(0, 2, 3, 1)).mean((1, 2))))


def test_totals_match_what_a_network_with_all_kinds_of_layers_computes() -> None:
    net = Shared().eval()
    dense = convolutionalize(net, (32, 48))
    sizes = {name: value.numel() for name, value in dense.module.named_parameters()}
    rows = list(list_nodes(dense.nodes, sizes))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net(torch.zeros(1, 3, 32, 48))
    assert counter.get_total_flops() == 2 * sum(row.macs for row in rows)
    assert sum(row.params for row in rows) == sum(sizes.values())


def test_inspecting_a_huge_image_takes_no_memory() -> None:
    """VGG16 on four gigapixels would need terabytes."""
    assert inspect_classifier("vgg16", (65536, 65536)).macs > 1e15


def test_model_file_and_run_folder_are_inspected_by_their_description(tmp_path: Path) -> None:
    net = build(NetSpec("digits", 2, 8))
    path = tmp_path / "best.safetensors"
    save_net(path, net.state_dict(), Saved(net.spec, LabelSet.named(["no", "yes"])))
    assert read_saved(tmp_path).spec == net.spec
    expected = inspect_fcn(net.spec, (64, 80))
    assert inspect_model(str(path), (64, 80)) == inspect_model(str(tmp_path), (64, 80)) == expected
    plain = json.loads(json.dumps(expected.to_dict()))
    assert plain["macs"] == expected.macs
    assert plain["rows"][0]["kernel"] == list(expected.rows[0].kernel or ())
    assert plain["skip"]["padding"] == [list(pair) for pair in expected.skip.padding] if expected.skip else False


@pytest.mark.parametrize(
    ("code", "metadata"),
    [
        ("not-written-by-fullconv", None),
        ("unreadable-description", {"fullconv": "{"}),
        ("unreadable-description", {"fullconv": '{"spec": {"model": "digits", "wings": 2}}'}),
    ],
)
def test_file_without_a_description_is_refused(tmp_path: Path, code: str, metadata: dict[str, str] | None) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=metadata)
    with refuses(code, "a.safetensors"):
        inspect_model(str(tmp_path / "a.safetensors"))


def test_unknown_models_and_small_images_are_refused() -> None:
    with refuses("no-model", "vgg17", "vgg16"):
        inspect_model("vgg17")
    with refuses("network-does-not-run", "100x100"):
        inspect_classifier("vgg16", (100, 100))


@pytest.mark.parametrize(("model", "has_context"), [("mobilenet_v3_small", True), ("resnet18", False)])
def test_global_context_is_printed_and_has_no_halo(
    model: str, has_context: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for inspection in (inspect_classifier(model), inspect_fcn(NetSpec(model, 2, 8))):
        print_inspection(inspection)
        output = capsys.readouterr().out
        assert ("global context at " in output) == has_context == bool(inspection.context)
        assert ("; halo: " in output) == (inspection.skip is not None and not has_context)
