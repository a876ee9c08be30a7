"""The room that all pages and services share: who may ask, how much, how slowly, and what they get on errors."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from children import child
from fullconv.errors import DataError, FullconvError, ModelError, UsageError
from fullconv.web import RequestError, make_app, mount_static, run
from fullconv.web.app import Done
from fullconv.web.limits import BodyTimes
from fullconv.web.protocol import MAX_HEADERS, Connection
from refusals import refuses
from waiting import wait_until
from web_server import Client, serving

TOKEN = "a token"


def make_example(**options: Any) -> FastAPI:
    app = make_app("example", max_bytes=1000, **options)

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.get("/number")
    def number(value: int) -> int:
        return value

    @app.get("/fail/{kind}")
    def fail(kind: str) -> None:
        kinds: dict[str, Exception] = {
            "usage": UsageError("wrong", code="usage"),
            "data": DataError("wrong"),
            "large": DataError("wrong", code="too-large"),
            "model": ModelError("wrong"),
            "memory": MemoryError(),
            "request": RequestError(409, "taken", code="bad-request"),
            "full": FullconvError("/secret/path: cannot be written", code="file-not-writable"),
            "fault": ZeroDivisionError("a secret"),
        }
        raise kinds[kind]

    return app


def read_log(caplog: pytest.LogCaptureFixture, count: int, *paths: str) -> list[dict[str, Any]]:
    """Return the events of requests for some paths. A request is logged after its answer, perhaps in the next test."""

    def read() -> list[dict[str, Any]]:
        events = [json.loads(record.getMessage()) for record in caplog.records]
        return [event for event in events if event.get("path") in paths]

    wait_until(lambda: len(read()) >= count, f"{count} events")
    return read()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(make_example()) as client:
        yield client


@pytest.fixture(scope="module")
def closed() -> Iterator[Client]:
    with serving(make_example(token=TOKEN, hosts=("*",)), TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("usage", 400, "usage"),
        ("data", 422, "data"),
        ("large", 413, "too-large"),
        ("model", 422, "model"),
        ("memory", 413, "too-large"),
        ("request", 409, "bad-request"),
    ],
)
def test_errors_are_one_sentence_with_a_status(client: Client, kind: str, status: int, code: str) -> None:
    assert client.get(f"/fail/{kind}").error == (status, code)


@pytest.mark.parametrize("kind", ["full", "fault"])
def test_unforeseen_errors_are_described_in_the_log_only(
    client: Client, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fullconv.web"):
        answer = client.get(f"/fail/{kind}")
        (line,) = read_log(caplog, 1, f"/fail/{kind}")
    assert answer.error == (500, "internal")
    assert b"secret" not in answer.content
    assert answer.headers["x-request-id"] in answer.json["message"]
    assert (line["request"], line["status"], line["level"]) == (answer.headers["x-request-id"], 500, "error")
    assert "secret" in line["traceback"]


def test_wrong_addresses_methods_and_values_are_errors_of_the_same_form(client: Client) -> None:
    assert client.get("/nothing").error == (404, "not-found")
    assert client.get("/size").error == (405, "method-not-allowed")
    answer = client.get("/number?value=<script>")
    assert answer.error == (400, "bad-request")
    assert b"script" not in answer.content
    assert client.get("/number?value=3").json == 3


def test_all_answers_have_the_headers_that_protect_pages(client: Client) -> None:
    for path in ("/number?value=3", "/nothing", "/fail/fault"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1.example.org", "localhost:1@example.org", "[::2]", "127.0.0.1:x"]
)
def test_other_host_names_are_refused(client: Client, host: str) -> None:
    assert client.get("/number?value=3", Host=host).error == (421, "wrong-host")


def test_a_request_without_host_is_refused(client: Client) -> None:
    assert b'"no-host"' in client.raw(b"GET /number?value=3 HTTP/1.0\r\n\r\n")
    assert client.raw(b"GET /number?value=3 HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "LOCALHOST:80", "[::1]:8000"])
def test_names_of_this_computer_are_answered(client: Client, host: str) -> None:
    assert client.get("/number?value=3", Host=host).status == 200


def test_pages_of_other_sites_cannot_change_anything(client: Client) -> None:
    own = client.address
    for origin in ("https://example.org", "null", "http://127.0.0.1:1", "http://localhost", f"{own}.example.org"):
        assert client.post("/size", b"abc", Origin=origin).error == (403, "wrong-origin")
        assert client.get("/number?value=3", Origin=origin).status == 200
    assert client.post("/size", b"abc", Origin=own).json == 3


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Bearer other", f"Basic {TOKEN}", TOKEN, "Bearer \xff\xfe"])
def test_without_the_token_nothing_is_answered(closed: Client, given: str) -> None:
    other = Client(closed.address)
    for path in ("/number?value=3", "/nothing", "/size"):
        answer = other.get(path, **({"Authorization": given} if given else {}))
        assert answer.error == (401, "wrong-token")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_with_the_token_any_host_name_is_answered(closed: Client) -> None:
    assert closed.get("/number?value=3", Host="example.org").json == 3
    assert closed.post("/size", b"abc", Host="example.org", Origin="https://example.org").json == 3
    assert closed.post("/size", b"abc", Host="example.org", Origin="https://example.com").error == (403, "wrong-origin")


def test_bodies_are_counted_as_they_arrive(client: Client) -> None:
    assert client.post("/size", bytes(1000)).json == 1000
    assert client.post("/size", bytes(1001)).error == (413, "request-too-large")
    assert client.post("/size", iter([bytes(600)] * 2)).error == (413, "request-too-large")
    assert client.post("/size", iter([bytes(500)] * 2)).json == 1000
    assert client.post("/size", bytes(20_000_000)).error == (413, "request-too-large")
    head = b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\nExpect: 100-continue\r\n\r\n"
    assert client.raw(head).startswith(b"HTTP/1.1 413 ")  # before any byte of the body is sent


def test_slow_bodies_are_refused() -> None:
    with serving(make_example(body_times=BodyTimes(first=0.5))) as client:
        began = time.monotonic()
        answer = client.raw(b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"request-too-slow"' in answer
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
def test_clients_that_never_end_their_headers_are_dropped(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(Connection, "header_seconds", 0.5)
    with serving(make_example()) as client:
        began = time.monotonic()
        assert client.raw(start) == b""
        assert time.monotonic() - began < 10
        assert client.get("/number?value=3").json == 3


def test_clients_that_do_not_read_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "write_seconds", 0.5)
    done: list[Done] = []
    app = make_example(on_done=done.append)

    @app.get("/large")
    def large() -> str:
        return "a" * 50_000_000

    with serving(app) as client, socket.create_connection((client.host, client.port)) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: done)


def test_clients_that_read_slowly_get_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "write_seconds", 5.0)
    app = make_example()

    @app.get("/large")
    def large() -> Response:
        return Response(b"a" * 30_000_000)

    with serving(app) as client, socket.create_connection((client.host, client.port)) as sock:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        count, began = 0, time.monotonic()
        while part := sock.recv(2**20):
            count += len(part)
            time.sleep(max(0.0, began + 8 * count / 30_000_000 - time.monotonic()))  # all of it takes eight seconds
        assert count > 30_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2 * MAX_HEADERS + b"\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /size HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST /size HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_an_error(client: Client, data: bytes) -> None:
    answer = client.raw(data, half_close=True)
    assert answer[:10] in (b"HTTP/1.1 4", b""), answer[:200]
    assert b"Traceback" not in answer
    assert client.get("/number?value=3").json == 3


def test_a_body_that_ends_early_is_no_failure_of_the_server(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fullconv.web"):
        client.raw(b"POST /size?early HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", half_close=True)
        assert [event["level"] for event in read_log(caplog, 1, "/size")] == ["info"]


def test_request_ids_of_proxies_are_kept_if_they_are_plain(client: Client) -> None:
    header = "X-Request-Id"
    assert client.request("GET", "/number?value=3", None, {header: "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for given in ("a b", "a" * 65, '{"a"}', "<b>", ""):
        chosen = client.request("GET", "/number?value=3", None, {header: given}).headers["x-request-id"]
        assert len(chosen) == 32
        assert chosen != given


def test_each_request_is_one_line_of_json(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fullconv.web"):
        client.post("/size?a=secret", b"abc")
        read_log(caplog, 1, "/size")
        client.get("/a%0Ab%E2%80%AE")
        first, second = read_log(caplog, 2, "/size", "/a\nb\u202e")
    assert {"time", "level", "event", "request", "method", "path", "status", "ms", "received", "sent", "client"} == set(
        first
    )
    assert (first["path"], first["status"], first["received"]) == ("/size", 200, 3)
    assert second["path"] == "/a\nb\u202e"
    assert all("\n" not in record.getMessage() and record.getMessage().isascii() for record in caplog.records)


def test_static_files_are_a_fixed_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "page_of_test" / "static"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("SECRET = 1\n")
    (folder / "index.html").write_text("<p>page</p>")
    (folder / "a.js").write_text("let a;")
    (folder / "a.py").write_text("SECRET = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    app = make_example(token=TOKEN)
    mount_static(app, "page_of_test")
    with serving(app) as client:
        page, script = client.get("/"), client.get("/static/a.js")
        assert (page.status, page.content, page.headers["content-type"]) == (
            200,
            b"<p>page</p>",
            "text/html; charset=utf-8",
        )
        assert (script.content, script.headers["content-type"]) == (b"let a;", "text/javascript; charset=utf-8")
        assert client.request("GET", "/static/a.js", None, {"If-None-Match": script.headers["etag"]}).status == 304
        assert client.request("HEAD", "/").content == b""
        for path in ("/static/a.py", "/static/../__init__.py", "/static/%2e%2e/__init__.py", "/static//etc/passwd"):
            answer = client.get(path)
            assert answer.error == (401, "wrong-token")
            assert b"SECRET" not in answer.content


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, refuses("port-not-free", taken.getsockname()[1]):
        run(make_example(), port=taken.getsockname()[1])
    with refuses("port-not-free"):
        run(make_example(), host="no such host")


def test_a_server_that_cannot_start_is_one_sentence() -> None:
    app = make_example()

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no")

    app.router.lifespan_context = fail  # type: ignore[assignment]
    with refuses("server-not-started"):
        run(app, port=0)


SERVER = """
import sys, time
from pathlib import Path
from fullconv.cli.console import show_log
from fullconv.web import make_app, run
from fullconv.watchdog import watch_signals
app = make_app("example")
@app.get("/slow")
def slow() -> str:
    print("running", flush=True)
    while not Path(sys.argv[1]).exists():
        time.sleep(0.02)
    return "done"
