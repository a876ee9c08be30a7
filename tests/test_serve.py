"""`fullconv serve`: the files of `fullconv predict`, byte for byte, within limits that each have their status."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from children import child
from command_line import run as run_command
from fullconv.arrays import UInt8
from fullconv.images import write_image
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import model_path
from fullconv.runtime.runner import Runner
from fullconv.serve import ServeOptions, make_service
from fullconv.serve.service import Service
from geotiffs import Shifted, geotiff
from image_kinds import EVERY_KIND, smooth
from refusals import matches
from waiting import LIMIT, wait_until
from web_server import Client, serving

KINDS = {"mask": "labels", "overlay": "overlay", "probabilities": "probabilities", "polygons": "polygons"}
SUFFIXES = {"mask": (".png", ".tif"), "overlay": (".jpg",), "probabilities": (".npz",), "polygons": (".geojson",)}
FOLDERS = {"mask": "", "overlay": "overlays", "probabilities": "probabilities", "polygons": "polygons"}


@contextmanager
def opened(runner: Runner, token: str | None = None, **limits: Any) -> Iterator[Client]:
    """Serve a model and wait until it is loaded."""
    service = Service(lambda: runner, "street", ServeOptions(**limits))
    app = make_service(service, token=token, hosts=("127.0.0.1",))
    with serving(app, token) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        yield client
    assert not service.folder.exists()


@pytest.fixture(scope="module")
def runner() -> Runner:
    return load_runner(model_path("street"))


@pytest.fixture(scope="module")
def client(runner: Runner) -> Iterator[Client]:
    with opened(runner) as client:
        yield client


def png(height: int = 20, width: int = 30) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that states a size, with few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_answers_are_the_files_of_predict_for_every_kind_of_image(
    kind: str, runner: Runner, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suffix, make = EVERY_KIND[kind]
    path = Path(f"photo{suffix}")
    make(path)
    report = predict_files(runner, [path], Path("out"), PredictOptions(["labels", "overlay", "polygons", "areas"]))
    again = predict_files(runner, [path], Path("out"), PredictOptions(["probabilities"]))
    assert bool(report.done) == bool(again.done)
    address = f"/predict?name={path.name}&as="
    if not report.done:
        answer = client.post(address + "mask", path.read_bytes())
        assert 400 <= answer.error[0] < 500
        assert "/" not in answer.json["message"].replace("/docs", "").replace("https://", "")
        return
    for wanted in KINDS:
        answer = client.post(address + wanted, path.read_bytes())
        assert answer.status == 200, answer.content
        assert answer.content == find_file(Path("out"), "photo", wanted).read_bytes(), wanted
    assert client.post(address + "areas", path.read_bytes()).content == Path("out/areas.csv").read_bytes()


def find_file(out: Path, stem: str, kind: str) -> Path:
    (path,) = [path for suffix in SUFFIXES[kind] if (path := out / FOLDERS[kind] / f"{stem}{suffix}").exists()]
    return path


def write_crop(rng: random.Random, path: Path) -> Path:
    """Write a random crop of a picture with structure in a random kind of file; return its path."""
    height, width = rng.randint(1, 160), rng.randint(1, 160)
    rows, columns = np.mgrid[:height, :width] + rng.randint(0, 999)
    waves = [rows / rng.uniform(1, 20) + columns / rng.uniform(1, 20) + rng.random() for _ in range(3)]
    pixels = np.stack([128 + 127 * np.sin(wave) for wave in waves], -1).astype(np.uint8)
    kind = rng.choice(["png", "jpg", "16-bit", "palette", "grey", "tif", "geotiff", "geo16", "webp", "bmp", "turned"])
    suffix = {"16-bit": "png", "palette": "png", "grey": "png", "geotiff": "tif", "geo16": "tif", "turned": "jpg"}
    path = path.with_suffix("." + suffix.get(kind, kind))
    image = Image.fromarray(pixels)
    if kind in ("geotiff", "geo16"):
        geotiff(path, pixels if kind == "geotiff" else pixels.astype(np.uint16) * 257, blockxsize=16, blockysize=16)
    elif kind == "16-bit":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path)
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = rng.randint(1, 8)
        image.save(path, exif=exif)
    else:
        image.convert({"palette": "P", "grey": "L"}.get(kind, "RGB")).save(path)
    return path


def compare_crops(count: int, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare all answers for random crops with the files of one run of the command."""
    rng = random.Random(1)
    Path("crops").mkdir()
    paths = [write_crop(rng, Path("crops") / f"{number:04}") for number in range(count)]
    for save in ("labels,overlay,polygons,areas", "probabilities"):
        assert run_command(monkeypatch, "predict", "street", "crops", "--out", "out", "--save", save) == 0
    with Path("out/areas.csv").open(newline="") as file:
        head, *rows = csv.reader(file)

    def compare(path: Path) -> None:
        body = path.read_bytes()
        for wanted in KINDS:
            answer = client.post(f"/predict?name={path.name}&as={wanted}", body)
            assert answer.status == 200, (path, answer.content)
            assert answer.content == find_file(Path("out"), path.stem, wanted).read_bytes(), (path, wanted)
        areas = client.post(f"/predict?name={path.name}&as=areas", body).content.decode()
        expected = [head, *([path.name, *row[1:]] for row in rows if row[0] == str(path))]
        assert list(csv.reader(io.StringIO(areas))) == expected

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compare, paths))


