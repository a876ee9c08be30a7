"""Files are cut to the nodes that the logits need, because ONNX Runtime computes all nodes of a file."""

from __future__ import annotations

import numpy as np
import pytest

from fullconv.runtime.models import bundled
from fullconv.runtime.onnx import OnnxFile
from fullconv.runtime.onnx_bytes import cut as onnx_cut
from fullconv.runtime.onnx_bytes.cut import cut_to_output, read_for

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT


def model(*nodes, outputs=("logits", "label_map")):
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("images", FLOAT, [2])],
        [helper.make_tensor_value_info(name, FLOAT, [2]) for name in outputs],
        [helper.make_tensor("weight", FLOAT, [2], [1, 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), name=outputs, **attributes)


def nodes_of(content):
    return [node.name for node in onnx.load_from_string(content).graph.node]


@pytest.mark.parametrize("name", ["street", "street-int8"])
def test_logits_stay_the_same_bit_for_bit_without_the_label_map(name):
    whole = onnx.load(bundled(name))
    cut = onnx.load_from_string(read_for(bundled(name), "logits"))
    onnx.checker.check_model(cut)
    assert [output.name for output in cut.graph.output] == ["logits"]
    kinds = {node.op_type for node in cut.graph.node}
    assert "Loop" not in kinds
    assert "Loop" in {node.op_type for node in whole.graph.node}
    expected = onnx.utils.Extractor(whole).extract_model(["images"], ["logits"])
    assert [node.name for node in cut.graph.node] == [node.name for node in expected.graph.node]
    assert cut.metadata_props == whole.metadata_props
    images = np.random.default_rng(0).integers(0, 256, (1, 61, 97, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(bundled(name)), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(
        OnnxFile.load(bundled(name), 1).scores(images), session.run(["logits"], {"images": images})[0]
    )


def test_nodes_that_two_outputs_share_are_kept():
    shared = model(
        node("Mul", "images weight", "scaled"), node("Neg", "scaled", "label_map"), node("Abs", "scaled", "logits")
    )
    content = cut_to_output(shared.SerializeToString(), "logits")
    assert nodes_of(content) == ["scaled", "logits"]
    assert nodes_of(cut_to_output(shared.SerializeToString(), "label_map")) == ["scaled", "label_map"]
    assert cut_to_output(content, "logits") is None  # nothing is left to cut


def test_what_cannot_be_cut_stays_whole(tmp_path, monkeypatch):
    branch = helper.make_graph([node("Neg", "hidden", "n")], "b", [], [helper.make_tensor_value_info("n", FLOAT, [2])])
    inner = model(
        node("Abs", "images", "hidden"),
        node("ReduceMax", "images", "most", keepdims=0),
        node("Cast", "most", "yes", to=onnx.TensorProto.BOOL),
        node("If", "yes", "logits", then_branch=branch, else_branch=branch),
        node("Neg", "images", "label_map"),
    )
    onnx.checker.check_model(inner)
    assert cut_to_output(inner.SerializeToString(), "logits") is None
    assert cut_to_output(inner.SerializeToString(), "label_map") is not None
    assert cut_to_output(inner.SerializeToString(), "other") is None
    path = tmp_path / "a.onnx"
    onnx.save(model(node("Abs", "images", "logits"), node("Neg", "images", "label_map")), path)
    assert isinstance(read_for(path, "logits"), bytes)
    content = path.read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2] + 12 * b"\xff", content + content):
        path.write_bytes(damaged)
        assert isinstance(read_for(path, "logits"), bytes | str)  # ONNX Runtime decides
    path.write_bytes(content)
    monkeypatch.setattr(onnx_cut, "MAX_CUT", 10)
    assert read_for(path, "logits") == str(path)
