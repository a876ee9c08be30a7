"""The API of the label page: strokes, tiles, classes, events, the live model, and requests of strangers."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fullconv
from fullconv.data.layouts import find_dataset
from fullconv.label.app import make_server
from fullconv.label.live.learner import Learner
from fullconv.label.store.session import open_session
from fullconv.label.tools import accept
from fullconv.label.train_process import TrainProcess
from label_folder import make_photo, make_photos
from label_kills import kill_sessions
from label_server import Page, label_process, label_server, read_events
from refusals import refuses
from waiting import LIMIT, wait_until
from web_server import Client

LEFT, RIGHT = [[5, 5], [30, 50]], [[50, 5], [75, 50]]


def test_strokes_teach_the_model_and_become_masks(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    with label_server(photos, names=["dark", "bright"]) as (page, server):
        project = page.json("/project")
        assert [(one["key"], one["name"]) for one in project["classes"]] == [(0, "dark"), (1, "bright")]
        assert (project["images"], project["version"], project["start"]) == (3, 0, None)
        ids = page.ids()
        id = ids["a.png"]
        assert page.get(f"/images/{id}/prediction/0/0/0").status == 204
        answer = page.stroke(id, 0, LEFT)
        assert answer["stroke"] == 1
        x0, y0, x1, y1 = answer["box"]
        painted = page.tile(id, "labels")
        assert answer["pixels"] == (painted == 0).sum() == (painted[y0:y1, x0:x1] == 0).sum() > 100
        page.stroke(id, 1, RIGHT)
        wait_until(lambda: page.json("/project")["version"] > 0)
        assert server.work.wait()
        other = page.tile(ids["b.png"], "prediction")
        truth = np.repeat([0, 1], 40)[None].repeat(60, 0)
        assert (other == truth).mean() > 0.8
        places = page.json(f"/images/{id}/uncertain")["places"]
        assert all(0 <= place["score"] <= 1 and place["width"] > 0 for place in places)
        page.stroke(ids["b.png"], 0, [[10, 10]], tool="accept", scope="class")
        assert server.work.wait()
        later = page.tile(ids["b.png"], "prediction")  # the model has learned from what was accepted
        accepted = page.tile(ids["b.png"], "labels")
        assert ((accepted == 0) == (other == other[10, 10])).all()
        assert (accepted[accepted != 0] == 255).all()
        assert (
            page.stroke(ids["b.png"], 0, [[10, 10]], tool="accept", scope="image")["pixels"] == (accepted == 255).sum()
        )
        labels = page.tile(ids["b.png"], "labels")
        assert (labels == np.where(accepted == 255, later, accepted)).all()
    result = fullconv.load(server.store.data / "live.onnx").predict(photos / "c.png")
    assert result.labels.class_names == ("dark", "bright")
    dataset = find_dataset(server.store.data)
    read = {sample.name: dataset.read(sample)[1] for samples in dataset.splits.values() for sample in samples}
    assert (read["b"] == labels).all()
    assert read.keys() == {"a", "b"}


def test_a_model_is_the_start_and_labels_nothing(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    with label_process(photos, "--model", "street") as (page, process):
        project = page.json("/project")
        assert project["start"] == "street"
        assert len(project["classes"]) == 11
        wait_until(lambda: page.json("/project")["version"] > 0)
        id = page.ids()["a.png"]
        assert page.tile(id, "prediction").shape == (60, 80)
        assert (page.tile(id, "labels") == 255).all()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
    assert not (tmp_path / "photos-labels" / "masks").exists()


def test_two_tabs_undo_only_their_own_strokes(tmp_path: Path) -> None:
    with label_server(make_photos(tmp_path / "photos")) as (one, _):
        other, id = Page(one.client, "tab-2"), one.ids()["a.png"]
        one.stroke(id, 0, LEFT)
        first = one.tile(id, "labels")
        other.stroke(id, 1, LEFT, radius=1)
        both = one.tile(id, "labels")
        assert (both == 1).any()
        assert one.move(id, "undo")["stroke"] == 1
        assert set(np.unique(one.tile(id, "labels"))) == {1, 255}
        assert one.move(id, "undo") == {"stroke": None, "box": None}
        assert one.move(id, "redo")["stroke"] == 1
        assert (one.tile(id, "labels") == both).all()
        assert other.move(id, "undo")["stroke"] == 2
        assert (one.tile(id, "labels") == first).all()


def test_many_tabs_at_once_lose_nothing(tmp_path: Path) -> None:
    with label_server(make_photos(tmp_path / "photos")) as (page, server):
        ids = list(page.ids().values())

        def work(number: int) -> None:
            tab = Page(page.client, f"tab-{number}")
            for step in range(10):
                tab.stroke(ids[step % 3], number % 2, [[5 + 7 * number, 5], [5 + 7 * number, 50 - step]], radius=2)
                if step % 4 == 3:
                    assert tab.move(ids[step % 3], "undo")["stroke"]

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        shown = {id: page.tile(id, "labels") for id in ids}
        assert server.store.flush()
    with label_server(tmp_path / "photos") as (page, server):
        assert all((page.tile(id, "labels") == shown[id]).all() for id in ids)
        masks = {
            photo.id: np.asarray(Image.open(server.store.data / "masks" / photo.mask))
            for photo in server.store.source.photos
        }
        assert all((masks[id] == shown[id]).all() for id in ids)


def test_fill_takes_the_connected_region_of_similar_colour(tmp_path: Path) -> None:
    pixels = np.full((300, 700, 3), 20, np.uint8)
    pixels[50:250, 100:600] = 200
    pixels[140:160] = 20  # two areas
    pixels[60, 100:600, 1] = 205
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    with label_server(path.parent) as (page, _):
        id = page.ids()["a.png"]
        answer = page.stroke(id, 1, [[110.5, 70.2]], tool="fill", tolerance=5)
        assert answer == {"stroke": 1, "box": [100, 50, 600, 140], "pixels": 90 * 500}
        shown = np.hstack([page.tile(id, "labels"), page.tile(id, "labels", 0, 1)])
        assert (shown[50:140, 100:600] == 1).all()
        assert (shown == 1).sum() == 90 * 500
        assert page.stroke(id, 255, [[110.5, 100]], tool="fill", tolerance=4)["pixels"] == 79 * 500
        assert page.stroke(id, 1, [[50, 70], [80, 70], [50, 110]], tool="polygon")["pixels"] == 600
        assert page.post(
            f"/images/{id}/strokes", {"client": "a", "tool": "fill", "class": 1, "points": [[900, 0]]}
        ).error == (400, "point-outside")
        assert page.post(
            f"/images/{id}/strokes", {"client": "a", "tool": "accept", "class": 1, "points": [[1, 1]]}
        ).error == (409, "no-prediction")


def test_images_that_are_too_large_are_accepted_by_regions_only() -> None:
    points = np.zeros((1, 2))
    with refuses("accept-too-large"):
        accept(
            (5000, 5000),
            lambda *_: pytest.fail("it was predicted"),
            np.arange(256, dtype=np.uint8),
            "a",
            points,
            "image",
        )


def test_tiles_are_the_photo_at_all_levels(tmp_path: Path) -> None:
    pixels = make_photo(tmp_path / "photos" / "a.png", (1100, 1300))
    with label_server(tmp_path / "photos") as (page, _):
        id = page.ids()["a.png"]
        for level, column, row, size in (
            (0, 0, 0, (512, 512)),
            (0, 2, 2, (276, 76)),
            (1, 1, 1, (138, 38)),
            (2, 0, 0, (325, 275)),
        ):
            width, height = (size[0], size[1]) if level else size
            answer = page.get(f"/images/{id}/photo/{level}/{column}/{row}")
            assert answer.headers["content-type"] == "image/jpeg"
            shown = np.asarray(Image.open(io.BytesIO(answer.content)))
            assert shown.shape[1::-1] == (width, height)
            labels = page.tile(id, "labels", level, column, row)
            assert labels.shape == shown.shape[:2]
            side = 512 << level
            part = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
            assert np.abs(shown.mean((0, 1)) - part.mean((0, 1))).max() < 3
        page.stroke(id, 1, [[700, 700]], radius=100)
        whole = page.tile(id, "labels")
        assert (page.tile(id, "labels", 1)[:256, :256] == whole[::2, ::2]).all()
        for tile in ("0/3/0", "0/0/3", "3/0/0", "30/0/0"):
            assert page.get(f"/images/{id}/photo/{tile}").error == (404, "no-tile")


def test_a_browser_keeps_photos_of_this_session_only(tmp_path: Path) -> None:
    seen = set()
    for data in ("one", "two"):
        with label_server(make_photos(tmp_path / "photos"), tmp_path / data) as (page, _):
            id = page.ids()["a.png"]
            assert page.get(f"/images/{id}/photo/0/0/0").headers["cache-control"] == "no-store"
            version = next(image["photo"] for image in page.json("/images")["images"] if image["id"] == id)
            address = f"/images/{id}/photo/0/0/0?version="
            assert "max-age" in page.get(address + version).headers["cache-control"]
            for other in ("", "x", *seen):
                assert page.get(address + other).headers["cache-control"] == "no-store"
            seen |= {version, page.json("/project")["session"]}
    assert len(seen) == 4


def test_classes_change_for_everybody(tmp_path: Path) -> None:
    with label_server(make_photos(tmp_path / "photos"), names=["x", "y", "z"]) as (page, server):
        id = page.ids()["a.png"]
        page.stroke(id, 0, LEFT)
        page.stroke(id, 2, RIGHT)
        before = page.tile(id, "labels")
        assert page.post("/classes", {"action": "merge", "key": 2, "into": 1}).json["classes"][1]["key"] == 1
        assert (page.tile(id, "labels") == np.where(before == 2, 1, before)).all()
        assert page.post("/classes", {"action": "delete", "key": 0}).status == 200
        assert set(np.unique(page.tile(id, "labels"))) == {1, 255}
        assert page.post("/classes", {"action": "delete", "key": 1}).error == (409, "last-class")
        added = page.post("/classes", {"action": "add", "name": "w", "color": "#010203"}).json["classes"][-1]
        assert added == {"key": 3, "name": "w", "color": "#010203"}
        refused = {"client": "a", "tool": "brush", "class": 2, "points": LEFT, "radius": 1}
        assert page.post(f"/images/{id}/strokes", refused).error == (400, "unknown-class-key")
        assert server.store.flush()
    assert set(np.unique(Image.open(server.store.data / "masks" / "a.png"))) == {0, 255}


def test_events_reach_every_tab(tmp_path: Path) -> None:
    with label_server(make_photos(tmp_path / "photos")) as (page, server):
        assert server.work.wait()
        wait_until(lambda: not server.work._unranked)
        assert server.work.wait()
        id = page.ids()["a.png"]
        with ThreadPoolExecutor(2) as pool:
            listening = [pool.submit(read_events, page.client, 12) for _ in range(2)]
            wait_until(lambda: len(server.events._listeners) == 2)
            box = page.stroke(id, 0, LEFT)["box"]
            page.stroke(id, 1, RIGHT)
            page.post("/classes", {"action": "add", "name": "w"})
            for _ in range(12):
                server.events.publish("images", {})
            for found in listening:
                events = found.result(30)
                assert ("stroke", {"image": id, "box": box, "client": "tab-1"}) in events
                assert ("classes", {}) in events
    assert not server.events._listeners


def test_a_damaged_photo_comes_last_with_its_reason(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", ("b.png", "c.png"))
    (photos / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing")
    with label_server(photos) as (page, _):
        wait_until(lambda: page.json("/images")["images"][-1]["error"])
        images = page.json("/images")["images"]
        assert images[-1]["name"] == "a.png"
        assert [image["width"] for image in images] == [80, 80, 0]
        id = images[-1]["id"]
        for path in ("photo", "labels", "prediction"):
            assert page.get(f"/images/{id}/{path}/0/0/0").error[0] in (415, 422)
        stroke = {"client": "a", "tool": "brush", "class": 0, "points": LEFT, "radius": 1}
        assert page.post(f"/images/{id}/strokes", stroke).error[0] in (415, 422)


# Strangers

NUMBERS = "0000000000000000"
STROKE = {"client": "a", "tool": "brush", "class": 0, "points": [[1, 1]], "radius": 1}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with label_server(make_photos(tmp_path_factory.mktemp("strangers") / "photos")) as (page, server):
        yield page, server


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/images/../../etc/passwd/photo/0/0/0"),
        ("GET", "/api/images/..%2f..%2fetc%2fpasswd/photo/0/0/0"),
        ("GET", "/api/images/a.png/photo/0/0/0"),
        ("GET", f"/api/images/{NUMBERS}/photo/0/0/0"),
        ("GET", "/static/../app.py"),
        ("GET", "/static/%2e%2e/app.py"),
        ("GET", "/api/images/{id}/photo/-1/0/0"),
        ("GET", "/api/images/{id}/photo/0/99999999999999999999/0"),
        ("GET", "/api/images/{id}/photo/0/0/1e9"),
        ("GET", "/api/images/{id}/masks/0/0/0"),
        ("PUT", "/api/images/{id}/strokes"),
        ("DELETE", "/api/project"),
        ("POST", "/api/images/{id}/strokes/../../../classes"),
    ],
)
def test_addresses_of_strangers_reach_nothing(served: Any, method: str, path: str) -> None:
    page, _ = served
    answer = page.client.request(method, path.replace("{id}", page.ids()["a.png"]), b"{}" if method != "GET" else None)
    assert 400 <= answer.error[0] < 500


@pytest.mark.parametrize(
    "change",
    [
        {"points": [[float("nan"), 1]]},
        {"points": [[1e999, 1]]},
        {"points": [[1e300, 1]]},
        {"points": [["1", 1]]},
        {"points": [[1]]},
        {"points": [[1, 1, 1]]},
        {"points": []},
        {"points": None},
        {"points": [[1, 1]] * 20_001},
        {"radius": -1},
        {"radius": 1e9},
        {"radius": float("inf")},
        {"radius": "1"},
        {"class": 256},
        {"class": -1},
        {"class": 200},
        {"class": True},
        {"class": 1.5},
        {"client": ""},
        {"client": "../x"},
        {"client": "x" * 65},
        {"tool": "spray"},
        {"tool": "polygon"},
        {"tool": "fill", "tolerance": 256},
        {"tool": "fill", "points": [[-1, 0]]},
        {"tool": "accept", "scope": "world"},
        {"radius": 4000, "points": [[n % 2 * 9000, n] for n in range(9000)]},
    ],
)
def test_strokes_of_strangers_paint_nothing(served: Any, change: dict[str, Any]) -> None:
    page, server = served
    id = page.ids()["a.png"]
    status, _ = page.post(f"/images/{id}/strokes", {**STROKE, **change}).error
    assert 400 <= status < 500
    assert not (server.store.data / ".label" / "strokes" / f"{id}.jsonl").exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"client": {"a": 1}}', b"null"])
def test_bodies_of_strangers_are_refused(served: Any, body: bytes) -> None:
    page, _ = served
    id = page.ids()["a.png"]
    for path in (f"/api/images/{id}/strokes", f"/api/images/{id}/undo", "/api/classes"):
        answer = page.client.post(path, body, **{"Content-Type": "application/json"})
        assert 400 <= answer.error[0] < 500


def test_a_huge_body_is_refused(served: Any) -> None:
    page, _ = served
    answer = page.client.post(f"/api/images/{page.ids()['a.png']}/strokes", b" " * 3_000_000)
    assert answer.error == (413, "request-too-large")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic the token of the tests"}, 401),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_requests_of_other_sites_are_refused(served: Any, headers: dict[str, str], status: int) -> None:
    page, _ = served
    id = page.ids()["a.png"]
    for path in (f"/api/images/{id}/strokes", "/api/classes", "/api/training"):
        answer = page.client.request("POST", path, json.dumps(STROKE), headers)
        assert answer.error[0] == status


def test_a_token_in_the_address_does_not_count(served: Any) -> None:
    page, _ = served
    stranger = Client(page.client.address)
    for path in ("/api/project?token=the+token+of+the+tests", "/api/events", "/api/images"):
        assert stranger.get(path).error == (401, "wrong-token")


# Training

TRAINER = """
import sys, time, json, pathlib, subprocess
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
mode = {mode!r}
print("fullconv: preparing", flush=True)
(out / "recipe.yaml").write_text("recipe: {{epochs: 4}}")
(out / "metrics.csv").write_text("epoch,step,mean_iou\\n2.0,10,0.5\\n")
if mode == "wait":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (out / "child").write_text(str(child.pid))
    time.sleep(600)
