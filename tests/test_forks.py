"""Forks while other threads compute or read: the child does not inherit a lock that nobody opens."""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fullconv
from fullconv import forks
from fullconv.forks import native_call
from fullconv.images import open_with_pillow, read_image
from waiting import LIMIT

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # Python 3.12 and later warn of threads
]

FORKING = """
import os, random, signal, threading, time
from fullconv.forks import native_call

def handle(*_):
    raise KeyboardInterrupt

def call():
    with native_call():
        print("open", flush=True)

def compute():
    while True:
        with native_call():
            time.sleep(0.0005)

signal.signal(signal.SIGALRM, handle)
threading.Thread(target=compute, daemon=True).start()
times = random.Random(0)
for _ in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, times.uniform(1e-4, 4e-3))  # once
        try:
            if not os.fork():
                os._exit(0)
            os.waitpid(-1, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
thread = threading.Thread(target=call, daemon=True)
thread.start()
thread.join(60)
os._exit(0)
"""

LOADING = """
import os, sys, threading, time
import fullconv

threading.Thread(target=fullconv.load, args=("street",), daemon=True).start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if not child:
    fullconv.load("street")
    os._exit(0)
print("the child ended with", os.waitpid(child, 0)[1], flush=True)
os._exit(0)
"""


def end_of_child(work: Callable[[], bool], seconds: float = LIMIT) -> int:
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


def test_a_native_call_may_log_and_use_thread_pools_while_a_fork_waits() -> None:
    """At a fork, the hooks of these libraries take their locks after the gate is closed."""
    started, ended = threading.Event(), []

    def work() -> None:
        with native_call():
            started.set()
            time.sleep(0.3)
            logging.getLogger(f"fullconv.tests.{time.monotonic()}").isEnabledFor(10)
            with ThreadPoolExecutor(1) as pool:
                ended.append(pool.submit(time.time).result())

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    assert end_of_child(lambda: bool(ended) and call_natively()) == 0
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
        thread.join(LIMIT)
    assert codes == [0, 0, 0]


def interrupt(until: Callable[[], bool], work: Callable[[], object]) -> int:
    """Repeat `work` in the main thread, and interrupt it in each round; return the number of interrupts."""
    times = random.Random(0)
    count = 0

    def handle(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handle)
    try:
        while not until():
            try:
                signal.setitimer(signal.ITIMER_REAL, times.uniform(2e-5, 5e-4))
                for _ in range(10_000):
                    work()
            except KeyboardInterrupt:
                count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return count


def test_interrupted_calls_leave_the_gate_open() -> None:
    left = iter(range(2000))
    assert interrupt(lambda: next(left, None) is None, call_natively) > 1000
    assert not is_native()
    with ThreadPoolExecutor(1) as other:
        assert other.submit(call_natively).result(LIMIT)
        assert other.submit(end_of_child, call_natively).result(LIMIT) == 0
    assert end_of_child(call_natively) == 0


def test_interrupted_forks_leave_the_gate_open() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "open\n", done.stderr[-2000:]


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullconv.forks.PATIENCE", 0.1)
    started, done = threading.Event(), threading.Event()

    def work() -> None:
        with native_call():
            started.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    try:
        began = time.monotonic()
        assert end_of_child(call_natively) == 0
        assert time.monotonic() - began >= 0.1
        assert forks._gate.own.until is None
    finally:
        done.set()
        thread.join()
    assert call_natively()


def is_native() -> bool:
    """Return whether this thread is in a native call, so that no other thread forks."""
    lock = forks._gate.own.lock
    return lock is not None and lock._is_owned()


def test_training_steps_are_native_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from fullconv.demo.digits import write_digit_dataset
    from fullconv.training.task import SegmentationTask

    found: dict[str, set[bool]] = {}

    def observe(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def observed(*values: Any) -> Any:
            found.setdefault(name, set()).add(is_native())
            return step(*values)

        return observed

    for name in ("training_step", "validation_step"):
        monkeypatch.setattr(SegmentationTask, name, observe(name, getattr(SegmentationTask, name)))
    data = write_digit_dataset(tmp_path / "digits", train=4, val=2, size=(64, 80))
    fullconv.train(data, out=tmp_path / "run", model="digits", weights="none", stride=8, epochs=1, batch=2, crop=64)
    assert found == {"training_step": {True}, "validation_step": {True}}
    assert not is_native()


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.1, 0.2])
def test_a_child_loads_a_model_while_its_parent_imports_for_one(seconds: float) -> None:
    command = [sys.executable, "-c", LOADING, str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    assert done.stdout == "the child ended with 0\n"


def test_no_property_has_a_lock_of_its_own() -> None:
    """`functools.cached_property` has one in Python 3.11."""
    files = Path(fullconv.__file__).parent.rglob("*.py")
    found = re.compile(r"import .*\bcached_property|@(functools\.)?cached_property")
    assert [path for path in files if found.search(path.read_text("utf-8"))] == []


def test_threads_that_read_leave_the_settings_of_the_program(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.tif" for name in "ab"]
    for path in paths:
        Image.new("RGB", (5, 4), (1, 2, 3)).save(path)
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)

    def read(path: Path) -> None:
        for _ in range(60):
            read_image(path)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(read, paths))
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == (limit, filters)


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
