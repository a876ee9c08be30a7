"""Servers for tests: an app on a free port in a thread, and requests that no client library would send."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from fullconv.web.run import run
from waiting import LIMIT


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> tuple[int, str]:
        """The status and the code of an error, whose form is checked."""
        values = self.json
        assert set(values) == {"error", "message"}, values
        assert values["message"]
        assert "Traceback" not in values["message"]
        return self.status, values["error"]


class Client:
    """A client of a server on this computer; each request has its connection."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self.address, self.token = address, token
        self.host, _, port = address.removeprefix("http://").rpartition(":")
        self.port = int(port)

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=LIMIT)
        sent = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        try:
            connection.request(method, path, body, {**sent, **(headers or {})})
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any = b"", **headers: str) -> Answer:
        return self.request("POST", path, body, headers)

    def raw(self, data: bytes, seconds: float = LIMIT, half_close: bool = False) -> bytes:
        """Send bytes as they are; return all bytes of the answer until the server closes the connection."""
        with socket.create_connection((self.host, self.port), timeout=seconds) as sock:
            received = b""
            try:
                sock.sendall(data)
                if half_close:
                    sock.shutdown(socket.SHUT_WR)
                while part := sock.recv(65536):
                    received += part
            except (ConnectionError, TimeoutError):
                pass
            return received


@contextmanager
def serving(app: FastAPI, token: str | None = None) -> Iterator[Client]:
    """Run the app on a free port until the block ends."""
    addresses: list[str] = []
    ready = threading.Event()
    failures: list[BaseException] = []

    def on_ready(address: str) -> None:
        addresses.append(address)
        ready.set()

    def work() -> None:
        try:
            run(app, port=0, on_ready=on_ready, grace=10)
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="server")
    thread.start()
    try:
        assert ready.wait(LIMIT)
        assert not failures, failures
        yield Client(addresses[0], token)
    finally:
        app.state.stop()
        thread.join(LIMIT)
        assert not thread.is_alive()
        assert not failures, failures