with show_log(), watch_signals():
    run(app, port=0, on_ready=lambda address: print(address, flush=True))
print("ended", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_running_requests_end(tmp_path: Path, number: int) -> None:
    with ThreadPoolExecutor(1) as pool, child("-c", SERVER, tmp_path / "go") as process:
        client = Client(process.read_line())
        answer = pool.submit(client.get, "/slow")
        assert process.read_line() == "running"
        with socket.create_connection((client.host, client.port)):  # an idle client
            process.send_signal(number)
            process.wait_for(lambda: "draining" in process.read_errors())
            (tmp_path / "go").touch()
            output, errors = process.finish()
    assert (process.returncode, output) == (0, "ended\n"), errors
    assert answer.result().json == "done"
    events = [json.loads(line) for line in errors.splitlines()]
    assert [event["event"] for event in events] == ["draining", "request"], errors


WRITES = """
import io, os, signal, sys
from fullconv.cli.console import show_log
from fullconv.web import make_app, run

class Interrupted(io.RawIOBase):  # a signal comes while the event of a request is being written
    def writable(self) -> bool:
        return True
    def write(self, data) -> int:
        if b'"request"' in bytes(data):
            os.kill(os.getpid(), signal.SIGTERM)
        return os.write(2, data)

sys.stderr = io.TextIOWrapper(io.BufferedWriter(Interrupted()), line_buffering=True)
with show_log():
    run(make_app("example"), port=0, on_ready=lambda address: print(address, flush=True))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_a_signal_is_logged_even_if_it_comes_while_an_event_is_written() -> None:
    with child("-c", WRITES) as process:
        assert Client(process.read_line()).get("/nothing").status == 404
        _, errors = process.finish()
    assert process.returncode == 0, errors
    assert [json.loads(line)["event"] for line in errors.splitlines()] == ["request", "draining"], errors


def test_the_package_does_not_import_the_extra() -> None:
    code = (
        "import sys, fullconv, fullconv.cli.app; print(*sorted({'fastapi', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
