"""A signal ends a command within three seconds, also in a call that never returns."""

from __future__ import annotations

import signal
import sys
import time

import numpy as np
import pytest
from PIL import Image

from children import child
from fullconv.runtime.models import bundled
from fullconv.runtime.onnx_bytes.scan import scan_onnx
from waiting import LIMIT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the test's endless call is one of Linux")

COMMAND = """
import ctypes, os, sys, time
from fullconv.cli import app
def body(arguments):
    print("ready", flush=True)
    {}
app.app = body
sys.argv = ["fullconv"]
app.main()
"""

COMPUTE = """
import sys
from fullconv.cli.app import main
if sys.argv.pop(1) == "onnx":
    from fullconv.runtime.onnx import OnnxFile as File
else:
    from fullconv.runtime.openvino import OpenVinoFile as File
compute = File.scores
def announced(*values):
    print("computing", flush=True)
    return compute(*values)
File.scores = announced
main()
"""

ENDLESS = "mutex = ctypes.create_string_buffer(64); [ctypes.CDLL(None).pthread_mutex_lock(mutex) for _ in range(2)]"


def stop(process, number):
    """Return the seconds from the signal to the end, and what the command printed."""
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(number)
    output, errors = process.finish()
    return time.monotonic() - began, output + errors


def assert_stopped(process, number):
    """Send a signal, which the watchdog ends the process for: without it, nothing ends."""
    _, text = stop(process, number)
    assert process.returncode == 130, text
    assert f"stopped by {number.name} during a long computation" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_call_that_never_returns_is_ended(number):
    with child("-c", COMMAND.format(ENDLESS)) as process:
        assert process.read_line() == "ready"
        assert_stopped(process, number)


def test_a_handler_that_runs_has_all_its_time():
    body = "try: print('inside', flush=True); time.sleep(600)\n    finally: time.sleep(3); print('cleaned', flush=True)"
    with child("-c", COMMAND.format(body)) as process:
        assert [process.read_line() for _ in range(2)] == ["ready", "inside"]
        seconds, text = stop(process, signal.SIGINT)
    assert process.returncode == 130
    assert "cleaned" in text
    assert seconds > 3


def test_a_signal_to_a_forked_child_is_none_to_its_parent():
    body = (
        "child = os.fork()\n    if child == 0: time.sleep(5); os._exit(0)\n"
        "    os.kill(child, 15); time.sleep(3.5); print('alive', flush=True)"
    )
    with child("-c", COMMAND.format(body)) as process:
        output, errors = process.finish()
    assert process.returncode == 0, errors
    assert "alive" in output


def test_a_training_has_time_to_save_unless_a_second_signal_comes():
    code = COMMAND.format(f"from fullconv.watchdog import set_patience; set_patience({LIMIT}); {ENDLESS}")
    with child("-c", code) as process:
        assert process.read_line() == "ready"
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        time.sleep(3.5)
        assert process.poll() is None
        began = time.monotonic()
        assert_stopped(process, signal.SIGTERM)
    assert time.monotonic() - began < LIMIT / 2


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_network_with_an_endless_loop_is_ended(tmp_path, backend):
    onnx = pytest.importorskip("onnx")
    if backend == "openvino":
        pytest.importorskip("openvino")
    helper, types = onnx.helper, onnx.TensorProto
    inner = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"]), helper.make_node("Sin", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", types.INT64, []),
            helper.make_tensor_value_info("go", types.BOOL, []),
            helper.make_tensor_value_info("x", types.FLOAT, None),
        ],
        [helper.make_tensor_value_info("again", types.BOOL, []), helper.make_tensor_value_info("y", types.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=types.FLOAT),
        helper.make_node("Loop", ["", "yes", "numbers"], ["logits"], body=inner),
    ]
    images = helper.make_tensor_value_info("images", types.UINT8, ["N", "H", "W", 3])
    logits = helper.make_tensor_value_info("logits", types.FLOAT, None)
    yes = helper.make_tensor("yes", types.BOOL, [], [True])
    model = helper.make_model(
        helper.make_graph(nodes, "endless", [images], [logits], [yes]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    helper.set_model_props(model, scan_onnx(bundled("street")))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    command = ["predict", tmp_path / "net.onnx", tmp_path / "a.png", "--out", tmp_path / "out", "--backend", backend]
    with child("-c", COMPUTE, backend, *command) as process:
        assert process.read_line() == "computing"
        assert_stopped(process, signal.SIGINT)
