"""The ONNX and OpenVINO runners: reading files, upsampling without torch, errors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import fullconv.runtime.onnx as onnx_module
from fullconv.geometry import Upsampling
from fullconv.geometry.tiles import Window
from fullconv.images.input_format import InputFormat
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.net.fcn.upsample import Upsample
from fullconv.runtime.full_size import full_size_labels, full_size_logits
from fullconv.runtime.load import load_runner
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.runner import largest
from refusals import refuses

HALF = Upsampling(4, 8, Fraction(7, 2), 2)
WHOLE = Upsampling(8, 15, Fraction(7), 7)
THIRD = Upsampling(3, 6, Fraction(7, 3), 1)


def metadata(
    vertical: Upsampling, horizontal: Upsampling, lead: tuple[int, int] = (0, 0), classes: int = 3
) -> ModelMetadata:
    labels = LabelSet.named([f"class {index}" for index in range(classes)])
    info = ModelInfo(labels, (Window(9, 7, 8), Window(5, 5, 4)), exact=True, input=InputFormat(4, (0.5, 9.0)))
    return ModelMetadata(info, 8, (vertical, horizontal), lead)


@pytest.mark.parametrize("mode", ["fixed", "learned"])
@pytest.mark.parametrize("axes", [(HALF, WHOLE), (WHOLE, HALF), (THIRD, THIRD), (HALF, THIRD)])
@pytest.mark.parametrize("lead", [(0, 0), (2, 5)])
def test_full_size_logits_equal_those_of_the_upsampling_layer(axes, lead, mode):
    """The image has more rows than one band, and includes the border of the transposed convolution."""
    torch.manual_seed(1)
    layer = Upsample(3, *axes, mode)
    described = metadata(*axes, lead)
    if mode == "learned":
        torch.nn.init.normal_(layer.weight)
        described = replace(described, kernel=layer.weight.detach().numpy())
    scores = torch.randn(2, 3, 26, 7)
    size = tuple(
        axis.layer.output_size(n) - s for axis, n, s in zip(axes, scores.shape[2:], described.start, strict=True)
    )
    with torch.no_grad():
        expected = layer(scores, size, described.start)
    np.testing.assert_allclose(full_size_logits(scores.numpy(), described, size), expected.numpy(), atol=2e-5)


@pytest.mark.parametrize("axes", [(HALF, WHOLE), (THIRD, HALF)])
@given(seed=st.integers(0, 10_000), patches=st.integers(1, 9))
def test_full_size_labels_equal_the_arg_max_of_full_size_logits(axes, seed, patches):
    """Scores are constant on a few patches, so that blocks of one class, blocks of several and ties all occur."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(2, 3, patches, patches)).repeat(3, 2).repeat(4, 3).astype(np.float32)
    scores[:, 2] = np.where(random.random(scores[:, 2].shape) < 0.3, scores[:, 0], scores[:, 2])
    described = metadata(*axes, (1, 2))
    size = tuple(
        axis.layer.output_size(n) - s for axis, n, s in zip(axes, scores.shape[2:], described.start, strict=True)
    )
    size = (size[0] - axes[0].factor, size[1] - axes[1].factor)
    logits = full_size_logits(scores, described, size)
    labels = full_size_labels(scores, described, size)
    best = np.take_along_axis(logits, labels[:, None].astype(np.int64), 1)[:, 0]
    np.testing.assert_allclose(best, logits.max(1), atol=1e-6)
    clear = np.diff(np.sort(logits, axis=1)[:, -2:], axis=1)[:, 0] > 1e-5
    np.testing.assert_array_equal(labels[clear], largest(logits)[clear])


