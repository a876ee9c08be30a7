"""Forks while other threads compute or read: the child does not inherit a lock that nobody opens."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv.files import write_text
from fullconv.forks import native_call
from fullconv.images import open_with_pillow, read_image

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # Python 3.12 and later warn of threads
]

SCRIPT = """
import os, sys, threading, time
import numpy as np
import fullconv

model = fullconv.load("street")
image = sys.argv[1]
expected = model.predict(image).label_map

def work():
    while True:
        model.predict(image)

for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
for _ in range(12):
    child = os.fork()
    if not child:
        same = np.array_equal(model.predict(image).label_map, expected)
        sys.exit(0 if same else 5)
    assert os.waitpid(child, 0)[1] == 0
print("the children gave the same labels", flush=True)
os._exit(0)
"""


def end_of_child(work: Callable[[], bool], seconds: float = 60) -> int:
    """Fork; return the exit code of a child that ends with 0 if `work` is true. A child that hangs is a failure."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


def call_natively() -> bool:
    with native_call():
        return True


def test_a_fork_waits_for_the_native_calls_of_other_threads() -> None:
    started, ended = threading.Event(), []

    def work() -> None:
        with native_call(), native_call():
            started.set()
            time.sleep(0.3)
            ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    assert end_of_child(lambda: bool(ended) and call_natively()) == 0
    assert ended
    assert call_natively()
    thread.join()


def test_a_native_call_that_forks_waits_for_no_one() -> None:
    with native_call():
        assert end_of_child(call_natively) == 0
        assert call_natively()
    assert end_of_child(call_natively) == 0


def test_threads_that_call_and_fork_all_end() -> None:
    codes: list[int] = []

    def call() -> None:
        for _ in range(200):
            call_natively()

    threads = [threading.Thread(target=call) for _ in range(3)]
    threads += [threading.Thread(target=lambda: codes.append(end_of_child(call_natively))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == [0, 0, 0]


def test_a_child_reads_while_a_thread_of_its_parent_has_a_file_open(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (5, 4), (1, 2, 3)).save(path)
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    opened, done = threading.Event(), threading.Event()

    def hold() -> None:
        with open_with_pillow(path):
            opened.set()
            done.wait()

    def read() -> bool:
        unchanged = (limit, filters) == (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
        return unchanged and bool((read_image(path).pixels == (1, 2, 3)).all())

    thread = threading.Thread(target=hold)
    thread.start()
    opened.wait()
    try:
        assert Image.MAX_IMAGE_PIXELS is None
        assert end_of_child(read) == 0
    finally:
        done.set()
        thread.join()
    assert read()


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_children_of_a_busy_process_label_files(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    write_text(tmp_path / "script.py", SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / f"a.{suffix}")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert "same labels" in done.stdout
