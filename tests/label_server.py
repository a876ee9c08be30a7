"""The server of label in tests: in a thread of this process, or as a process that can be killed."""

from __future__ import annotations

import gzip
import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from children import Child, child
from fullconv.arrays import UInt8
from fullconv.label.app import make_label_app, make_server
from fullconv.label.live.learner import Learner
from fullconv.label.server import Server
from fullconv.label.store.session import open_session
from waiting import LIMIT
from web_server import Answer, Client, serving

__all__ = ["TOKEN", "Page", "label_process", "label_server"]

TOKEN = "the token of the tests"


@dataclass(frozen=True)
class Page:
    """What a tab of the page does."""

    client: Client
    name: str = "tab-1"

    def get(self, path: str) -> Answer:
        return self.client.get(f"/api{path}")

    def json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status == 200, answer.content
        return answer.json

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self.client.post(f"/api{path}", json.dumps(body), **{"Content-Type": "application/json"})

    def ids(self) -> dict[str, str]:
        return {image["name"]: image["id"] for image in self.json("/images")["images"]}

    def stroke(self, id: str, key: int, points: Sequence[Sequence[float]], radius: float = 3, **more: Any) -> Any:
        body = {"client": self.name, "tool": "brush", "class": key, "points": points, "radius": radius, **more}
        answer = self.post(f"/images/{id}/strokes", body)
        assert answer.status == 200, answer.content
        return answer.json

    def move(self, id: str, what: str) -> Any:
        answer = self.post(f"/images/{id}/{what}", {"client": self.name})
        assert answer.status == 200, answer.content
        return answer.json

    def tile(self, id: str, kind: str, level: int = 0, column: int = 0, row: int = 0) -> UInt8:
        answer = self.get(f"/images/{id}/{kind}/{level}/{column}/{row}")
        assert answer.status == 200, answer.content
        width, height = map(int, answer.headers["x-tile"].split("x"))
        return np.frombuffer(gzip.decompress(answer.content), np.uint8).reshape(height, width)


@contextmanager
def label_server(photos: Path, out: Path | None = None, names: Sequence[str] = ()) -> Iterator[tuple[Page, Server]]:
    """Serve a session in a thread."""
    with open_session(photos, out, names) as store:
        server = make_server(store, Learner(None, store.data / ".label" / "taps", store.input))
        server.open()
        try:
            with serving(make_label_app(server, TOKEN), TOKEN) as client:
                yield Page(client), server
        finally:
            server.close()


@contextmanager
def label_process(photos: Path, *options: str, code: str = "") -> Iterator[tuple[Page, Child]]:
    """Run `fullconv label` as a process, which is killed at the end if it still runs."""
    command = ("-c", code) if code else ("-m", "fullconv")
    with child(*command, "label", photos, "--no-browser", *options) as process:
        address, _, token = process.read_line().partition("/#token=")
        assert token, process.poll()
        yield Page(Client(address, token)), process


def read_events(client: Client, count: int) -> list[tuple[str, Any]]:
    """Return the first events of the stream."""
    connection = http.client.HTTPConnection(client.host, client.port, timeout=LIMIT)
    connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {client.token}"})
    response = connection.getresponse()
    assert response.getheader("content-type", "").startswith("text/event-stream")
    found: list[tuple[str, Any]] = []
    event = ""
    while len(found) < count:
        line = response.readline().decode()
        assert line, "the stream ended"
        if line.startswith("event: "):
            event = line[7:].strip()
        elif line.startswith("data: "):
            found.append((event, json.loads(line[6:])))
    connection.close()
    return found
