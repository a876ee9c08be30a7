"""Label Studio's machine learning backend: brush masks for tasks, from images of that Label Studio only."""

from __future__ import annotations

import base64
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fullconv.arrays import Mask
from fullconv.data.annotations.rle import rasterize_brush
from fullconv.images import read_image, write_image
from fullconv.predict.result import segment
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import model_path
from fullconv.runtime.runner import Runner
from fullconv.serve import ServeOptions, label_studio, make_service
from fullconv.serve.brush import encode_brush
from fullconv.serve.label_studio import KEY, add_label_studio
from fullconv.serve.service import Service
from refusals import matches
from waiting import wait_until
from web_server import Client, serving

CONFIG = """<View><Image name="photo" value="$image"/><BrushLabels name="tag" toName="photo">
<Label value="sky"/><Label value="road"/><Label value="building"/><Label value="unicorn"/></BrushLabels></View>"""


def unpack(rle: list[int], shape: tuple[int, int]) -> Mask:
    patch = rasterize_brush(bytes(rle), shape)
    return np.asarray(patch.mask)


@given(arrays(bool, st.tuples(st.integers(1, 30), st.integers(1, 30))))
def test_brush_masks_are_read_as_they_were_written(mask: Mask) -> None:
    rle = encode_brush(mask)
    assert all(0 <= value < 256 for value in rle)
    np.testing.assert_array_equal(unpack(rle, mask.shape), mask)


def test_long_runs_are_divided() -> None:
    mask = np.zeros((300, 400), bool)
    mask[100:200, :399] = True
    np.testing.assert_array_equal(unpack(encode_brush(mask), (300, 400)), mask)
    assert len(encode_brush(np.zeros((300, 400), bool))) < 40


class _Studio(http.server.BaseHTTPRequestHandler):
    """A Label Studio that serves one image to those who have its key, and redirects elsewhere."""

    content = b""

    def do_GET(self) -> None:
        if self.path.startswith("/redirect"):
            self.send_response(302)
            self.send_header("Location", "/data/a.png")
            self.end_headers()
        elif self.headers.get("Authorization") != "Token secret" or self.path != "/data/a.png":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def runner() -> Runner:
    return load_runner(model_path("street"))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    path = tmp_path_factory.mktemp("studio") / "a.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))
    _Studio.content = path.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Studio) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", path
        server.shutdown()
        thread.join()


@pytest.fixture
def client(runner: Runner, studio: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv(KEY, "secret")
    service = Service(lambda: runner, "street", ServeOptions(max_bytes=100_000))
    app = make_service(service)
    add_label_studio(app, service, "/studio", studio[0])
    with serving(app) as client:
        wait_until(lambda: client.get("/studio/health").status == 200)
        yield client
        assert list(service.folder.iterdir()) == []


def ask(client: Client, address: object, config: object = CONFIG) -> Any:
    import json

    body = json.dumps({"tasks": [{"id": 1, "data": {"image": address}}], "label_config": config, "project": "1.2"})
    return client.post("/studio/predict", body.encode())


def test_tasks_get_brush_masks_of_the_labels_that_both_know(
    client: Client, studio: tuple[str, Path], runner: Runner
) -> None:
    label_map = segment(runner, read_image(studio[1]), "a").label_map
    names = runner.info.labels.class_names
    expected = {names[index] for index in np.unique(label_map)[:2]}
    labels = "".join(f'<Label value="{name}"/>' for name in [*sorted(expected), "unicorn"])
    config = CONFIG.replace(CONFIG[CONFIG.index("<Label ") : CONFIG.index("</BrushLabels>")], labels)
    for address in ("/data/a.png", f"{studio[0]}/data/a.png"):
        (result,) = ask(client, address, config).json["results"]
        assert result["model_version"] == "street"
        assert {region["value"]["brushlabels"][0] for region in result["result"]} == expected
        for region in result["result"]:
            assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "photo", "brushlabels")
            assert (region["original_width"], region["original_height"]) == (70, 50)
            mask = label_map == names.index(region["value"]["brushlabels"][0])
            np.testing.assert_array_equal(unpack(region["value"]["rle"], (50, 70)), mask)


@pytest.mark.parametrize(
    "address",
    [
        *("http://other.example/a.png", "//other.example/a.png", "file:///etc/passwd", "ftp://x/a", "", None, 7, []),
        *("http://127.0.0.1:1/a.png", "http://127.0.0.1@other.example/", "/data/a.png\r\nX: y", "data:image/png,x"),
    ],
)
def test_images_of_other_servers_are_not_fetched(client: Client, address: object) -> None:
    assert ask(client, address).error[0] == 422
    assert ask(client, address).error[1] in ("foreign-image", "image-not-fetched")


