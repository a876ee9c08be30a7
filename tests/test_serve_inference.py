"""The Open Inference Protocol: Triton's client works unchanged, and wrong requests are refused."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fullconv.predict.result import segment
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import model_path
from fullconv.runtime.runner import Runner
from fullconv.serve import ServeOptions, inference, make_service
from fullconv.serve.service import Service
from waiting import wait_until
from web_server import Client, serving

triton = pytest.importorskip("tritonclient.http")

TOKEN = "a-long-token"
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def runner() -> Runner:
    return load_runner(model_path("street"))


@pytest.fixture(scope="module")
def server(runner: Runner) -> Iterator[Client]:
    app = make_service(Service(lambda: runner, "street", ServeOptions(max_pixels=100_000)), token=TOKEN)
    with serving(app, TOKEN) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        yield client


@pytest.fixture
def client(server: Client) -> Iterator[Any]:
    client = triton.InferenceServerClient(f"{server.host}:{server.port}")
    yield client
    client.close()


def authorised() -> dict[str, str]:
    """Return the headers, anew each time: the client adds some of its own."""
    return {"Authorization": f"Bearer {TOKEN}"}


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("street", headers=authorised())
    assert client.is_model_ready("street", "1", headers=authorised())
    assert not client.is_model_ready("other", headers=authorised())
    assert client.get_server_metadata(headers=authorised())["extensions"] == ["binary_tensor_data"]
    values = client.get_model_metadata("street", headers=authorised())
    assert values["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert values["outputs"][1] == {"name": "logits", "datatype": "FP32", "shape": [-1, 11, -1, -1]}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_are_those_of_the_runner(client: Any, runner: Runner, binary_in: bool, binary_out: bool) -> None:
    tensor = triton.InferInput("images", list(IMAGES.shape), "UINT8")
    tensor.set_data_from_numpy(IMAGES, binary_data=binary_in)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("label_map", "logits")]
    result = client.infer("street", [tensor], outputs=outputs, request_id="seven", headers=authorised())
    expected = [segment(runner, image, "image", keep_logits=True) for image in IMAGES]
    assert result.get_response()["id"] == "seven"
    np.testing.assert_array_equal(result.as_numpy("label_map"), [one.label_map for one in expected])
    np.testing.assert_array_equal(result.as_numpy("logits"), [one.logits for one in expected])
    assert result.as_numpy("logits").dtype == np.float32


def test_without_outputs_the_label_map_is_returned(client: Any, runner: Runner) -> None:
    tensor = triton.InferInput("images", [1, 50, 70, 3], "UINT8")
    tensor.set_data_from_numpy(IMAGES[:1])
    result = client.infer("street", [tensor], model_version="1", headers=authorised())
    np.testing.assert_array_equal(result.as_numpy("label_map")[0], segment(runner, IMAGES[0], "image").label_map)


def test_errors_reach_the_client(client: Any) -> None:
    tensor = triton.InferInput("images", [1, 400, 400, 3], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 400, 400, 3), np.uint8))
    with pytest.raises(triton.InferenceServerException, match="too-many-pixels"):
        client.infer("street", [tensor], headers=authorised())
    with pytest.raises(triton.InferenceServerException, match="no-such-model"):
        client.infer("other", [tensor], headers=authorised())
    with pytest.raises(triton.InferenceServerException, match="wrong-token"):
        client.infer("street", [tensor])
    with pytest.raises(triton.InferenceServerException, match="compressed-body"):
        client.infer("street", [tensor], headers=authorised(), request_compression_algorithm="gzip")


def request(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 1, 2, 3], "data": [1, 2, 3, 4, 5, 6]}
    return {"inputs": [{**tensor, **changes}]}


@pytest.mark.parametrize(
    "values",
    [
        *([], 1, None, "text", {}, {"inputs": []}, {"inputs": [1]}, {"inputs": [request(), request()]}),
        request(name="other"),
        request(datatype="FP32"),
        request(shape=[1, 1, 2]),
        request(shape=[1, 1, 2, 4]),
        request(shape=[1, 0, 2, 3]),
        request(shape=[1, -1, -2, 3]),
        request(shape=[1, 2**40, 2, 3]),
        request(shape=[True, 1, 2, 3]),
        request(shape="1123"),
        request(data=[1, 2, 3, 4, 5]),
        request(data=[1, 2, 3, 4, 5, 256]),
        request(data=[1, 2, 3, 4, 5, -1]),
        request(data=[1, 2, 3, 4, 5, 6.5]),
        request(data=[1, 2, 3, 4, 5, 10**30]),
        request(data=[1, [2, 3], 4, 5, 6]),
        request(data=["a"] * 6),
        request(data=None),
        request(data={}),
        request(parameters=[]),
        request(parameters={"binary_data_size": 6}),
        request(parameters={"binary_data_size": -1}),
        {**request(), "parameters": 1},
        {**request(), "outputs": []},
        {**request(), "outputs": [1]},
        {**request(), "outputs": [{"name": "other"}]},
        {**request(), "outputs": [{"name": "label_map", "parameters": 1}]},
        {**request(), "outputs": [{"name": "label_map", "parameters": {"classification": 3}}]},
    ],
)
def test_wrong_requests_are_refused(server: Client, values: Any) -> None:
    answer = server.post("/v2/models/street/infer", json.dumps(values).encode())
    assert answer.error == (400, "wrong-inference")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN", b'{"inputs":' + b"9" * 10_000 + b"}"])
def test_what_is_not_json_is_refused(server: Client, body: bytes) -> None:
    assert server.post("/v2/models/street/infer", body).error == (400, "wrong-inference")


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "1e3", "²"])
def test_wrong_lengths_of_the_json_are_refused(server: Client, length: str) -> None:
    sent = {"Inference-Header-Content-Length": length.encode("latin-1", "ignore").decode("latin-1")}
    assert server.request("POST", "/v2/models/street/infer", b"{}", sent).error == (400, "wrong-inference")


def test_json_and_numbers_are_bounded(server: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(request()).encode()
    assert server.post("/v2/models/street/infer", body).json["outputs"][0]["shape"] == [1, 1, 2]
    monkeypatch.setattr(inference, "MAX_NUMBERS", 1)
    assert server.post("/v2/models/street/infer", body).error == (413, "answer-too-large")
    monkeypatch.setattr(inference, "MAX_JSON", 10)
    assert server.post("/v2/models/street/infer", body).error == (413, "request-too-large")


def test_a_server_that_is_full_refuses_before_it_reads(runner: Runner) -> None:
    service = Service(lambda: runner, "street", ServeOptions(workers=1, queue=1))
    with serving(make_service(service)) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        service.pool.inside = 2
        assert client.post("/v2/models/street/infer", b"{}").error == (429, "too-many-requests")
        service.pool.inside = 0


def test_bodies_that_arrive_are_counted_and_bounded(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(lambda: runner, "street", ServeOptions(uploads=1))
    head = b"POST /v2/models/street/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n"
    with serving(make_service(service)) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        with socket.create_connection((client.host, client.port)) as sock:
            sock.sendall(head + b"{")
            wait_until(lambda: service.pool.uploads == 1)
            assert client.post("/v2/models/street/infer", b"{}").error == (429, "too-many-requests")
        wait_until(lambda: service.pool.uploads == 0)
        monkeypatch.setattr(inference, "MAX_JSON", 10)
        assert b"send the images as binary tensors" in client.raw(head)  # without a body


def test_a_worker_writes_the_answer_in_parts(server: Client, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(request() | {"outputs": [{"name": "logits"}], "id": "7"}).encode()
    whole = server.post("/v2/models/street/infer", body).json
    names: list[str] = []

    def answer(*values: Any) -> Any:
        names.append(threading.current_thread().name)
        return write(*values)

    write = inference._answer
    monkeypatch.setattr(inference, "_answer", answer)
    monkeypatch.setattr(inference, "PART", 3)
    assert server.post("/v2/models/street/infer", body).json == whole
    assert len(whole["outputs"][0]["data"]) == 2 * runner.info.labels.num_classes
    assert names[0].startswith("predict")
