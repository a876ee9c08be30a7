"""Exported files that are cut at their score layers and joined again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import nets
from fullconv.geometry.interpolation import Interpolation
from fullconv.labels import LabelSet
from fullconv.net.fcn.spec import NetSpec
from fullconv.onnx_export.file import assemble, describe
from fullconv.onnx_graph.build import take_gain
from fullconv.onnx_graph.compose import compose
from fullconv.onnx_graph.exported import read_exported
from fullconv.onnx_graph.grids import Grid, find_grids
from fullconv.onnx_graph.probabilities import make_probabilities
from fullconv.onnx_graph.split import ScoreLayer, read_split
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.models import bundled, taps_path
from fullconv.runtime.onnx import OnnxFile
from fullconv.runtime.onnx_bytes.cut import read_for
from refusals import refuses

# isort: split
import onnxruntime  # after fullconv, which switches its telemetry off


class Described:
    """What `describe` reads of a checkpoint."""

    def __init__(self, classes: int) -> None:
        self.labels = LabelSet.named([f"class {index}" for index in range(classes)])


def images(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (2, height, width, channels), np.uint8)


def export(spec: NetSpec, path: Path) -> nets.FCN:
    net = nets.lively(nets.make(spec))
    onnx.save(assemble(net, describe(net, Described(spec.num_classes), {})), path)
    return net


@pytest.mark.parametrize("name", ["street", "street-int8"])
@pytest.mark.parametrize("size", [(1, 1), (97, 131), (160, 224)])
def test_street_joined_with_its_own_score_layers_gives_its_logits(tmp_path: Path, name: str, size) -> None:
    """The file computes the end of the decoder and the score layer at once, the joined one after each other."""
    split = read_split(bundled(name))
    onnx.save(compose(split, split.scores, split.metadata), tmp_path / "joined.onnx")
    whole, joined = OnnxFile.load(bundled(name)), OnnxFile.load(tmp_path / "joined.onnx")
    batch = images(*size)
    np.testing.assert_allclose(joined.scores(batch), whole.scores(batch), atol=2e-4)
    assert np.mean(joined.label_maps(batch) != whole.label_maps(batch)) < 1e-3
    assert len(np.unique(whole.label_maps(batch))) > 1 or size == (1, 1)


@pytest.mark.parametrize(
    "spec",
    [NetSpec("vgg16", 3, 8), NetSpec("resnet18", 2, 4), NetSpec("mobilenet_v2", 4, 16), NetSpec("resnet18", 2, 32)],
    ids=lambda spec: f"{spec.model}-{spec.stride}",
)
def test_upsampling_is_recovered_from_the_file(tmp_path: Path, spec: NetSpec) -> None:
    """The cells of VGG16 lie half-way between finer cells, those of the others on them."""
    net = export(spec, tmp_path / "net.onnx")
    split = read_split(tmp_path / "net.onnx")
    expected = list(zip(*(geometry.upsamplings[:-1] for geometry in net.geometry), strict=True))
    assert list(split.upsamplings) == expected
    onnx.save(compose(split, split.scores, split.metadata), tmp_path / "joined.onnx")
    batch = images(75, 90)
    whole, joined = (OnnxFile.load(tmp_path / f"{name}.onnx").scores(batch) for name in ("net", "joined"))
    np.testing.assert_allclose(joined, whole, atol=1e-5)


def test_other_classes_can_be_put_on_the_taps(tmp_path: Path) -> None:
    split = read_split(bundled("street"))
    random = np.random.default_rng(0)
    scores = [
        ScoreLayer(random.normal(size=(3, s.weight.shape[1])).astype(np.float32), np.ones(3, np.float32))
        for s in split.scores
    ]
    labels = LabelSet.named(["a", "b", "c"])
    metadata = replace(split.metadata, info=replace(split.metadata.info, labels=labels))
    onnx.save(compose(split, scores, metadata), tmp_path / "three.onnx")
    file = OnnxFile.load(tmp_path / "three.onnx")
    assert file.metadata.info.labels == labels
    assert file.scores(images(64, 80)).shape[1] == 3


def test_files_without_replaceable_score_layers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with refuses("model-not-found", path):
        read_split(path)
    export(NetSpec("resnet18", 2, 8, upsample="learned"), path)
    with refuses("no-score-layers", path, "learned"):
        read_split(path)
    model = onnx.load(bundled("street"))
    (score,) = (node for node in model.graph.node if node.output[0] == "score_0")
    score.op_type = "QLinearConv"
    onnx.save(model, path)
    with refuses("no-score-layers", path, "eight-bit"):
        read_split(path)
    export(NetSpec("resnet18", 2, 8), path)
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "ConvTranspose":
            node.op_type = "Resize"
    onnx.save(model, path)
    with refuses("no-score-layers", path):
        read_split(path)
    model = onnx.load(bundled("street"))
    (names,) = (entry for entry in model.metadata_props if entry.key == "class_names")
    names.value = json.dumps(["sky", "road"])
    (palette,) = (entry for entry in model.metadata_props if entry.key == "palette")
    palette.value = json.dumps([[0, 0, 0], [1, 1, 1]])
    onnx.save(model, path)
    with refuses("no-score-layers", path, "number of classes"):
        read_split(path)
    path.write_bytes(b"no network")
    with refuses("invalid-onnx-file", path):
        read_split(path)


def test_bundled_taps_are_small_and_have_a_card() -> None:
    path = taps_path()
    assert path.stat().st_size < 15e6
    assert "MIT" in (path.parent / "taps.md").read_text(encoding="utf-8")
    metadata: ModelMetadata = read_split(path).metadata
    assert (metadata.stride, metadata.info.exact) == (2, True)
    assert not any(np.any(score.weight) for score in read_split(path).scores)


@pytest.mark.parametrize("size", [1, 2, 31, 64, 97])
@pytest.mark.parametrize("spec", [NetSpec("vgg16", 2, 4), NetSpec("resnet18", 2, 8)], ids=lambda spec: spec.model)
def test_a_pixel_reads_each_tap_with_weights_that_sum_to_one_inside_the_image(spec: NetSpec, size: int) -> None:
    net = nets.make(spec)
    geometry = net.geometry[0]
    axis = Interpolation(geometry.upsamplings, geometry.lead)
    padded = size + sum(geometry.padding(size))
    cells = [tap.size(padded) for tap in geometry.taps]
    for reading, count in zip(axis.readings(np.arange(size), cells), cells, strict=True):
        cell = reading.first[:, None] + np.arange(reading.weights.shape[1])
        assert ((cell >= 0) & (cell < count) | (reading.weights == 0)).all()
        assert (reading.weights.sum(1) <= 1 + 1e-6).all()
        if size > 90:
            assert reading.weights.sum(1)[size // 2] == pytest.approx(1)


GRIDS = [
    NetSpec("mobilenet_v2", 2, 4, decoder="refined", decoder_width=16, context=True, late="narrow"),
    NetSpec("efficientnet_lite0", 2, 2, decoder="refined", decoder_width=16, late="short"),
    NetSpec("resnet18", 2, 8),
    NetSpec("vgg16", 2, 8),
    NetSpec("squeezenet1_1", 2, 16),
    NetSpec("mobilenet_v3_large", 2, 8, decoder="refined", decoder_width=16),
]


@pytest.mark.parametrize("spec", GRIDS, ids=lambda spec: f"{spec.model}-{spec.stride}")
def test_the_described_sizes_are_those_that_the_network_computes(tmp_path: Path, spec: NetSpec) -> None:
    """Equal names of sizes mean equal sizes, and each name says the number of cells."""
    export(spec, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    described = {info.name: info.type.tensor_type.shape.dim for info in model.graph.value_info}
    assert len(described) > 2
    inner = {output for node in model.graph.node for output in node.output}
    names = ["padded", *(name for name in described if name in inner and name != "padded")]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    del model.graph.value_info[:]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in [(1, 2), (37, 64), (95, 130)]:
        padded, *maps = session.run(names, {"images": images(*size)})
        for name, array in zip(names, [padded, *maps], strict=True):
            assert described[name][1].dim_value == array.shape[1], name
            for dimension, cells, pixels in zip(described[name][2:], array.shape[2:], padded.shape[2:], strict=True):
                offset, divisor = (int(part.replace("m", "-")) for part in dimension.dim_param.split("_")[1:])
                assert cells == (pixels + offset) // divisor, (name, size)


def write_joined(path: Path) -> None:
    split = read_split(path)
    onnx.save(compose(split, split.scores, split.metadata), path)


def write_probabilities(path: Path) -> None:
    onnx.save(make_probabilities(*read_exported(path), white=255), path)


@pytest.mark.parametrize(
    ("change", "output", "more"),
    [(Path.stat, "logits", 0), (write_joined, "logits", 0), (write_probabilities, "output", 1)],
)
def test_a_refined_network_has_no_layers_that_only_copy(
    tmp_path: Path, change: Callable[[Path], object], output: str, more: int
) -> None:
    """ONNX Runtime adds all equal maps inside convolutions, and computes every resize in its blocked layout."""
    path = tmp_path / "net.onnx"
    export(GRIDS[0], path)
    change(path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    content = read_for(path, output) if output == "logits" else path.read_bytes()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    if "Upsample" not in kinds and "ReorderInput" not in kinds:
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    assert (kinds["Resize"], kinds["Upsample"], kinds["Mul"], kinds["Pad"], kinds["MatMul"]) == (0, 3, 0, 0, 0)
    assert kinds["Add"] == 4 + more, "the normalisation, the sizes of three maps, and with probabilities of one more"


def test_the_score_layers_of_a_refined_network_stay_in_float32() -> None:
    nodes = {node.output[0]: node for node in onnx.load(bundled("street-int8")).graph.node}
    assert list(nodes["score_sum"].input) == ["score_0", "score_1"]
    assert [nodes[name].op_type for name in ("score_0", "score_1")] == ["Conv", "Conv"]
    assert nodes["score_0"].input[1] not in nodes
    assert nodes[nodes["score_1"].input[1]].op_type == "Unsqueeze"


def test_a_map_of_one_channel_is_not_described_next_to_unknown_operands() -> None:
    nodes = [
        onnx.helper.make_node("Add", ["one", "unknown"], ["a"]),
        onnx.helper.make_node("Mul", ["two", "unknown"], ["b"]),
        onnx.helper.make_node("Add", ["one", "one"], ["c"]),
        onnx.helper.make_node("Add", ["one", "two"], ["d"]),
        onnx.helper.make_node("Relu", ["one"], ["e"]),
    ]
    found = find_grids(nodes, [], {"one": Grid(1), "two": Grid(2)})
    assert {name: grid.channels for name, grid in found.items()} == {"one": 1, "two": 2, "b": 2, "c": 1, "e": 1}


def test_the_gain_of_the_normalisation_stays_where_another_layer_reads_the_image(tmp_path: Path) -> None:
    export(GRIDS[2], tmp_path / "net.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node if node.name.startswith("before_")]
    assert "Mul" not in kinds
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["padded"], ["a"]), onnx.helper.make_node("Conv", ["padded", "w"], ["b"])],
        "body",
        [],
        [],
        [onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")],
    )
    assert take_gain(body, [0.5, 0.5, 0.25]) == [0.5, 0.5, 0.25]
    assert np.all(onnx.numpy_helper.to_array(body.initializer[0]) == 1)
    del body.node[0]
    depthwise = onnx.numpy_helper.from_array(np.ones((3, 1, 3, 3), np.float32), "v")
    for names in (["w", "v"], ["v", "w"]):
        two = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["padded", name], [f"of {name}"]) for name in names],
            "body",
            [],
            [],
            [*body.initializer, depthwise],
        )
        assert take_gain(two, [0.5, 0.5, 0.25]) == [0.5, 0.5, 0.25]
        assert all(np.all(onnx.numpy_helper.to_array(tensor) == 1) for tensor in two.initializer)
    assert take_gain(body, [0.5, 0.5, 0.25]) == [1 / 255] * 3
    scaled = onnx.numpy_helper.to_array(body.initializer[0])[:, :, 0, 0]
    np.testing.assert_allclose(scaled, [[2 / 255, 2 / 255, 4 / 255]] * 2, rtol=1e-6)
