"""ONNX files are checked by fullconv before ONNX Runtime or OpenVINO opens them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled
from fullconv.runtime.onnx_bytes import scan as onnx_scan
from fullconv.runtime.onnx_bytes.scan import scan_onnx
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


ROWS = [f"big{number}" for number in range(90)]
CONSTANTS = {
    "one large output": [("Expand", ["one", "square"], ["big"], {})],
    "many outputs": [*(("Expand", ["one", "row"], [name], {}) for name in ROWS), ("Sum", ROWS, ["big"], {})],
    "doubling": [
        *(("Concat", [f"x{i}" if i else "one"] * 2, [f"x{i + 1}"], {"axis": 0}) for i in range(28)),
        ("Identity", ["x28"], ["big"], {}),
    ],
    "a product": [
        ("Expand", ["one", "side"], ["a"], {}),
        ("Reshape", ["a", "column"], ["b"], {}),
        ("Mul", ["a", "b"], ["big"], {}),
    ],
}
"""Constant expressions of 1 GB or more in a few hundred bytes."""

LOAD = r"""
import re, sys
from pathlib import Path
from fullconv.errors import ModelError
from fullconv.runtime.load import load_runner
def kilobytes(field):  # ru_maxrss is also the peak of the process that started this one
    return int(re.search(field + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
before = kilobytes("VmRSS")
try:
    load_runner(Path(sys.argv[1]), sys.argv[2])
except ModelError as error:
    print(error.code, error)
print("kilobytes", kilobytes("VmHWM") - before)
"""


def with_constants(path, nodes):
    """Save a network whose logits are the image plus the largest number of a constant expression."""
    sizes = {"square": [16000, 16000], "row": [6_000_000], "side": [16000], "column": [16000, 1]}
    initializers = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in sizes.items()]
    initializers.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "one"))
    made = [helper.make_node(kind, inputs, outputs, **fields) for kind, inputs, outputs, fields in nodes]
    made += [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["big"], ["most"], keepdims=0),
        helper.make_node("Add", ["floats", "most"], ["sum"]),
        helper.make_node("Transpose", ["sum"], ["logits"], perm=[0, 3, 1, 2]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(made, "constants", [images], [logits], initializers),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    helper.set_model_props(model, scan_onnx(bundled("street")))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is measured as on Linux")
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", CONSTANTS)
def test_constant_expressions_take_little_memory_while_a_file_is_loaded(tmp_path, kind, backend):
    pytest.importorskip("openvino" if backend == "openvino" else "onnxruntime")
    path = with_constants(tmp_path / "net.onnx", CONSTANTS[kind])
    assert path.stat().st_size < 12_000
    done = subprocess.run([sys.executable, "-c", LOAD, path, backend], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    *refusal, memory = done.stdout.splitlines()
    assert int(memory.split()[1]) < 700_000, done.stdout
    assert [line.split()[0] for line in refusal] == (["large-constants"] if backend == "openvino" else [])


def test_openvino_refuses_large_constant_expressions_and_loads_weights_of_one_byte(tmp_path):
    pytest.importorskip("openvino")
    with refuses("large-constants", "net.onnx", "1.0 GB"):
        load_runner(with_constants(tmp_path / "net.onnx", CONSTANTS["one large output"]), "openvino")
    load_runner(bundled("street-int8"), "openvino")


def test_the_nodes_of_a_file_are_counted_at_all_depths():
    def count(graph):
        inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
        return len(graph.node) + sum(map(count, inner))

    assert onnx_scan.read_onnx(bundled("street")).nodes == count(onnx.load(bundled("street")).graph)
