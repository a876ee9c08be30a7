"""Nothing looks a host up or writes into HOME: no telemetry of ONNX Runtime, OpenVINO or any other library."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]

SITECUSTOMIZE = """
import socket

def refuse(*arguments, **named):
    open(LOG, "a").write(f"{arguments}\\n")
    raise OSError("the test has no network")

socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
socket.socket.connect = refuse
"""

PREDICT = "import numpy, fullconv; fullconv.load('street'{}).predict(numpy.zeros((64, 64, 3), numpy.uint8))"
TRAIN = (
    "import fullconv; fullconv.train('data', out='run', model='digits', stride=32, epochs=1, values={'crop': 96}); "
    "assert 'mean_iou' in open('run/scores.json').read()"
)


def assert_offline(folder: Path, code: str) -> None:
    """Run Python code with an empty HOME: it writes nothing there, and asks nothing of the network.

    Where strace cannot watch the calls of the system, Python's sockets are watched, and then the test is skipped.
    """
    home, site, log = folder / "home", folder / "site", folder / "log"
    for place in (home, site):
        place.mkdir()
    (site / "sitecustomize.py").write_text(f"LOG = {str(log)!r}\n{SITECUSTOMIZE}")
    keep = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    paths = os.pathsep.join([str(site), *sys.path])
    environment = {**keep, "HOME": str(home), "USERPROFILE": str(home), "PYTHONPATH": paths}
    environment["MPLCONFIGDIR"] = str(folder / "matplotlib")  # torchmetrics imports it, and it writes its list of fonts
    command = [sys.executable, "-c", code]
    strace = shutil.which("strace")
    traced = (
        strace is not None
        and subprocess.run([strace, "-f", "--seccomp-bpf", "-o", os.devnull, "true"], check=False).returncode == 0
    )
    if traced:
        command = [
            str(strace),
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-e",
            "trace=connect,sendto",
            "-o",
            str(folder / "calls"),
            *command,
        ]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*")) == []
    assert not log.exists(), log.read_text()
    if not traced:
        pytest.skip("only Python's sockets were watched, because strace is not installed or may not watch a process")
    calls = (folder / "calls").read_text().splitlines()
    assert [line for line in calls if re.search(r"sa_family=AF_INET|htons\(53\)", line)] == []


def test_import_and_predict_stay_offline(tmp_path):
    assert_offline(tmp_path, PREDICT.format(""))


def test_openvino_stays_offline(tmp_path):
    pytest.importorskip("openvino")
    assert_offline(tmp_path, PREDICT.format(", backend='openvino'"))


def test_training_and_export_stay_offline(tmp_path):
    pytest.importorskip("lightning")
    for kind in ("images", "masks"):
        for split in ("train", "val"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
    for split in ("train", "val"):
        for name in ("a", "b"):
            target = np.eye(96, dtype=np.uint8)
            target[:48] = 1
            Image.fromarray(np.repeat(target[..., None] * 200, 3, 2)).save(tmp_path / f"data/images/{split}/{name}.png")
            Image.fromarray(target).save(tmp_path / f"data/masks/{split}/{name}.png")
    assert_offline(tmp_path, TRAIN)


def test_telemetry_is_off_before_onnx_runtime_is_imported():
    """`import fullconv` sets the variable, and no file imports ONNX Runtime before fullconv."""
    for path in [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").glob("*.py"), *(ROOT / "tests").glob("*.py")]:
        imports = [
            name.partition(".")[0]
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        ]
        if "onnxruntime" in imports:
            assert "fullconv" in imports[: imports.index("onnxruntime")], path


def test_a_user_may_set_the_variable(monkeypatch):
    code = "import os, fullconv; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for value in ("0", "1"):
        environment = {**os.environ, "ORT_DISABLE_TELEMETRY": value}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == value
