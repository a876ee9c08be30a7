"""The server of label after failures: full disks, fits that fail, lost answers, and names that are not UTF-8."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

pytest.importorskip("onnx")

from fullconv.files import open_regular
from fullconv.label.app import make_server
from fullconv.label.live.learner import Learner
from fullconv.label.store.session import open_session
from fullconv.label.work import Work
from label_folder import make_photo, make_photos
from label_server import label_server
from refusals import refuses
from waiting import wait_until

LEFT, RIGHT = [[5, 5], [30, 50]], [[50, 5], [75, 50]]


def fail(*_: object) -> Any:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_named_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_for_reading(path: Path, *flags: int) -> int:
        return fail() if flags else open_regular(path)

    with label_server(make_photos(tmp_path / "photos")) as (page, _):
        id = page.ids()["a.png"]
        with monkeypatch.context() as patch:
            patch.setattr("fullconv.label.store.journal.open_regular", open_for_reading)
            body = {"client": "a", "tool": "brush", "class": 0, "points": LEFT, "radius": 1}
            answer = page.post(f"/images/{id}/strokes", body)
            assert answer.error == (507, "file-not-writable")
            assert "No space left" in answer.json["message"]
        with monkeypatch.context() as patch:
            patch.setattr("fullconv.label.store.store.write_mask", fail)
            page.stroke(id, 0, LEFT)
            answer = page.post("/training", {})
            assert answer.error == (409, "masks-not-written")
            assert "No space left" in answer.json["message"]


def test_a_training_gives_up_before_the_page_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with label_server(make_photos(tmp_path / "photos")) as (page, server):
        waits: list[float] = []
        monkeypatch.setattr(server.store, "flush", lambda timeout=600.0: waits.append(timeout))
        answer = page.post("/training", {})
        assert answer.error == (409, "masks-not-written")
        assert "not all masks are written yet" in answer.json["message"]
        assert waits[0] < 60, "milliseconds in TIMEOUT of api.js"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_that_is_not_utf_8_is_shown_and_labelled(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", ("b.png",))
    make_photo(photos / os.fsdecode(b"a\xff.png"))
    (photos / os.fsdecode(b"c\xff.png")).write_bytes(b"\x89PNG\r\n\x1a\n and nothing")
    with label_server(photos) as (page, server):
        wait_until(lambda: page.json("/images")["images"][-1]["error"])
        images = page.json("/images")["images"]
        assert {image["name"] for image in images} == {"b.png", "a\\udcff.png", "c\\udcff.png"}
        assert "c\\udcff.png" in images[-1]["error"]
        page.stroke(page.ids()["a\\udcff.png"], 0, LEFT)
        assert server.store.flush()


def test_strokes_are_learned_after_a_fit_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[object] = []

    def fail(*arguments: object) -> None:
        failures.append(arguments)
        raise ZeroDivisionError

    with label_server(make_photos(tmp_path / "photos"), names=["dark", "bright"]) as (page, server):
        assert server.work.wait()
        id, work = page.ids()["a.png"], server.work
        with monkeypatch.context() as patch:
            patch.setattr(work.learner, "set_labels", fail)
            page.stroke(id, 0, LEFT)
            page.stroke(id, 1, RIGHT)
            wait_until(lambda: failures)
            assert not work.wait(0.5)
            wait_until(lambda: not work._busy)  # other images are prepared meanwhile
        page.stroke(page.ids()["b.png"], 0, LEFT)
        wait_until(lambda: page.json("/project")["version"] > 0)
        assert work.wait()


def test_images_are_prepared_again_for_a_new_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(make_photos(tmp_path / "photos")) as store:
        work: Work = make_server(store, Learner(None, tmp_path / "taps", store.input)).work  # its threads do not run
        work._prepared |= set(store.photos)
        assert not work._choose()
        monkeypatch.setattr(work.learner, "replace", lambda start: None)
        work._fit(set(), False, tmp_path / "model.onnx")
        assert work._choose()


def test_a_photo_that_is_replaced_while_it_is_open_is_refused_and_the_model_learns_from_others(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    with label_server(photos, names=["dark", "bright"]) as (page, server):
        one, other = page.ids()["a.png"], page.ids()["b.png"]
        for id in (one, other):
            page.stroke(id, 0, LEFT)
            page.stroke(id, 1, RIGHT)
        wait_until(lambda: page.json("/project")["version"] > 0)
        assert server.work.wait()
        make_photo(photos / "a.png", (20, 30))
        for path in ("photo/0/0/0", "labels/0/0/0", "prediction/0/0/0", "uncertain"):
            assert page.get(f"/images/{one}/{path}").error == (422, "photo-changed")
        stroke = {"client": "a", "tool": "brush", "class": 0, "points": LEFT, "radius": 1}
        for what, body in (("strokes", stroke), ("undo", {"client": page.name}), ("redo", {"client": page.name})):
            assert page.post(f"/images/{one}/{what}", body).error == (422, "photo-changed")
        with refuses("photo-changed", photos / "a.png"):
            server.store.sample(one, 10)
        before = page.json("/project")["version"]
        page.stroke(other, 0, [[5, 55]])
        wait_until(lambda: page.json("/project")["version"] > before)
        assert "changed while it was open" in page.json("/images")["images"][-1]["error"]


def test_a_request_that_is_sent_again_is_carried_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with label_server(make_photos(tmp_path / "photos"), names=["dark", "bright"]) as (page, server):
        id = page.ids()["a.png"]
        first = page.stroke(id, 0, LEFT, number=1)
        assert page.stroke(id, 0, LEFT, number=1) == first
        assert page.stroke(id, 0, RIGHT, number=2)["stroke"] == 2
        undo = {"client": page.name, "number": 3}
        for _ in range(2):
            assert page.post(f"/images/{id}/undo", undo).json["stroke"] == 2
        assert page.post(f"/images/{id}/redo", undo | {"number": 4}).json["stroke"] == 2
        assert page.move(id, "undo")["stroke"] == 2
        assert page.move(id, "undo")["stroke"] == 1, "requests without a number are new ones"
        page.stroke(id, 0, LEFT, number=5)
        page.stroke(id, 1, RIGHT, number=6)
        wait_until(lambda: page.json("/project")["version"] > 0)
        accepted = page.stroke(id, 255, [[40, 30]], tool="accept", scope="image", number=7)
        monkeypatch.setattr(server.work.learner, "predict", lambda *_: None)  # as at the start, before it has learned
        assert page.stroke(id, 255, [[40, 30]], tool="accept", scope="image", number=7) == accepted
