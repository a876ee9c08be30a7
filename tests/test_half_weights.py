"""Files whose weights are stored as float16: half the size, and read by everything that reads a file of export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fullconv.cli.app import main
from fullconv.onnx_graph.compose import compose
from fullconv.onnx_graph.half import LEAST, store_halves
from fullconv.onnx_graph.split import read_split
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled, taps_path
from fullconv.runtime.onnx import OnnxFile
from fullconv.runtime.onnx_bytes.half_weights import has_halves, restore_weights
from refusals import refuses


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("half") / "street.onnx"
    onnx.save(store_halves(onnx.load(bundled("street"))), path)
    return path


def images() -> np.ndarray:
    random = np.random.default_rng(0)
    squares = random.integers(0, 192, (6, 8, 3), np.uint8).repeat(24, 0).repeat(24, 1)
    return (squares + random.integers(0, 64, squares.shape, np.uint8))[None]


def test_the_file_has_half_the_size_and_nearly_the_same_labels(half: Path) -> None:
    whole = bundled("street")
    assert half.stat().st_size < 0.52 * whole.stat().st_size
    one, other = (load_runner(path).label_maps(images()) for path in (whole, half))
    assert np.mean(one == other) > 0.99


def test_the_restored_file_is_a_float32_file_with_rounded_weights(half: Path) -> None:
    assert (has_halves(half), has_halves(bundled("street"))) == (True, False)
    whole, restored = onnx.load(bundled("street")), onnx.load_from_string(restore_weights(half.read_bytes()))
    assert list(whole.graph.node) == list(restored.graph.node)
    assert list(whole.metadata_props) == list(restored.metadata_props)
    for one, other in zip(whole.graph.initializer, restored.graph.initializer, strict=True):
        expected = numpy_helper.to_array(one)
        if expected.dtype == np.float32 and expected.size >= LEAST:
            expected = expected.astype(np.float16).astype(np.float32)
        assert (one.name, one.data_type) == (other.name, other.data_type)
        np.testing.assert_array_equal(numpy_helper.to_array(other), expected)


def test_sessions_compute_what_the_nodes_of_the_file_say(half: Path) -> None:
    """Another program opens the file as it stands; ONNX Runtime then converts the weights itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(half), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["logits"], {"images": images()})
    np.testing.assert_allclose(OnnxFile.load(half).scores(images()), expected, atol=1e-4)


def test_openvino_reads_such_files(half: Path) -> None:
    pytest.importorskip("openvino")
    from fullconv.runtime.openvino import OpenVinoFile

    one, other = OpenVinoFile.load(half, 1, "f32"), OnnxFile.load(half)
    np.testing.assert_allclose(one.scores(images()), other.scores(images()), atol=1e-2)


def test_such_files_are_cut_and_joined(half: Path, tmp_path: Path) -> None:
    split = read_split(half)
    onnx.save(compose(split, split.scores, split.metadata), tmp_path / "joined.onnx")
    joined, whole = OnnxFile.load(tmp_path / "joined.onnx"), OnnxFile.load(half)
    np.testing.assert_allclose(joined.scores(images()), whole.scores(images()), atol=1e-4)


def test_bundled_taps_are_restored() -> None:
    assert not has_halves(bundled("street-int8"))
    restored = onnx.load_from_string(restore_weights(taps_path().read_bytes()))
    assert all(node.op_type != "Cast" or not node.name.endswith("_float") for node in restored.graph.node)


def test_numbers_beyond_float16_stay(tmp_path: Path) -> None:
    model = onnx.load(bundled("street"))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    array = numpy_helper.to_array(largest).copy()
    array.flat[0] = 1e6
    largest.CopyFrom(numpy_helper.from_array(array, largest.name))
    made = {tensor.name: tensor for tensor in store_halves(model).graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(made[largest.name]), array)


def test_export_writes_such_a_file_and_reports_equal_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    import nets
    from fullconv import api
    from fullconv.labels import LabelSet
    from fullconv.net.checkpoint import Saved, save_net
    from fullconv.net.fcn.spec import NetSpec

    spec = NetSpec("digits", 4, 8)
    net = nets.lively(nets.make(spec))
    save_net(tmp_path / "net.safetensors", net.state_dict(), Saved(spec, LabelSet.named(["a", "b", "c", "d"])))
    command = ["fullconv", "export", str(tmp_path / "net.safetensors"), "--weights-dtype", "float16"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code in (0, None)
    assert "of the compared labels are those of float32 (" in capsys.readouterr().out
    assert has_halves(tmp_path / "net-float16.onnx")
    with refuses("int8-with-weights-type"):
        api.export(tmp_path / "net.safetensors", int8=True, data=tmp_path, weights_dtype="float16")
