"""The process that runs OpenVINO for a forked child: what it imports, and its end after an interrupted call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fullconv
from fullconv.runtime import openvino_process
from fullconv.runtime.openvino_process import OpenVinoProcess
from refusals import refuses

ECHO = """
import pickle, sys
while True:
    pickle.dump(pickle.load(sys.stdin.buffer), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenVinoProcess]:
    """Yield a process that sends each message back; the current folder has a file with the name of a module."""
    for name in ("modules", "current"):
        (tmp_path / name).mkdir()
    (tmp_path / "modules" / "echo_server.py").write_text(ECHO)
    (tmp_path / "current" / "pickle.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setattr(openvino_process, "SERVER", "echo_server")
    process = OpenVinoProcess(Path("a.onnx"), None, None)
    yield process
    with process._process as started:
        started.kill()


def test_an_interrupted_call_ends_the_process(process: OpenVinoProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call would read the scores of the image before."""
    image = np.zeros((1, 2, 2, 3), np.uint8)
    np.testing.assert_array_equal(process.scores(image), image)

    def interrupt(file: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pickle.load", interrupt)
        with pytest.raises(KeyboardInterrupt):
            process.scores(image)
    with refuses("network-failed"):
        process.scores(image + 1)


def test_no_process_imports_files_of_the_current_folder() -> None:
    for path in Path(fullconv.__file__).parent.rglob("*.py"):
        assert not re.search(r'sys\.executable, "-[mc]"', path.read_text(encoding="utf-8")), path