def test_what_cannot_be_fetched_or_read_is_one_sentence(
    client: Client, monkeypatch: pytest.MonkeyPatch, studio: tuple[str, Path]
) -> None:
    assert ask(client, "/data/missing.png").error == (422, "image-not-fetched")
    assert ask(client, "/redirect").error == (422, "image-not-fetched")
    monkeypatch.setattr(_Studio, "content", b"not an image")
    answer = ask(client, "/data/a.png")
    assert answer.error == (422, "task-not-predicted")
    assert answer.json["message"].startswith("the image of the task: is not an image")
    monkeypatch.setattr(_Studio, "content", bytes(100_001))
    assert ask(client, "/data/a.png").error == (413, "request-too-large")
    monkeypatch.setattr(_Studio, "content", b"an image that comes slowly")
    monkeypatch.setattr(label_studio, "FETCH_SECONDS", 0)
    answer = ask(client, "/data/a.png")
    assert answer.error == (422, "image-not-fetched")
    assert matches("image-not-fetched", answer.json["message"])
    assert "more than 0 s" in answer.json["message"]
    monkeypatch.delenv(KEY)
    assert ask(client, "/data/a.png").error == (422, "image-not-fetched")


@pytest.mark.parametrize(
    "config",
    [
        *(None, 1, "", "text", "<View>", "<View/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><View/>", "<a>" * 5000),
        '<View><Image name="a" value="$image"/><RectangleLabels name="b" toName="a"/></View>',
        '<View><Image name="a" value="$image"/><BrushLabels name="b" toName="c"/></View>',
        CONFIG.replace("sky", "x").replace("road", "y").replace("building", "z"),
    ],
)
def test_interfaces_without_fitting_brush_labels_are_refused(client: Client, config: object) -> None:
    assert ask(client, "/data/a.png", config).error == (400, "wrong-label-studio")


def test_setup_health_and_webhook(client: Client) -> None:
    assert client.get("/studio/health").json == {"status": "UP", "model_class": "fullconv"}
    assert client.post("/studio/setup", b'{"project": "1.2"}').json == {"model_version": "street"}
    assert client.post("/studio/setup", b'{"schema": "<View/>"}').error == (400, "wrong-label-studio")
    assert client.post("/studio/webhook", b'{"action": "ANNOTATION_CREATED"}').json == {"status": "ok"}
    for body in (b"[", b"[]", b"\xff", b'{"tasks": 1}'):
        assert client.post("/studio/predict", body).error == (400, "wrong-label-studio")


@pytest.mark.parametrize("address", ["setup", "webhook", "predict"])
def test_bodies_are_counted_and_bounded(runner: Runner, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    service = Service(lambda: runner, "street", ServeOptions(uploads=1))
    app = make_service(service)
    add_label_studio(app, service, "/studio", "http://localhost:1")
    head = f"POST /studio/{address} HTTP/1.1\r\nHost: localhost\r\n".encode()
    with serving(app) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        with socket.create_connection((client.host, client.port)) as sock:
            sock.sendall(head + b"Content-Length: 50\r\n\r\n{")
            wait_until(lambda: service.pool.uploads == 1)
            assert client.post(f"/studio/{address}", b"{}").error == (429, "too-many-requests")
        wait_until(lambda: service.pool.uploads == 0)
        monkeypatch.setattr(label_studio, "MAX_JSON", 10)
        assert b"select fewer tasks" in client.raw(head + b"Content-Length: 11\r\n\r\n")  # without a body
        chunk = b"6\r\n{     \r\n"
        assert b"select fewer tasks" in client.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + 2 * chunk)


def test_a_full_queue_refuses_predictions_only(runner: Runner) -> None:
    service = Service(lambda: runner, "street", ServeOptions(workers=1, queue=1))
    app = make_service(service)
    add_label_studio(app, service, "/studio", "http://localhost:1")
    with serving(app) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        service.pool.inside = 2
        answers = [client.post(f"/studio/{address}", b"{}") for address in ("setup", "webhook", "predict")]
        assert [answer.status for answer in answers] == [200, 200, 429]


def test_basic_authentication_has_the_token_as_its_password(runner: Runner) -> None:
    token = "a-long-token"
    with serving(make_service(Service(lambda: runner, "street", ServeOptions()), token=token)) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        for user in ("", "label-studio"):
            value = base64.b64encode(f"{user}:{token}".encode()).decode()
            assert client.get("/model", Authorization=f"Basic {value}").status == 200
        for value in (token, "%%%", base64.b64encode(b"a:b").decode(), base64.b64encode(token.encode()).decode()):
            assert client.get("/model", Authorization=f"Basic {value}").error == (401, "wrong-token")