@pytest.mark.parametrize("learned", [False, True])
def test_metadata_round_trip(learned):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 15)).astype(np.float32) if learned else None
    written = replace(metadata(HALF, WHOLE, (1, 0)), kernel=kernel, notes={"licence": "CC0", "scores": None})
    read = ModelMetadata.from_metadata("net.onnx", {**written.to_metadata(), "somebody": "else's"})
    before, after = vars(written).copy(), vars(read).copy()
    np.testing.assert_array_equal(before.pop("kernel"), after.pop("kernel"))
    assert before == after


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"format_version": "2"}, "onnx-format-version"),
        ({"palette": "[]"}, "damaged-metadata"),
        ({"windows": "{"}, "damaged-metadata"),
        ({"windows": '[{"before": 9, "after": "7"}, {"before": 5, "after": 5}]'}, "damaged-metadata"),
        ({"windows": '[{"before": 9, "after": 7, "period": 0}, {"before": 5, "after": 5}]'}, "damaged-metadata"),
        ({"upsamplings": "[3]"}, "damaged-metadata"),
        ({"upsamplings": '[{"factor": 4, "kernel": 9, "peak": "7/2", "crop": 2}]'}, "damaged-metadata"),
        ({"exact": '"no"'}, "damaged-metadata"),
        ({"stride": "0"}, "damaged-metadata"),
        ({"channels": "3.5"}, "damaged-metadata"),
        ({"channels": "0"}, "damaged-metadata"),
        ({"lead": "[0, -1]"}, "damaged-metadata"),
        ({"lead": None}, "damaged-metadata"),
        ({"kernel": '"AAAA"'}, "damaged-metadata"),
        ({"format_version": None}, "foreign-onnx"),
    ],
)
def test_invalid_metadata_are_refused(change, code):
    texts = {**metadata(HALF, HALF).to_metadata(), **change}
    with refuses(code, "net.onnx"):
        ModelMetadata.from_metadata("net.onnx", {name: text for name, text in texts.items() if text is not None})


def test_metadata_of_older_files_without_value_range_is_read():
    """Without a value range, numbers follow the rules of the type of the image file."""
    texts = metadata(HALF, HALF).to_metadata()
    del texts["value_range"]
    assert ModelMetadata.from_metadata("net.onnx", texts).info.input == InputFormat(4)


def test_metadata_with_impossible_values_raises_value_error():
    with pytest.raises(ValueError, match="kernel of 1 to 8 cells"):
        replace(metadata(HALF, HALF), upsamplings=(HALF, replace(HALF, kernel=9)))


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_files_that_fullconv_did_not_export_are_refused(tmp_path, kind):
    pytest.importorskip("openvino")
    with refuses("model-not-found", "none.onnx"):
        load_runner(tmp_path / "none.onnx", kind)
    (tmp_path / "text.onnx").write_text("no model")
    with refuses("invalid-onnx-file", "text.onnx"):
        load_runner(tmp_path / "text.onnx", kind)
    ends = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y"))
    first, last = ends
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [first], [last])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "o.onnx")
    with refuses("foreign-onnx", tmp_path / "o.onnx"):
        load_runner(tmp_path / "o.onnx", kind)


def test_backends_refuse_models_of_other_backends(tmp_path):
    with refuses("unknown-backend", "'cuda'", "onnx, openvino, torch"):
        load_runner(tmp_path, "cuda")
    (tmp_path / "photo.jpg").touch()
    with refuses("not-a-model", "photo.jpg"):
        load_runner(tmp_path / "photo.jpg")
    for path, backend in ((tmp_path / "net.onnx", "torch"), (tmp_path, "onnx"), (tmp_path, "openvino")):
        with refuses("backend-of-other-model", path, f"the {backend} backend"):
            load_runner(path, backend)


def test_the_onnx_runner_does_not_import_torch():
    code = (
        "import sys, fullconv.runtime.onnx, fullconv.runtime.load; print('torch' in sys.modules, 'onnx' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["False", "False"]
    assert Path(onnx_module.__file__).name == "onnx.py"


@pytest.mark.parametrize("classes", [1, 2, 11, 255])
def test_largest_is_the_arg_max_with_the_first_of_equal_logits(classes: int) -> None:
    random = np.random.default_rng(classes)
    logits = random.integers(-3, 4, (2, classes, 9, 13)).astype(np.float32)
    logits[0, :, 0, 0] = np.inf
    logits[1, :, 0, 0] = -np.inf
    logits[1, random.integers(classes), 1, 1] = np.inf
    np.testing.assert_array_equal(largest(logits), logits.argmax(1))
    np.testing.assert_array_equal(largest(logits[:, :, ::2, ::-1]), logits[:, :, ::2, ::-1].argmax(1))
    assert largest(logits).dtype == np.uint8
