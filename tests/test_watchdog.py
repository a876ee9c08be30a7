"""A signal ends a command within three seconds, also in a call that never returns."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fullconv.runtime.models import bundled
from fullconv.runtime.onnx_bytes.scan import scan_onnx

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the test's endless call is one of Linux")

COMMAND = """
import ctypes, os, sys, time
from fullconv.cli import app
def body():
    print("ready", flush=True)
    {}
app.app = body
sys.argv = ["fullconv"]
app.main()
"""

SOON = 15
"""Seconds. The watchdog needs 2, and without it nothing ends; other work may run on the machine."""

ENDLESS = "mutex = ctypes.create_string_buffer(64); [ctypes.CDLL(None).pthread_mutex_lock(mutex) for _ in range(2)]"


def start(*command):
    return subprocess.Popen([sys.executable, *command], stdout=-1, stderr=-1, text=True)


def stop(process, number):
    """Return the seconds from the signal to the end, and what the command printed."""
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(number)
    try:
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return time.monotonic() - began, output + errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_call_that_never_returns_is_ended(number):
    process = start("-c", COMMAND.format(ENDLESS))
    assert process.stdout.readline() == "ready\n"
    seconds, text = stop(process, number)
    assert process.returncode == 130, text
    assert seconds < SOON
    assert f"stopped by {number.name} during a long computation" in text


def test_a_handler_that_runs_has_all_its_time():
    body = "try: print('inside', flush=True); time.sleep(600)\n    finally: time.sleep(3); print('cleaned', flush=True)"
    process = start("-c", COMMAND.format(body))
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "inside\n"]
    seconds, text = stop(process, signal.SIGINT)
    assert process.returncode == 130
    assert "cleaned" in text
    assert seconds > 3


def test_a_signal_to_a_forked_child_is_none_to_its_parent():
    body = (
        "child = os.fork()\n    if child == 0: time.sleep(5); os._exit(0)\n"
        "    os.kill(child, 15); time.sleep(3.5); print('alive', flush=True)"
    )
    process = start("-c", COMMAND.format(body))
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "alive" in output


def test_a_training_has_time_to_save_unless_a_second_signal_comes():
    process = start("-c", COMMAND.format(f"from fullconv.watchdog import set_patience; set_patience(60); {ENDLESS}"))
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    time.sleep(3.5)
    assert process.poll() is None
    seconds, text = stop(process, signal.SIGTERM)
    assert process.returncode == 130, text
    assert seconds < SOON


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
    process = start("-m", "fullconv", *map(str, command))
    time.sleep(4)
    assert process.poll() is None, process.communicate()
    seconds, text = stop(process, signal.SIGINT)
    assert process.returncode == 130, text
    assert seconds < SOON