def test_random_crops_give_the_files_of_the_command(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SERVE_CROPS=1000 compares a thousand."""
    monkeypatch.chdir(tmp_path)
    compare_crops(int(os.environ.get("SERVE_CROPS", "60")), client, monkeypatch)


def test_images_above_four_megapixels_are_predicted_in_tiles(
    runner: Runner, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    write_image("large.png", np.asarray(Image.fromarray(small).resize((2100, 2010), Image.Resampling.BICUBIC)))
    predict_files(runner, [Path("large.png")], Path("out"), PredictOptions(["labels"]))
    assert client.post("/predict?as=mask", Path("large.png").read_bytes()).content == Path("out/large.png").read_bytes()


def test_large_images_are_predicted_in_windows(
    runner: Runner, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image("photo.png", np.random.default_rng(0).integers(0, 256, (90, 110, 3), np.uint8))
    geotiff(Path("map.tif"), smooth())
    options = PredictOptions(["labels", "areas", "overlay"], max_in_memory_pixels=1)
    monkeypatch.setattr("fullconv.serve.answers.goes_in_windows", lambda runner, path: True)
    for name, suffix in (("photo.png", ".png"), ("map.tif", ".tif")):
        out, body = Path(name).with_suffix(""), Path(name).read_bytes()
        predict_files(runner, [Path(name)], out, options)
        assert client.post("/predict?as=mask", body).content == (out / f"{out}{suffix}").read_bytes()
        assert client.post("/predict?as=overlay", body).content == (out / f"overlays/{out}{suffix}").read_bytes()
        areas = client.post(f"/predict?as=areas&name={name}", body)
        assert areas.content == (out / "areas.csv").read_bytes()
        assert client.post("/predict?as=json", body).json["width"] == {"photo.png": 110, "map.tif": 90}[name]
        assert client.post("/predict?as=polygons", body).error == (413, "too-many-pixels")


def test_the_summary_has_the_areas_and_a_preview(client: Client) -> None:
    values = client.post("/predict?name=a/b\\c%0Ad.png&preview=16", png()).json
    assert (values["image"], values["width"], values["height"]) == ("c\\nd.png", 30, 20)
    assert sum(entry["pixels"] for entry in values["classes"]) + values["unlabelled_pixels"] == 600
    assert [entry["id"] for entry in values["classes"]] == list(range(11))
    assert values["preview"].startswith("data:image/jpeg;base64,")
    assert "preview" not in client.post("/predict", png()).json


def test_a_form_gives_the_same_answer_as_a_body(client: Client) -> None:
    head = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="../photo.png"\r\n\r\n'
    form = b"".join([head, png(), b"\r\n--edge--\r\n"])
    sent = {"Content-Type": "multipart/form-data; boundary=edge"}
    for kind in ("mask", "polygons"):
        answer = client.request("POST", f"/predict?as={kind}", form, sent)
        assert answer.content == client.post(f"/predict?as={kind}&name=photo.png", png()).content
    assert "photo.png" in client.request("POST", "/predict?as=mask", form, sent).headers["content-disposition"]
    other = b'--edge\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--edge--\r\n'
    assert client.request("POST", "/predict", other, sent).error == (400, "no-image")
    assert client.request("POST", "/predict", b"nothing", sent).error[0] == 400
    assert client.request("POST", "/predict", b"", {"Content-Type": "multipart/form-data"}).error[0] == 400


def test_wrong_requests_have_their_status(client: Client) -> None:
    assert client.post("/predict", b"").error == (400, "no-image")
    assert client.post("/predict?as=pdf", png()).error == (400, "bad-request")
    assert client.post("/predict?preview=-1", png()).error == (400, "bad-request")
    assert client.post("/predict", b"some text").error == (415, "not-an-image")
    assert client.post("/predict", b"<!doctype html><html></html>").error == (415, "html-file")
    assert client.post("/predict", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").error == (415, "not-an-image")
    assert client.post("/predict", png()[:-100]).error == (422, "truncated-file")
    assert client.request("POST", "/predict", png(), {"Content-Encoding": "gzip"}).error == (415, "compressed-body")
    assert client.get("/predict").error == (405, "method-not-allowed")


def test_messages_name_the_image_and_no_path_of_the_server(client: Client) -> None:
    message = client.post("/predict?name=/etc/passwd", b"some text").json["message"]
    assert message == "passwd: is not an image that can be read; save it as PNG, JPEG or TIFF"


def test_a_file_that_lacks_a_package_is_refused_without_naming_the_server(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geotiffs import hide

    path = geotiff(tmp_path / "a.tif", smooth(5).astype(np.float32))
    hide(monkeypatch, "rasterio", "tifffile")
    answer = client.post("/predict?name=a.tif", path.read_bytes())
    assert answer.error == (415, "kind-not-installed")
    assert "pip" not in answer.json["message"]


def test_pixels_are_judged_by_the_header(runner: Runner) -> None:
    with opened(runner, max_pixels=1000, max_bytes=100_000) as client:
        assert client.post("/predict", png(20, 50)).status == 200
        assert client.post("/predict", png(20, 51)).error == (413, "too-many-pixels")
        assert client.post("/predict", bytes(100_001)).error == (413, "request-too-large")
    with opened(runner) as client:
        for size in ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (8000, 8001)):
            began = time.monotonic()
            assert client.post("/predict", bomb(*size)).error[0] in (413, 422)
            assert time.monotonic() - began < 30
        assert client.post("/predict?as=probabilities", bomb(7000, 7000)).error == (413, "too-many-pixels")


class Slow(Shifted):
    """A runner that waits until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.running = 0

    def label_maps(self, images: UInt8) -> UInt8:
        if images.shape[1] != 64:  # the picture that the service computes at its start
            self.running += 1
            assert self.release.wait(LIMIT)
        return super().label_maps(images)


def test_a_thread_that_cannot_start_takes_no_place(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(lambda: runner, "street", ServeOptions(workers=1, queue=1))
    with serving(make_service(service)) as client:
        wait_until(lambda: client.get("/readyz").status == 200)

        started = threading.Thread.start

        def fail(thread: threading.Thread) -> None:
            if thread.name.startswith("predict"):
                raise RuntimeError("can't start new thread")
            started(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            assert [client.post("/predict", png()).status for _ in range(4)] == [500] * 4
        computed = client.get("/metrics").content
        assert client.post("/predict", png()).status == 200
        assert service.pool.inside == 0
        assert b"fullconv_predictions_inside 0.0" in computed


def test_a_full_queue_is_answered_at_once() -> None:
    slow = Slow()
    with opened(slow, workers=2, queue=3) as client, ThreadPoolExecutor(5) as pool:
        accepted = [pool.submit(client.post, "/predict?as=mask", png()) for _ in range(5)]
        wait_until(lambda: b"fullconv_predictions_inside 5.0" in client.get("/metrics").content)
        wait_until(lambda: slow.running == 2)
        for _ in range(20):  # all are answered before any prediction ends; benchmarks/serving.py measures the time
            answer = client.post("/predict", png(300, 300))
            assert answer.error == (429, "too-many-requests")
            assert int(answer.headers["retry-after"]) >= 1
        slow.release.set()
        assert {future.result().status for future in accepted} == {200}
        assert client.post("/predict", png()).status == 200


def test_slow_uploads_do_not_fill_the_queue(runner: Runner) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc"
    with opened(runner, workers=1, queue=1, uploads=4) as client:
        sockets = [socket.create_connection((client.host, client.port)) for _ in range(3)]
        for sock in sockets:
            sock.sendall(head)
        assert client.post("/predict", png()).status == 200
        sockets.append(socket.create_connection((client.host, client.port)))
        sockets[-1].sendall(head)
        wait_until(lambda: client.post("/predict", png()).status == 429)
        for sock in sockets:
            sock.close()
        wait_until(lambda: client.post("/predict", png()).status == 200)


def test_a_prediction_that_takes_too_long_is_answered() -> None:
    slow = Slow()
    with opened(slow, workers=1, queue=1, timeout=3) as client:
        assert client.post("/predict", png()).error == (504, "too-slow")
        assert client.post("/predict", png()).error == (504, "too-slow")  # it waited
        slow.release.set()
        wait_until(lambda: client.post("/predict", png()).status == 200)
        assert slow.running >= 2


def test_a_client_that_goes_away_frees_its_place() -> None:
    slow = Slow()
    body = png()
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with opened(slow, workers=1, queue=2) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/predict", body)
        wait_until(lambda: slow.running == 1)
        sockets = [socket.create_connection((client.host, client.port)) for _ in range(2)]
        for sock in sockets:
            sock.sendall(head + body)
        wait_until(lambda: b"fullconv_predictions_inside 3.0" in client.get("/metrics").content)
        for sock in sockets:
            sock.close()
        wait_until(lambda: b"fullconv_predictions_inside 1.0" in client.get("/metrics").content)
        slow.release.set()
        assert first.result().status == 200
        assert slow.running == 1


def test_uploads_are_removed_whatever_happens(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(lambda: runner, "street", ServeOptions())
    with serving(make_service(service)) as client:
        wait_until(lambda: client.get("/readyz").status == 200)
        for body in (png(), b"text", b"", png()[:-100]):
            client.post("/predict?as=probabilities", body)
        client.raw(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc", half_close=True)
        wait_until(lambda: not list(service.folder.iterdir()))
        assert service.folder.stat().st_mode & 0o077 == 0
    assert not service.folder.exists()


def test_while_the_model_loads_and_while_the_server_ends(runner: Runner) -> None:
    release = threading.Event()

    def load() -> Runner:
        assert release.wait(LIMIT)
        return runner

    app = make_service(Service(load, "street", ServeOptions()))
    with serving(app) as client:
        assert client.get("/livez").json == {"status": "live"}
        for path in ("/readyz", "/model", "/v2/health/ready", "/v2/models/street", "/v2/models/street/ready"):
            assert client.get(path).error == (503, "loading")
        answer = client.post("/predict", png())
        assert answer.error == (503, "loading")
        assert answer.headers["retry-after"] == "5"
        release.set()
        wait_until(lambda: client.get("/readyz").status == 200)
        app.state.draining = True
        assert client.get("/readyz").error == (503, "draining")
        assert client.post("/predict", png()).error == (503, "draining")
        assert client.get("/livez").status == 200


def test_a_network_that_fails_is_an_answer_and_the_server_goes_on() -> None:
    class Broken(Shifted):
        def label_maps(self, images: UInt8) -> UInt8:
            if images.shape[1] != 64:
                raise ZeroDivisionError("a secret")
            return super().label_maps(images)

    with opened(Broken()) as client:
        answer = client.post("/predict", png())
        assert answer.error == (500, "internal")
        assert b"secret" not in answer.content
        assert client.get("/readyz").status == 200


def test_the_model_is_described(client: Client) -> None:
    values = client.get("/model").json
    assert [entry["name"] for entry in values["classes"]][:4] == ["sky", "building", "pole", "road"]
    assert values["input"] == {"channels": 3, "range": None}
    assert values["limits"]["max_pixels"] == 64_000_000


def test_only_the_page_its_description_and_health_need_no_token(runner: Runner) -> None:
    token = "a-long-token"
    with opened(runner, token) as client:
        stranger = Client(client.address)
        for path in ("/", "/docs", "/openapi.json", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
            assert stranger.get(path).status == 200, path
        for path in ("/model", "/metrics", "/v2", "/v2/models/street", "/predict"):
            assert stranger.get(path).error == (401, "wrong-token"), path
            assert client.get(path).status in (200, 405)
        assert stranger.post("/predict", png()).error == (401, "wrong-token")
        assert client.post("/predict", png()).status == 200


def test_metrics_count_requests_and_predictions(runner: Runner) -> None:
    with opened(runner) as client:
        client.post("/predict?as=mask", png())
        client.get("/some/secret/path")
        client.request("BREW", "/predict")
        text = client.get("/metrics").content.decode()
    assert 'fullconv_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'fullconv_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert 'fullconv_prediction_seconds_count{kind="mask"} 1.0' in text
    assert "fullconv_pixels_total 600.0" in text
    assert "process_resident_memory_bytes" in text
    assert "secret" not in text
    assert "BREW" not in text


def test_the_description_lists_every_address(client: Client) -> None:
    values = client.get("/openapi.json").json
    paths = set(values["paths"])
    assert {"/predict", "/model", "/metrics", "/livez", "/readyz", "/v2/models/{model}/infer"} <= paths
    assert set(values["paths"]["/predict"]["post"]["responses"]) >= {"413", "415", "422", "429", "503", "504"}
    assert "://" not in json.dumps(values).replace("https://json-schema.org", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_the_command_serves_until_sigterm_and_finishes_what_runs() -> None:
    command = ("-m", "fullconv", "serve", "street", "--port", "0", "--token", "a-long-token")
    with ThreadPoolExecutor(3) as pool, child(*command) as process:
        client = Client(process.read_line(), "a-long-token")
        wait_until(lambda: client.get("/readyz").status == 200)
        file = io.BytesIO()
        Image.new("RGB", (1500, 1500)).save(file, "PNG")  # few bytes arrive at once; the prediction takes its time
        body = file.getvalue()
        answers = [pool.submit(client.post, "/predict", body) for _ in range(3)]
        wait_until(lambda: b"fullconv_predictions_inside 3.0" in client.get("/metrics").content)
        process.send_signal(signal.SIGTERM)
        output, errors = process.finish()
    assert (process.returncode, output) == (0, ""), errors
    assert [answer.result().status for answer in answers] == [200] * 3
    events = [json.loads(line) for line in errors.splitlines()]
    assert {event["event"] for event in events} == {"ready", "request", "draining"}
    assert "a-long-token" not in errors


ENDLESS = """
import sys, time
from fullconv.cli import serve
from fullconv.cli.app import main

class Endless:
    def __init__(self, runner):
        self.info, self.logits, self._runner = runner.info, runner.logits, runner
    def label_maps(self, images):
        if images.shape[1] != 64:  # the picture that the service computes at its start
            time.sleep(600)
        return self._runner.label_maps(images)

load = serve._load
serve._load = lambda *arguments: Endless(load(*arguments))
sys.argv = ["fullconv", "serve", "street", "--port", "0", "--timeout", "600"]
main()
"""


def post_and_be_cut(client: Client) -> None:
    with suppress(OSError, HTTPException):
        client.post("/predict", png())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_a_second_ctrl_c_does_not_wait_for_a_prediction(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with child("-c", ENDLESS, env=environment) as process:
        client = Client(process.read_line())
        wait_until(lambda: client.get("/readyz").status == 200)
        folders = list(tmp_path.glob("fullconv-serve-*"))
        asked = threading.Thread(target=post_and_be_cut, args=(client,), daemon=True)
        asked.start()
        wait_until(lambda: b"fullconv_predictions_inside 1.0" in client.get("/metrics").content)
        process.send_signal(signal.SIGINT)
        process.wait_for(lambda: "draining" in process.read_errors())
        process.send_signal(signal.SIGINT)
        _, errors = process.finish()
    assert process.returncode == 130, errors
    assert "stopped by SIGINT during a long computation" in errors
    assert len(folders) == 1
    assert not folders[0].exists()


def test_a_model_that_cannot_be_loaded_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    assert run_command(monkeypatch, "serve", str(path), "--port", "0") == 4
    assert run_command(monkeypatch, "serve", "nothing", "--port", "0") == 4


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--host", "0.0.0.0"), "needs-token"),
        (("--host", "::"), "needs-token"),
        (("--token", "short"), "unusable-token"),
        (("--token", "with a blank in it"), "unusable-token"),
        (("--workers", "0"), "limit-not-positive"),
        (("--max-pixels", "-1"), "limit-not-positive"),
        (("--timeout", "0"), "limit-not-positive"),
        (("--label-studio", "studio"), "unusable-prefix"),
        (("--label-studio", "/v2/x"), "unusable-prefix"),
        (("--label-studio-url", "http://localhost:1"), "needs-label-studio"),
    ],
)
def test_wrong_options_are_refused(
    arguments: tuple[str, ...], code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "serve", "street", "--port", "0", *arguments) == 2
    message = capsys.readouterr().err.strip().removeprefix("fullconv: ")
    assert matches(code, message), message