if mode == "fail":
    print("fullconv: the data have a fault")
    sys.exit(3)
time.sleep(1)
(out / "scores.json").write_text(json.dumps({{"per_class_iou": {{"a": 0.5, "b": None}}, "mean_iou": 0.5}}))
if mode == "model":
    (out / "model.onnx").write_text("x")
"""


@contextmanager
def run_training(tmp_path: Path, mode: str) -> Iterator[tuple[TrainProcess, list[Any], list[Path]]]:
    """Start a training, which is cancelled at the end if it still runs."""
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER.format(mode=mode), "utf-8")
    states: list[Any] = []
    models: list[Path] = []
    process = TrainProcess(tmp_path, tmp_path / "runs", states.append, models.append, (sys.executable, str(script)))
    try:
        process.start()
        yield process, states, models
    finally:
        process.close()


@pytest.mark.parametrize(("mode", "state"), [("model", "done"), ("fail", "failed"), ("nothing", "failed")])
def test_a_training_ends_with_its_state(tmp_path: Path, mode: str, state: str) -> None:
    with run_training(tmp_path, mode) as (process, states, models):
        wait_until(lambda: process.training.state != "running")
        training = process.training
        assert training.state == state
        assert "fullconv: preparing" in training.lines
        assert models == ([tmp_path / "runs" / "run-1" / "model.onnx"] if mode == "model" else [])
        if mode == "fail":
            assert "the data have a fault" in training.message
        else:
            assert training.scores == {"mean_iou": 0.5, "classes": {"a": 0.5, "b": None}}
            assert any(one.state == "running" and one.progress == 0.5 for one in states)
        process.start()
    assert process.training.state in ("cancelled", "done", "failed")


def test_a_model_that_cannot_be_taken_ends_the_training_all_the_same(tmp_path: Path) -> None:
    def fail(model: Path) -> None:
        raise OSError(28, "No space left on device")

    with run_training(tmp_path, "model") as (process, _, _):
        process._on_model = fail
        wait_until(lambda: process.training.state != "running")
        assert process.training.state == "failed"
        assert "No space left on device" in process.training.message
        process.start()  # the next one is possible


@pytest.mark.skipif(sys.platform == "win32", reason="processes are looked up by POSIX")
def test_a_cancelled_training_leaves_no_process(tmp_path: Path) -> None:
    with run_training(tmp_path, "wait") as (process, _, models):
        child = tmp_path / "runs" / "run-1" / "child"
        wait_until(lambda: child.is_file() and child.read_text())
        with refuses("training-runs"):
            process.start()
        assert process.cancel()
        wait_until(lambda: process.training.state == "cancelled")
        assert not models
        stat = Path(f"/proc/{child.read_text()}/stat")
        wait_until(lambda: not stat.exists() or " Z " in stat.read_text())
        assert not process.cancel()


def test_a_training_needs_labels(served: Any) -> None:
    page, _ = served
    assert page.json("/training")["state"] == "idle"
    assert page.post("/training", {}).error == (409, "too-few-labelled")
    assert page.client.request("DELETE", "/api/training").json["state"] == "idle"


def test_a_training_waits_for_no_mask_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with label_server(make_photos(tmp_path / "photos"), names=["dark", "bright"]) as (page, server):
        with monkeypatch.context() as patch:
            patch.setattr("fullconv.label.store.store.write_mask", fail)
            for id in page.ids().values():
                page.stroke(id, 0, LEFT)
            with refuses("masks-not-written"):
                server.start_training()
        assert "No space left on device" in caplog.text
        assert server.store.failure
        assert server.store.flush(), "they are tried again"
        assert len(list((server.store.data / "masks").iterdir())) == 3


def test_an_image_that_asks_for_a_new_order_while_images_are_ranked_is_heard(tmp_path: Path) -> None:
    with open_session(make_photos(tmp_path / "photos")) as store:
        learner = Learner(None, store.data / ".label" / "taps", store.input)
        work, calls = make_server(store, learner).work, []  # its threads do not run

        def rank() -> None:
            calls.append(1)
            work._unranked = len(calls) == 1

        work._rank_all = rank  # type: ignore[method-assign]
        work._unranked = True
        work._rank()
        work._rank()
        assert len(calls) == 2


# Processes


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_kill_loses_no_stroke_that_was_answered(tmp_path: Path) -> None:
    assert kill_sessions(make_photos(tmp_path / "photos"), kills=2, seed=0) > 5


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")
@pytest.mark.parametrize("painted", [False, True])
def test_the_last_line_names_the_next_command_that_works(tmp_path: Path, painted: bool) -> None:
    photos = make_photos(tmp_path / "photos")
    if painted:
        with label_process(photos, "--classes", "dark,bright") as (page, _):
            page.stroke(page.ids()["a.png"], 0, LEFT)
    with label_process(photos) as (_, process):
        process.send_signal(signal.SIGINT)
        _, errors = process.finish()
    last = errors.splitlines()[-1]
    assert ("next: fullconv train" in last) == painted
    assert ("nothing is labelled yet" in last) != painted
