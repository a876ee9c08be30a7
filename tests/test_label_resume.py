"""A labelling that goes on after its folder or its server changed: classes, photos, masks, models, lost answers."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.cli.pages.label import _warn_of_unknown
from fullconv.label.store.canvas import Canvas
from fullconv.label.store.folder import recall_start, remember_start
from fullconv.label.store.journal import Journal, read_journal
from fullconv.label.store.session import open_session
from fullconv.label.store.store import Store
from fullconv.label.store.strokes import Stroke
from label_folder import ids, keys_of, line, make_photo, make_photos
from refusals import refuses
from waiting import LIMIT


def add_labelme(folder: Path, name: str, label: str) -> None:
    """Write a photo of 60 x 40 pixels whose left half is labelled."""
    make_photo(folder / f"{name}.png", (40, 60))
    points = [[0, 0], [30, 0], [30, 40], [0, 40]]
    shape = {"label": label, "points": points, "shape_type": "polygon", "group_id": None, "flags": {}}
    values = {"version": "5.0.0", "flags": {}, "shapes": [shape], "imagePath": f"{name}.png", "imageData": None}
    values |= {"imageHeight": 40, "imageWidth": 60}
    (folder / f"{name}.json").write_text(json.dumps(values), "utf-8")


def make_set(root: Path, mask: UInt8) -> Path:
    make_photos(root / "images")
    (root / "masks").mkdir()
    for name in "abc":
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def names_of(store: Store) -> list[str]:
    return [one.name for one in store.classes.classes]


def count_names(store: Store, id: str) -> dict[str, int]:
    names = {one.key: one.name for one in store.classes.classes}
    keys, counts = np.unique(keys_of(store, id), return_counts=True)
    return {names.get(int(key), "nothing"): int(count) for key, count in zip(keys, counts, strict=True)}


def test_classes_keep_their_meaning_when_a_data_set_gets_new_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "set"
    add_labelme(root, "a", "car")
    add_labelme(root, "b", "tree")
    with open_session(root) as store:
        store.change_classes({"action": "rename", "key": 1, "name": "vehicle"})
        store.change_classes({"action": "delete", "key": 0})
    add_labelme(root, "c", "bus")  # names are sorted, so that car and tree have other ids now
    for _ in range(2):
        with open_session(root) as store:
            assert names_of(store) == ["vehicle", "tree", "bus"]
            shown = {name: count_names(store, id) for name, id in ids(store).items()}
        assert shown == {
            "a.png": {"vehicle": 1200, "nothing": 1200},
            "b.png": {"tree": 1200, "nothing": 1200},
            "c.png": {"bus": 1200, "nothing": 1200},
        }
    assert caplog.text.count("which are added to those of this labelling: bus") == 1
    for index, name in enumerate("abc"):
        assert set(np.unique(Image.open(store.data / "masks" / f"{name}.png"))) == {index, 255}


def test_a_class_added_on_the_page_is_not_one_that_the_data_set_gets_later(tmp_path: Path) -> None:
    root = tmp_path / "set"
    add_labelme(root, "a", "car")
    add_labelme(root, "c", "bus")
    with open_session(root) as store:
        store.change_classes({"action": "add", "name": "tree"})
        store.change_classes({"action": "rename", "key": 3, "name": "hedge"})
    add_labelme(root, "b", "tree")
    with open_session(root) as store:
        assert names_of(store) == ["background", "bus", "car", "hedge", "tree"]
        assert count_names(store, ids(store)["b.png"]) == {"tree": 1200, "background": 1200}


def test_a_mask_that_changes_while_its_image_is_open_is_read_the_next_time(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", np.eye(60, 80, dtype=np.uint8))
    other = np.eye(60, 80, 5, dtype=np.uint8)
    with open_session(root) as store:
        id = ids(store)["images/a.png"]
        keys_of(store, id)
        Image.fromarray(other).save(root / "masks" / "a.png")
        os.utime(root / "masks" / "a.png", ns=(1, 1))
        store.paint(id, line([[70, 50]], key=1))
    with open_session(root) as store:
        assert (keys_of(store, id) == other)[:40, :60].all()
    written = np.asarray(Image.open(store.data / "masks" / "images" / "a.png"))
    assert (written == other)[:40, :60].all()


def test_a_data_set_of_other_names_alone_is_refused(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", np.eye(60, 80, dtype=np.uint8))
    (root / "dataset.yaml").write_text("names: [ground, cell]\n", "utf-8")
    with open_session(root) as store:
        assert names_of(store) == ["ground", "cell"]
    (root / "dataset.yaml").write_text("names: [soil, nucleus]\n", "utf-8")
    with refuses("labels-renamed", root, "soil, nucleus"), open_session(root):
        pass


def test_masks_that_were_changed_elsewhere_are_read_again(tmp_path: Path) -> None:
    root = make_set(tmp_path / "set", np.eye(60, 80, dtype=np.uint8))
    with open_session(root) as store:
        store.paint(ids(store)["images/a.png"], line([[70, 50]], key=1))
    other = np.eye(60, 80, 5, dtype=np.uint8)
    for name in "ab":
        Image.fromarray(other).save(root / "masks" / f"{name}.png")
        os.utime(root / "masks" / f"{name}.png", ns=(1, 1))
    with open_session(root) as store:
        painted = keys_of(store, ids(store)["images/a.png"])
    assert (painted != other).any()
    assert (painted == other)[:40, :60].all()
    for name, expected in (("a", painted), ("b", other), ("c", np.eye(60, 80))):
        assert (np.asarray(Image.open(store.data / "masks" / "images" / f"{name}.png")) == expected).all()


def test_a_photo_of_another_size_is_refused_and_its_mask_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = make_photos(tmp_path / "photos")
    with open_session(photos) as store:
        id = ids(store)["a.png"]
        store.paint(id, line([[10, 10]]))
        store.undo(id, "a")
        store.redo(id, "a")
    mask = store.data / "masks" / "a.png"
    before = mask.read_bytes()
    make_photo(photos / "a.png", (120, 160))
    with open_session(photos) as store:
        with refuses("other-image-labelled", photos / "a.png", "160 x 120"):
            store.read(id, range(1), range(1))
        assert store.flush()
    assert "the mask of a.png is not written" in caplog.text
    assert mask.read_bytes() == before


def test_sessions_have_different_ids_that_stay(tmp_path: Path) -> None:
    photos, seen = make_photos(tmp_path / "photos"), set()
    for out in (tmp_path / "one", tmp_path / "two"):
        with open_session(photos, out) as store:
            id, session = ids(store)["a.png"], store.session
            assert store.photo_version(id) == "", "the size is not known yet"
            store.size(id)
            seen |= {session, store.photo_version(id)}
        with open_session(photos, out) as store:
            assert store.session == session
            assert store.size(id) == (60, 80)
            assert store.photo_version(id) in seen
    assert len(seen) == 4
    project = tmp_path / "one" / ".label" / "project.jsonl"
    project.write_text(project.read_text("utf-8").replace('"id":', '"no":', 1), "utf-8")  # as earlier versions wrote it
    for _ in range(2):
        with open_session(photos, tmp_path / "one") as store:
            seen.add(store.session)
    assert len(seen) == 5


def test_the_command_brings_back_no_class_that_was_deleted_merged_or_renamed(tmp_path: Path) -> None:
    photos, names = make_photos(tmp_path / "photos"), ["empty", "tissue", "gland", "vessel"]
    with open_session(photos, names=names) as store:
        for change in (
            {"action": "rename", "key": 1, "name": "Muscle"},
            {"action": "rename", "key": 1, "name": "stroma"},
            {"action": "delete", "key": 2},
            {"action": "merge", "key": 3, "into": 0},
        ):
            store.change_classes(change)
    for _ in range(2):
        with open_session(photos, names=[*names, "muscle", "Bone"]) as store:
            assert names_of(store) == ["empty", "stroma", "Bone"]


def test_the_model_of_a_moved_folder_is_found_and_one_that_is_gone_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Path("runs", "run-1", "model.onnx")
    for folder in (tmp_path / "data" / place.parent, tmp_path / "data" / ".label"):
        folder.mkdir(parents=True)
    (tmp_path / "data" / place).touch()
    assert recall_start(tmp_path / "data") is None
    remember_start(tmp_path / "data", tmp_path / "data" / place)
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    assert recall_start(moved) == moved / place
    other = tmp_path / "other.onnx"
    other.touch()
    remember_start(moved, other)
    assert recall_start(moved) == other
    assert caplog.text == ""
    other.unlink()
    assert recall_start(moved) is None
    assert f"{other}: the model from which this labelling started is gone" in caplog.text


def test_classes_of_a_model_that_the_session_lacks_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    _warn_of_unknown(["sky", "Road "], ["ROAD", "sky"])
    assert capsys.readouterr().err == ""
    _warn_of_unknown(["sky", "road", "car"], ["road"])
    assert capsys.readouterr().err.strip().endswith("no class here has their name: sky, car")


# Answers that are lost


def test_a_change_whose_answer_is_lost_with_the_server_is_made_once(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    with open_session(photos) as store:
        id = ids(store)["a.png"]
        store.paint(id, line([[10, 10]]), 1)
        first = store.paint(id, line([[50, 50]]), 2)
    with open_session(photos) as store:
        again = store.paint(id, line([[20, 20]]), 2)
        assert (again[0].id, again[0].box, again[1]) == (2, first[0].box, first[1])
        assert [store.undo(id, "a", 3), store.undo(id, "a", 3)] == [again[0], again[0]]
    with open_session(photos) as store:
        for number, undo, expected in ((3, True, 2), (4, False, 2), (4, False, 2), (5, True, 2), (6, True, 1)):
            moved = store.undo(id, "a", number) if undo else store.redo(id, "a", number)
            assert moved is not None
            assert moved.id == expected
        assert store.paint(id, line([[50, 50]], client="b"), 6)[0].id == 3, "another tab has its own numbers"


def test_a_repeated_request_waits_for_the_first_one_and_failures_are_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def make(canvas: Canvas) -> Stroke:
        begun.set()
        assert go_on.wait(LIMIT)
        return line([[10, 10]])(canvas)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with open_session(make_photos(tmp_path / "photos")) as store, ThreadPoolExecutor(2) as pool:
        id = ids(store)["a.png"]
        first = pool.submit(store.paint, id, make, 1)
        assert begun.wait(LIMIT)
        second = pool.submit(store.paint, id, line([[40, 40]]), 1)
        go_on.set()
        assert [one.result(LIMIT)[0].id for one in (first, second)] == [1, 1]
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", fail)
            with pytest.raises(OSError, match="No space"):
                store.paint(id, line([[50, 50]]), 2)
        assert store.paint(id, line([[50, 50]]), 2)[0].id == 2
        assert len(read_journal(store.data / ".label" / "strokes" / f"{id}.jsonl")[0]) == 2
