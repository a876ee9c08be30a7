"""Hostile requests: each gets an answer of the 4xx kind or none, never a traceback, and the memory stays.

SERVE_HOSTILE=10000 sends ten thousand.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from children import child
from hostile_requests import GOOD, encode, make_request, send
from waiting import wait_until
from web_server import Client

COUNT = int(os.environ.get("SERVE_HOSTILE", "300"))
MEBIBYTES = 100


@contextmanager
def server() -> Iterator[tuple[Client, int, list[str]]]:
    """Run the command in a process; yield a client, its process id, and the lines of its log, which are there later."""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # otherwise each thread may keep memory of its own
    lines: list[str] = []
    with child("-m", "fullconv", "serve", "street", "--port", "0", "--queue", "64", env=environment) as process:
        client = Client(process.read_line())
        wait_until(lambda: client.get("/readyz").status == 200)
        yield client, process.pid, lines
        process.terminate()
        lines += process.finish()[1].splitlines()
        assert process.returncode == 0


def resident(pid: int, field: str = "VmRSS") -> float:
    """Return the resident memory of a process in MiB, now or (VmHWM) at its peak."""
    (pages,) = re.findall(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(pages) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_hostile_requests_get_no_answer_of_the_5xx_kind_and_no_memory() -> None:
    with server() as (client, pid, lines):
        for body in GOOD.values():  # what libraries keep after their first use is not counted
            for kind in ("mask", "overlay", "probabilities", "polygons", "areas", "json"):
                assert client.post(f"/predict?as={kind}", body).status == 200
        before = resident(pid)
        statuses: Counter[str] = Counter()

        def attack(seed: int) -> None:
            answer = send(client.host, client.port, make_request(seed))
            status = answer[9:12].decode("latin-1")
            statuses[status or "none"] += 1
            assert re.fullmatch(r"[1-4]\d\d|", status), (seed, answer[:300])
            assert b"Traceback" not in answer, seed
            assert b"/tmp/" not in answer, seed

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(attack, range(COUNT)))
        assert client.post("/predict?as=mask", GOOD["PNG"]).status == 200
        wait_until(lambda: resident(pid) <= before + MEBIBYTES, "an idle server gives memory back")
        after = resident(pid)
        counts = dict(sorted(statuses.items()))
        print(f"{COUNT} requests: {counts}; {before:.0f} MiB before, {after:.0f} MiB after")
    events = [json.loads(line) for line in lines]
    assert [event for event in events if event["level"] == "error"] == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_an_idle_server_gives_the_memory_of_large_images_back() -> None:
    with server() as (client, pid, _):
        assert client.post("/predict?as=mask", GOOD["JPEG"]).status == 200
        before = resident(pid)
        assert client.post("/predict?as=mask", encode("JPEG", 1500, 1500)).status == 200
        assert resident(pid, "VmHWM") > before + MEBIBYTES
        wait_until(lambda: resident(pid) <= before + MEBIBYTES, "an idle server gives memory back")
