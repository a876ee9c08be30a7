"""ONNX files are checked by fullconv before ONNX Runtime or OpenVINO opens them."""

from __future__ import annotations

import pytest

from fullconv.runtime import onnx_scan
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled
from fullconv.runtime.onnx_scan import scan_onnx
from refusals import refuses

onnx = pytest.importorskip("onnx")
TensorProto, helper = onnx.TensorProto, onnx.helper

PLACES = ("initializer", "sparse values", "sparse indices", "attribute", "list", "sparse attribute", "branch", "deep")


def outside(location="../secret.bin"):
    tensor = TensorProto(name="w", dims=[8], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def graph_with(place):
    tensor, plain = outside(), helper.make_tensor("p", TensorProto.INT64, [1], [0])
    node, graph = onnx.NodeProto(op_type="Constant"), onnx.GraphProto(name="g")
    attribute = node.attribute.add(name="value")
    if place == "initializer":
        graph.initializer.append(tensor)
    elif place == "sparse values":
        graph.sparse_initializer.add(values=tensor, indices=plain)
    elif place == "sparse indices":
        graph.sparse_initializer.add(values=plain, indices=tensor)
    elif place == "attribute":
        attribute.t.CopyFrom(tensor)
    elif place == "list":
        attribute.tensors.extend([plain, tensor])
    elif place == "sparse attribute":
        attribute.sparse_tensor.values.CopyFrom(tensor)
    elif place == "branch":
        attribute.g.CopyFrom(graph_with("initializer"))
    else:
        attribute.graphs.append(graph_with("branch"))
    graph.node.append(node)
    return graph


def save(path, graph, **fields):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    for name, values in fields.items():
        getattr(model, name).extend(values)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("place", PLACES)
def test_numbers_in_other_files_are_refused_wherever_they_are(tmp_path, place):
    with refuses("external-data", tmp_path / "net.onnx"):
        scan_onnx(save(tmp_path / "net.onnx", graph_with(place)))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_network_of_fullconv_whose_weights_are_moved_out_is_refused(tmp_path, backend):
    pytest.importorskip("openvino" if backend == "openvino" else "onnxruntime")
    model = onnx.load(bundled("street"))
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with refuses("external-data", "net.onnx"):
        load_runner(tmp_path / "net.onnx", backend)


def test_either_mark_of_external_data_is_enough(tmp_path):
    only_location, only_entry = outside(), outside()
    only_location.ClearField("external_data")
    only_entry.ClearField("data_location")
    for tensor in (only_location, only_entry):
        with refuses("external-data"):
            scan_onnx(save(tmp_path / "net.onnx", onnx.GraphProto(name="g", initializer=[tensor])))


def test_functions_and_trainings_are_refused(tmp_path):
    graph = onnx.GraphProto(name="g")
    function = helper.make_function("own", "f", ["x"], ["y"], [], [helper.make_opsetid("", 18)])
    with refuses("invalid-onnx-file", "it has functions"):
        scan_onnx(save(tmp_path / "net.onnx", graph, functions=[function]))
    with refuses("invalid-onnx-file", "it has a training"):
        scan_onnx(save(tmp_path / "net.onnx", graph, training_info=[onnx.TrainingInfoProto()]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\x3a\x05\x0a", "truncated"),
        (b"\x3b\x3c", "protocol buffers"),  # a group
        (b"\x02\x00", "protocol buffers"),  # field 0
        (b"\xff" * 12, "truncated"),
        (b"\x09\x00", "truncated"),
        (b"\x3a\x03\x0a\x05\x00", "truncated"),  # a node that is longer than its graph
    ],
)
def test_damaged_files_are_refused(tmp_path, content, reason):
    (tmp_path / "net.onnx").write_bytes(content)
    with refuses("invalid-onnx-file", reason):
        scan_onnx(tmp_path / "net.onnx")


def test_the_pass_over_a_file_is_bounded(tmp_path, monkeypatch):
    content, path = b"", tmp_path / "net.onnx"
    for number in [6, 5, 1] * 70:  # a node of a graph, its attribute, the graph in it
        content = bytes([number << 3 | 2]) + _varint(len(content)) + content
    path.write_bytes(b"\x3a" + _varint(len(content)) + content)
    with refuses("invalid-onnx-file", "nested"):
        scan_onnx(path)
    monkeypatch.setattr(onnx_scan, "MAX_FIELDS", 100)
    with refuses("invalid-onnx-file", "more than 100 fields"):
        scan_onnx(bundled("street"))


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def test_the_metadata_are_those_of_the_onnx_package():
    model = onnx.load(bundled("street"))
    assert scan_onnx(bundled("street")) == {entry.key: entry.value for entry in model.metadata_props}
