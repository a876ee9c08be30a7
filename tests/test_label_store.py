"""What a labelling session keeps: strokes as pixels, undo and redo, journals, classes, and masks on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fullconv.arrays import Mask, UInt8
from fullconv.cli.pages.label import label
from fullconv.data.layouts import find_dataset, survey
from fullconv.doctor.examine import examine
from fullconv.label.store.canvas import Canvas
from fullconv.label.store.classes import ClassTable
from fullconv.label.store.drawing import cover_brush, cover_polygon
from fullconv.label.store.journal import Journal, read_journal
from fullconv.label.store.sampling import sample_pixels
from fullconv.label.store.session import open_session
from fullconv.label.store.strokes import Stroke, brush, paint, parse_operations, pixels, polygon, read_points
from label_folder import draw_line, ids, keys_of, line, make_photo, make_photos
from refusals import refuses

SIZE = (300, 520)

coordinates = st.floats(-40, 560, width=32)
lines = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=6).map(np.array)


def brute_brush(points: Any, radius: float, size: tuple[int, int]) -> Mask:
    """The definition: the centre of a pixel is within the radius of a segment."""
    y, x = (axis + 0.5 for axis in np.mgrid[: size[0], : size[1]])
    covered = np.zeros(size, bool)
    for start, end in pairwise(points if len(points) > 1 else [points[0], points[0]]):
        along = end - start
        square = float(along @ along)
        share = 0.0 if square == 0 else (((x - start[0]) * along[0] + (y - start[1]) * along[1]) / square).clip(0, 1)
        covered |= np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1]) <= radius
    return covered


def brute_polygon(points: Any, size: tuple[int, int]) -> Mask:
    """The definition: a ray from the centre of a pixel to the left crosses the line an odd number of times."""
    y, x = (axis + 0.5 for axis in np.mgrid[: size[0], : size[1]])
    inside = np.zeros(size, bool)
    for start, end in zip(points, np.roll(points, -1, 0), strict=True):
        spans = (np.minimum(start[1], end[1]) <= y) & (y < np.maximum(start[1], end[1]))
        with np.errstate(all="ignore"):
            crossing = start[0] + (y - start[1]) / (end[1] - start[1]) * (end[0] - start[0])
        inside ^= spans & (crossing <= x)
    return inside


@settings(max_examples=60)
@given(lines, st.floats(0.75, 60))
def test_the_brush_covers_the_centres_within_its_radius(points: Any, radius: float) -> None:
    covered = cover_brush(points, radius, range(SIZE[0]), range(SIZE[1]))
    near = brute_brush(points, radius + 1e-6, SIZE) & ~brute_brush(points, radius - 1e-6, SIZE)
    assert (covered == brute_brush(points, radius, SIZE))[~near].all()


@settings(max_examples=60)
@given(lines.filter(lambda points: len(points) > 2))
def test_a_polygon_covers_the_centres_inside(points: Any) -> None:
    covered = cover_polygon(points, range(SIZE[0]), range(SIZE[1]))
    assert (covered != brute_polygon(points, SIZE)).sum() <= len(points)  # centres on an edge, by rounding


@settings(max_examples=40)
@given(lines, st.floats(0.75, 60), st.integers(1, 299), st.integers(1, 519))
def test_parts_of_a_stroke_fit_together(points: Any, radius: float, row: int, column: int) -> None:
    whole = cover_brush(points, radius, range(SIZE[0]), range(SIZE[1]))
    area = cover_polygon(points, range(SIZE[0]), range(SIZE[1]))
    for rows in (range(row), range(row, SIZE[0])):
        for columns in (range(column), range(column, SIZE[1])):
            window = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
            assert (cover_brush(points, radius, rows, columns) == whole[window]).all()
            assert (cover_polygon(points, rows, columns) == area[window]).all()


def test_the_thinnest_pen_paints_a_pixel_anywhere() -> None:
    for x in np.linspace(5, 6, 11):
        assert cover_brush(np.array([[x, 5.0]]), 0.0, range(10), range(10)).any()


@st.composite
def operations(draw: Any) -> list[tuple[Any, ...]]:
    one = st.one_of(
        st.tuples(st.just("brush"), st.sampled_from("ab"), st.sampled_from([0, 1, 2, 255]), lines, st.floats(0, 50)),
        st.tuples(st.just("polygon"), st.sampled_from("ab"), st.sampled_from([0, 1, 255]), lines),
        st.tuples(st.just("pixels"), st.sampled_from("ab"), st.sampled_from([0, 255]), st.integers(0, 2**31)),
        st.tuples(st.sampled_from(["undo", "redo", "undo"]), st.sampled_from("ab")),
    )
    return draw(st.lists(one, max_size=60))


def make_stroke(size: tuple[int, int], operation: tuple[Any, ...]) -> Stroke:
    kind, client, key, *rest = operation
    if kind == "brush":
        return brush(size, client, key, *rest)
    if kind == "polygon":
        corners = np.concatenate([rest[0], [[100, 100], [200, 30], [10, 40]]])
        return polygon(size, client, key, corners)
    rng = np.random.default_rng(rest[0])
    top, left = int(rng.integers(0, size[0] - 40)), int(rng.integers(0, size[1] - 50))
    held = rng.choice(np.array([0, 255] if key == 255 else [0, 1, 2, 255], np.uint8), (40, 50))
    return pixels(client, key, left, top, held)


class Replay:
    """The simplest canvas: all strokes in order, and which are active; everything is painted again each time."""

    def __init__(self, size: tuple[int, int], base: UInt8 | None = None) -> None:
        self.size, self.base = size, base
        self.strokes: list[Stroke] = []
        self.active: list[bool] = []
        self.undone: dict[str, list[int]] = {}

    def apply(self, operation: tuple[Any, ...]) -> int | None:
        kind, client = operation[:2]
        mine = [index for index, stroke in enumerate(self.strokes) if stroke.client == client]
        if kind == "undo":
            index = next((index for index in reversed(mine) if self.active[index]), None)
            if index is not None:
                self.active[index] = False
                self.undone.setdefault(client, []).append(index)
            return index
        if kind == "redo":
            index = self.undone[client].pop() if self.undone.get(client) else None
            if index is not None:
                self.active[index] = True
            return index
        self.undone[client] = []
        self.strokes.append(make_stroke(self.size, operation))
        self.active.append(True)
        return len(self.strokes) - 1

    def keys(self) -> UInt8:
        keys = np.full(self.size, 255, np.uint8) if self.base is None else self.base.copy()
        for stroke, is_active in zip(self.strokes, self.active, strict=True):
            if is_active:
                paint(stroke, keys, 0, 0)
        return keys


@settings(max_examples=40)
@given(operations(), st.booleans(), st.integers(0, 3))
def test_a_canvas_shows_its_active_strokes_in_order(steps: list[Any], has_base: bool, look_every: int) -> None:
    base = np.random.default_rng(1).choice(np.array([1, 2, 255], np.uint8), SIZE) if has_base else None
    read = None if base is None else (lambda r, c: base[r.start : r.stop, c.start : c.stop])
    canvas, replay, lines = Canvas(SIZE, read), Replay(SIZE, base), []
    for number, step in enumerate(steps):
        expected = replay.apply(step)
        if step[0] in ("undo", "redo"):
            moved = canvas.undo(step[1]) if step[0] == "undo" else canvas.redo(step[1])
            assert (None if moved is None else moved.id) == (None if expected is None else expected + 1)
            lines += [] if moved is None else [{"op": step[0], "id": moved.id, "client": step[1]}]
        else:
            lines.append(canvas.add(make_stroke(SIZE, step)).to_line())
        if look_every and number % look_every == 0:
            canvas.count()
    expected_keys = replay.keys()
    assert (canvas.read(range(SIZE[0]), range(SIZE[1])) == expected_keys).all()
    assert (canvas.count() == np.bincount(expected_keys.ravel(), minlength=256)).all()
    assert (np.concatenate(list(canvas.bands(77))) == expected_keys).all()
    assert (canvas.read(range(3, 290), range(10, 500), 8) == expected_keys[3:290:8, 10:500:8]).all()
    again = Canvas(SIZE, read)
    for operation, subject, client in parse_operations(json.loads(json.dumps(lines)), "journal"):
        if isinstance(subject, Stroke):
            again.add(subject)
        else:
            moved = again.undo(client) if operation == "undo" else again.redo(client)
            assert moved is not None
            assert moved.id == subject
    assert (again.read(range(SIZE[0]), range(SIZE[1])) == expected_keys).all()


def test_an_early_undo_paints_only_the_strokes_after_it() -> None:
    canvas = Canvas((200, 200))
    for number in range(100):
        canvas.add(draw_line(canvas, "ab"[number % 2], number % 3, [[10, 10 + number], [190, 100]]))
    canvas.count()
    for _ in range(50):
        assert canvas.undo("a") is not None
    assert canvas.undo("a") is None
    expected = Canvas((200, 200))
    for number in range(1, 100, 2):
        expected.add(draw_line(expected, "b", number % 3, [[10, 10 + number], [190, 100]]))
    assert (canvas.read(range(200), range(200)) == expected.read(range(200), range(200))).all()


def test_memory_follows_what_is_painted_not_the_size_of_the_image() -> None:
    canvas = Canvas((20_000, 20_000))
    for number in range(20):
        canvas.add(draw_line(canvas, "a", 1, [[9_000 + number, 9_000], [9_500, 9_400]], 5))
    canvas.count()
    assert canvas.bytes < 2_000_000


@given(operations(), st.integers(1, 400))
@settings(max_examples=30)
def test_samples_are_painted_pixels_of_every_class(steps: list[Any], most: int) -> None:
    canvas, replay = Canvas(SIZE), Replay(SIZE)
    for step in steps:
        replay.apply(step)
        if step[0] in ("undo", "redo"):
            canvas.undo(step[1]) if step[0] == "undo" else canvas.redo(step[1])
        else:
            canvas.add(make_stroke(SIZE, step))
    resolve = np.arange(256, dtype=np.uint8)
    resolve[2] = 1  # class 2 was merged into class 1
    truth = resolve[replay.keys()]
    rows, columns, keys = sample_pixels(canvas, resolve, most)
    assert (truth[rows, columns] == keys).all()
    assert len(np.unique(rows * SIZE[1] + columns)) == len(rows)
    classes = [key for key in np.unique(truth).tolist() if key != 255]
    for key in classes:
        assert (keys == key).sum() == min((truth == key).sum(), most // len(classes))


# Classes


def test_keys_are_never_used_again() -> None:
    table = ClassTable()
    table.add_all(["a", "b", "c"])
    for action in ({"action": "delete", "key": 1}, {"action": "add", "name": "d"}):
        table.apply(table.plan(action))
    assert [(one.key, one.name) for one in table.classes] == [(0, "a"), (2, "c"), (3, "d")]
    assert table.resolve[[0, 1, 2, 3, 4, 255]].tolist() == [0, 255, 2, 3, 255, 255]
    assert table.ids[[0, 1, 2, 3, 255]].tolist() == [0, 255, 1, 2, 255]


def test_merges_are_followed_to_the_class_that_remains() -> None:
    table = ClassTable()
    table.add_all(["a", "b", "c", "d"])
    for action in ({"key": 0, "into": 1}, {"key": 1, "into": 2}):
        table.apply(table.plan({"action": "merge", **action}))
    assert table.resolve[:4].tolist() == [2, 2, 2, 3]
    table.apply(table.plan({"action": "delete", "key": 2}))
    assert table.resolve[:4].tolist() == [255, 255, 255, 3]


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ({"action": "paint"}, "unknown-class-action"),
        ({"action": "add", "name": " A "}, "class-name-taken"),
        ({"action": "add", "name": "  "}, "class-name"),
        ({"action": "add", "name": "x\u202e"}, "class-name"),
        ({"action": "add", "name": "x" * 101}, "class-name"),
        ({"action": "add", "name": "ignore"}, "class-name-reserved"),
        ({"action": "add", "name": "x", "color": "red"}, "class-color"),
        ({"action": "add", "name": "x", "color": "#ffffff"}, "class-color-white"),
        ({"action": "rename", "key": 1, "name": "a"}, "class-name-taken"),
        ({"action": "recolour", "key": 1, "color": "#000000"}, "class-color-taken"),
        ({"action": "merge", "key": 1, "into": 1}, "merged-into-itself"),
        ({"action": "merge", "key": 1, "into": 9}, "unknown-class-key"),
        ({"action": "delete", "key": 9}, "unknown-class-key"),
        ({"action": "delete"}, "unknown-class-key"),
    ],
)
def test_impossible_changes_of_classes_are_refused(action: dict[str, Any], code: str) -> None:
    table = ClassTable()
    table.add_all(["a", "b"])
    with refuses(code):
        table.plan(action)
    assert table.version == 2


def test_there_are_at_most_255_classes_and_the_last_one_stays() -> None:
    table = ClassTable()
    table.add_all([f"class {number}" for number in range(255)])
    assert len({one.color for one in table.classes}) == 255
    with refuses("too-many-classes"):
        table.plan({"action": "add", "name": "one more"})
    for number in range(254):
        table.apply(table.plan({"action": "delete", "key": number}))
    with refuses("last-class"):
        table.plan({"action": "delete", "key": 254})


# Journals


def test_a_line_that_a_kill_cut_is_left_out_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    journal = Journal(path, 0)
    journal.append({"n": 1})
    journal.close()
    whole = path.read_bytes()
    for cut in (b'{"n": 2', b'{"n": 2}', b"\x00\xff"):
        path.write_bytes(whole + cut)
        lines, length = read_journal(path)
        assert (lines, length) == ([{"n": 1}], len(whole))
        journal = Journal(path, length)
        journal.append({"n": 3})
        journal.close()
        assert read_journal(path)[0] == [{"n": 1}, {"n": 3}]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_damaged_line_in_a_journal_is_an_error(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line + b"\n")
    with refuses("damaged-journal", path):
        read_journal(path)


def test_a_journal_that_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with refuses("unreadable-journal", tmp_path / "folder"):
        read_journal(tmp_path / "folder")
    with refuses("file-not-writable"):
        Journal(tmp_path / "folder", 0).append({})


LINE: dict[str, Any] = {"op": "stroke", "id": 1, "client": "a", "tool": "brush", "key": 0, "box": [0, 0, 1, 1]}
LINE |= {"points": [[1, 1]], "radius": 1}


@pytest.mark.parametrize(
    "line",
    [
        {"op": "stroke"},
        {"op": "jump"},
        {"op": "undo", "id": "x", "client": "a"},
        {**LINE, "key": 300},
        {**LINE, "box": [0, 0, -1, 1]},
        {**LINE, "points": []},
        {**LINE, "points": [[1e999, 1]]},
        {**LINE, "tool": "spray"},
        {**LINE, "tool": "pixels", "box": [0, 0, 9, 9], "keys": "eJwDAAAAAAE="},
        {**LINE, "tool": "pixels", "box": [0, 0, 9, 9], "keys": "no base 64"},
        {**LINE, "tool": "pixels", "box": [0, 0, 2**40, 2**40], "keys": "eJwDAAAAAAE="},
    ],
)
def test_lines_that_are_no_strokes_are_errors(line: dict[str, Any]) -> None:
    with refuses("damaged-journal"):
        parse_operations([line], "a.jsonl")


@pytest.mark.parametrize("points", [[], [[1.0]], [[float("nan"), 1.0]], [[1e300, 1.0]], [[1.0, 1.0]] * 20_001])
def test_points_must_be_finite_and_not_too_many(points: list[list[float]]) -> None:
    with refuses("stroke-points"):
        read_points(points)


def test_strokes_that_cost_too_much_are_refused() -> None:
    zigzag = np.array([[float(n % 2) * 9000, n] for n in range(9000)], np.float64)
    with refuses("stroke-too-large"):
        brush((10_000, 10_000), "a", 1, zigzag, 4000)
    with refuses("stroke-radius"):
        brush((10, 10), "a", 1, zigzag, 1e9)
    with refuses("stroke-points"):
        polygon((10, 10), "a", 1, zigzag[:2])


# Sessions


def test_a_session_writes_exactly_the_painted_pixels(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    before = {path: path.read_bytes() for path in photos.iterdir()}
    with open_session(photos, names=["sky", "tree"]) as store:
        id = ids(store)["b.png"]
        store.paint(id, line([[10, 10], [60, 50]]))
        painted = keys_of(store, id)
        assert store.flush()
        assert store.painted(id) == (painted != 255).mean()
    data = tmp_path / "photos-labels"
    assert sorted(path.name for path in data.iterdir()) == [".label", "dataset.yaml", "images", "masks"]
    assert [path.name for path in (data / "masks").iterdir()] == ["b.png"]
    assert (data / "images").is_symlink()
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    dataset = find_dataset(data)
    assert dataset.labels.class_names == ("sky", "tree")
    (sample,) = dataset.splits["train"]
    pixels, target = dataset.read(sample)
    assert (target == painted).all()
    assert set(np.unique(target)) == {0, 255}
    assert (pixels == np.asarray(Image.open(photos / "b.png"))).all()


def fail_to_write(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_mask_that_failed_is_written_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(make_photos(tmp_path / "photos")) as store:
        monkeypatch.setattr("fullconv.label.store.store.write_mask", fail_to_write)
        store.paint(ids(store)["a.png"], line([[10, 10]]))
        assert not store.flush()
        monkeypatch.undo()
    assert (store.data / "masks" / "a.png").is_file()
    assert not store.failure


def test_the_command_fails_if_a_mask_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos")
    with monkeypatch.context() as patch:
        patch.setattr("fullconv.label.store.store.write_mask", fail_to_write)
        patch.setattr("fullconv.web.run", lambda *_, **__: False)
        with open_session(photos) as store:
            store.paint(ids(store)["a.png"], line([[10, 10]]))
        with refuses("masks-not-written", "a.png"):
            label(photos, no_browser=True)
    assert "all labels are in" not in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="command lines are private on Windows")
def test_the_token_is_not_in_the_command_line_of_the_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[Path] = []

    def look(address: str) -> bool:
        path = Path(url2pathname(urlsplit(address).path))
        token = capsys.readouterr().out.strip().partition("#token=")[2]
        assert len(token) > 20
        assert token not in address
        assert f'url=http://127.0.0.1:9/#token={token}"' in path.read_text(encoding="utf-8")
        assert path.stat().st_mode & 0o777 == 0o600
        opened.append(path)
        return True

    monkeypatch.setattr("webbrowser.open", look)
    monkeypatch.setattr("fullconv.web.run", lambda app, host, port, show, grace: show("http://127.0.0.1:9"))
    label(make_photos(tmp_path / "photos"))
    assert opened
    assert not opened[0].exists()


def test_images_are_opened_while_others_are_painted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(make_photos(tmp_path / "photos")) as store:
        first, second, third = ids(store).values()
        store.paint(first, line([[10, 10]]))

        def measure(canvas: Canvas) -> int:
            assert canvas is not opened.canvas or threading.current_thread() is owner, "another thread may change it"
            return 2**20

        opened, owner = store._open[first], threading.current_thread()
        monkeypatch.setattr(Canvas, "bytes", property(measure))
        with store._opened(first), ThreadPoolExecutor(1) as pool:
            pool.submit(keys_of, store, second).result()
        monkeypatch.setattr("fullconv.label.store.store.MOST_CANVAS_BYTES", 2**20)
        keys_of(store, third)
        assert list(store._open) == [third]


def test_an_undone_stroke_leaves_no_mask(tmp_path: Path) -> None:
    with open_session(make_photos(tmp_path / "photos")) as store:
        id = ids(store)["a.png"]
        store.paint(id, line([[10, 10]]))
        assert store.flush()
        assert (store.data / "masks" / "a.png").is_file()
        assert store.undo(id, "other") is None
        assert store.undo(id, "a") is not None
        assert store.flush()
        assert not (store.data / "masks" / "a.png").exists()
    with open_session(tmp_path / "photos") as store:
        assert store.redo(id, "a") is not None
        assert (keys_of(store, id) == 0).any()


NAMES = ("a.png", "a.jpg", "A.JPG.png", "train/x.png", "train/deep/x.png", "other/val/x.tif", "val.png")


def test_names_of_all_kinds_have_masks_of_their_own(tmp_path: Path) -> None:
    photos, painted = make_photos(tmp_path / "photos", NAMES), {}
    with open_session(photos) as store:
        for number, (name, id) in enumerate(ids(store).items()):
            store.paint(id, line([[5 + number, 10], [60, 50 - number]], key=number % 2))
            painted[name] = keys_of(store, id)
    dataset = find_dataset(store.data)
    assert survey(store.data).faults == ()
    read = {}
    for samples in dataset.splits.values():
        for sample in samples:
            read[sample.image.relative_to(store.data / "images").as_posix()] = dataset.read(sample)[1]
    assert read.keys() == painted.keys()
    assert all((read[name] == painted[name]).all() for name in painted)
    examination = examine(survey(store.data))
    assert not examination.errors


def test_folders_named_as_splits_divide_the_images(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", ("train/a.png", "train/b.png", "val/c.png", "test/d.png"))
    with open_session(photos) as store:
        for id in store.photos:
            store.paint(id, line([[5, 10], [60, 50]]))
            store.paint(id, line([[5, 50], [60, 10]], key=1))
    splits = find_dataset(store.data).splits
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 2, "val": 1, "test": 1}
    with open_session(photos) as store:
        for name in ("train/a.png", "train/b.png"):
            for _ in range(2):
                store.undo(ids(store)[name], "a")
    splits = find_dataset(store.data).splits  # nothing is left in train: the images of val are divided
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 1, "test": 1}


@settings(max_examples=12)
@given(
    operations(), st.lists(st.sampled_from(["delete", "merge", "add", "rename", "undo"]), max_size=4), st.integers(0, 9)
)
def test_masks_on_the_disk_follow_from_strokes_and_classes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], changes: list[str], seed: int
) -> None:
    root = tmp_path_factory.mktemp("session")
    make_photo(root / "photos" / "a.png", SIZE)
    make_photo(root / "photos" / "b.png", (10, 10))
    rng, replay, resolve = np.random.default_rng(seed), Replay(SIZE), np.arange(256)
    with open_session(root / "photos", names=["x", "y", "z"]) as store:
        id = ids(store)["a.png"]
        for step in steps:
            replay.apply(step)
            if step[0] in ("undo", "redo"):
                store.undo(id, step[1]) if step[0] == "undo" else store.redo(id, step[1])
            else:
                stroke = make_stroke(SIZE, step)
                kept = store.paint(id, lambda canvas: stroke)[1]  # noqa: B023
                if not kept:  # a stroke outside of the image is not kept
                    replay.strokes.pop()
                    replay.active.pop()
        for number, change in enumerate(changes):
            keys = [one.key for one in store.classes.classes]
            if change == "add":
                store.change_classes({"action": "add", "name": f"new {number}"})
            elif change == "rename":
                store.change_classes({"action": "rename", "key": keys[0], "name": f"name {number}"})
            elif change == "undo":
                replay.apply(("undo", "a"))
                store.undo(id, "a")
            elif len(keys) > 1:
                key, into = (int(chosen) for chosen in rng.choice(keys, 2, replace=False))
                store.change_classes({"action": change, "key": key, "into": into})
                resolve[resolve == key] = into if change == "merge" else 255
    expected = resolve[replay.keys()]
    with open_session(root / "photos") as store:
        assert (keys_of(store, id) == expected).all()
        table = {one.key: index for index, one in enumerate(store.classes.classes)} | {255: 255}
        names = [one.name for one in store.classes.classes]
    path = root / "photos-labels" / "masks" / "a.png"
    assert path.is_file() == bool((expected != 255).any())
    if path.is_file():
        stored = np.asarray(Image.open(path))
        assert (stored == np.vectorize(table.__getitem__)(expected)).all()
        if len(names) > 1:
            assert find_dataset(root / "photos-labels").labels.class_names == tuple(names)


def test_undo_after_a_merge_takes_back_the_stroke(tmp_path: Path) -> None:
    with open_session(make_photos(tmp_path / "photos"), names=["x", "y"]) as store:
        id = ids(store)["a.png"]
        store.paint(id, line([[10, 10], [60, 10]], key=0))
        first = keys_of(store, id)
        store.paint(id, line([[10, 12], [60, 12]], key=1))
        store.change_classes({"action": "merge", "key": 1, "into": 0})
        store.undo(id, "a")
        assert (keys_of(store, id) == first).all()


def test_a_record_that_is_older_than_its_journal_is_made_again(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    with open_session(photos) as store:
        id = ids(store)["a.png"]
        store.paint(id, line([[10, 10], [60, 10]]))
    mask, journal = store.data / "masks" / "a.png", store.data / ".label" / "strokes" / f"{id}.jsonl"
    old = mask.read_bytes()
    with open_session(photos) as store:
        store.paint(id, line([[10, 40], [60, 40]]))
    new, text = mask.read_bytes(), journal.read_bytes()
    assert new != old
    mask.write_bytes(old)  # as if a kill had come between the stroke and its mask
    journal.write_bytes(text + b'{"op": "stroke", "id"')
    with open_session(photos) as store:
        assert store.flush()
        assert mask.read_bytes() == new


def test_a_new_image_with_the_stem_of_an_old_one_gets_its_own_mask(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", ("a.png", "b.png"))
    with open_session(photos) as store:
        store.paint(ids(store)["a.png"], line([[10, 10], [60, 10]]))
        painted = keys_of(store, ids(store)["a.png"])
    make_photo(photos / "a.jpg")
    with open_session(photos) as store:
        pass
    assert [path.name for path in (store.data / "masks").iterdir()] == ["a.png.png"]
    dataset = find_dataset(store.data)
    assert (dataset.read(dataset.splits["train"][0])[1] == painted).all()


# Folders


def test_a_data_set_opens_for_correction(tmp_path: Path) -> None:
    root = tmp_path / "set"
    truth = {}
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        make_photo(root / "images" / split / f"{name}.jpg")
        mask = np.zeros((60, 80), np.uint8)
        mask[10:30, 10:40] = 255
        (root / "masks" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / split / f"{name}.png")
        truth[f"images/{split}/{name}.jpg"] = mask // 255
    (root / "dataset.yaml").write_text(
        "names: [ground, cell]\npalette: ['#112233', '#00ff00']\nvalues: {0: ground, 255: cell}\n", "utf-8"
    )
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with open_session(root) as store:
        assert [(one.name, one.color) for one in store.classes.classes] == [
            ("ground", (17, 34, 51)),
            ("cell", (0, 255, 0)),
        ]
        assert ids(store).keys() == truth.keys()
        id = ids(store)["images/train/b.jpg"]
        assert (keys_of(store, id) == truth["images/train/b.jpg"]).all()
        store.paint(id, line([[50, 50], [70, 50]], key=1))
        corrected = keys_of(store, id)
        assert store.undo(id, "b") is None
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == files
    assert store.data == tmp_path / "set-labels"
    dataset = find_dataset(store.data)
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 2, "val": 1}
    for samples in dataset.splits.values():
        for sample in samples:
            name = sample.image.relative_to(store.data / "images").as_posix()
            expected = corrected if name == "images/train/b.jpg" else truth[name]
            assert (dataset.read(sample)[1] == expected).all()
    with open_session(store.data) as store:  # DATA itself goes on
        assert (keys_of(store, id) == corrected).all()


def test_a_data_set_that_is_not_clear_is_refused_until_it_is(tmp_path: Path) -> None:
    root = tmp_path / "set"
    make_photos(root / "images")
    for folder, top in (("gt", 10), ("labels", 20)):
        (root / folder).mkdir()
        mask = np.zeros((60, 80), np.uint8)
        mask[top:50] = 1
        for name in "abc":
            Image.fromarray(mask).save(root / folder / f"{name}.png")
    with refuses("labels-unclear", "gt and labels have masks", f"`fullconv check {root}`"), open_session(root):
        pass
    (root / "dataset.yaml").write_text("images: images/*.png\nmasks: nowhere/*.png\n", "utf-8")
    with refuses("missing-file", "nowhere"), open_session(root):
        pass
    (root / "dataset.yaml").write_text("images: images/*.png\nmasks: gt/*.png\n", "utf-8")
    with open_session(root) as store:
        assert ids(store).keys() == {f"images/{name}.png" for name in "abc"}
        assert (keys_of(store, ids(store)["images/a.png"]) == np.repeat([0, 1, 0], [10, 40, 10])[:, None]).all()


def test_photos_whose_folder_waits_for_masks_open(tmp_path: Path) -> None:
    make_photos(tmp_path / "set" / "images")
    (tmp_path / "set" / "masks").mkdir()
    (tmp_path / "set" / "info.json").write_text("{}", "utf-8")
    with open_session(tmp_path / "set") as store:
        assert store.source.dataset is None
        assert ids(store).keys() == {f"images/{name}.png" for name in "abc"}


def test_data_is_resumed_as_photos_and_as_out(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "photos"), tmp_path / "elsewhere" / "data"
    with open_session(photos, out, ["x", "y"]) as store:
        store.paint(ids(store)["a.png"], line([[10, 10]]))
    for arguments in ((out, None), (photos, out), (out, out)):
        with open_session(*arguments, ["x", "z"]) as store:
            assert store.data == out
            assert [one.name for one in store.classes.classes] == ["x", "y", "z"]
            assert store.painted(ids(store)["a.png"]) > 0


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    photos, other = make_photos(tmp_path / "photos"), make_photos(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    cases = [
        ("not-a-photo-folder", tmp_path / "absent", None),
        ("no-photos", tmp_path / "empty", None),
        ("label-folder-taken", photos, other),
        ("label-folder-inside", photos, photos / "labels"),
    ]
    for code, folder, out in cases:
        with refuses(code), open_session(folder, out):
            pass
    assert sorted(path.name for path in photos.iterdir()) == ["a.png", "b.png", "c.png"]
    with open_session(photos) as store:
        pass
    with refuses("label-folder-of-others"), open_session(other, store.data):
        pass
    again = tmp_path / "again"
    with refuses("no-photos"), open_session(tmp_path / "empty", again):
        pass
    with open_session(photos, again) as other_store:  # what the refused session left is no obstacle
        assert other_store.data == again
    with refuses("label-folder-twice"), open_session(store.data, tmp_path / "third"):
        pass
    photos.rename(tmp_path / "moved")
    with refuses("photos-gone"), open_session(store.data):
        pass


def test_a_second_process_says_that_the_first_one_is_there(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    code = f"""
from pathlib import Path
from fullconv.label.store.session import open_session
with open_session(Path({str(photos)!r})):
    pass
"""
    with open_session(photos):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert "is writing there" in run.stderr
    assert str(os.getpid()) in run.stderr


def test_labels_that_are_gone_and_newer_folders_are_errors(tmp_path: Path) -> None:
    root = make_photos(tmp_path / "set" / "images")
    (tmp_path / "set" / "masks").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(np.eye(60, 80, dtype=np.uint8)).save(tmp_path / "set" / "masks" / f"{name}.png")
    with open_session(root.parent) as store:
        assert store.source.dataset is not None
    (tmp_path / "set" / "masks").rename(tmp_path / "away")
    with refuses("labels-gone"), open_session(root.parent):
        pass
    (tmp_path / "away").rename(tmp_path / "set" / "masks")
    project = store.data / ".label" / "project.jsonl"
    text = project.read_text("utf-8")
    project.write_text(text.replace('"version":1', '"version":2'), "utf-8")
    with refuses("newer-label-folder"), open_session(root.parent):
        pass
    project.write_text(text.replace('"version":1', '"vision":1'), "utf-8")
    with refuses("damaged-journal"), open_session(root.parent):
        pass


def test_unknown_images_and_journals_that_undo_nothing_are_errors(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    with open_session(photos) as store:
        id = ids(store)["a.png"]
        with refuses("unknown-image-id"):
            store.photo("../../etc/passwd")
    journal = store.data / ".label" / "strokes" / f"{id}.jsonl"
    journal.parent.mkdir()
    journal.write_text('{"op":"undo","id":1,"client":"a"}\n', "utf-8")
    with open_session(photos) as store, refuses("damaged-journal", journal):
        store.read(id, range(1), range(1))


def test_strokes_of_another_image_are_an_error_and_not_lost(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    with open_session(photos) as store:
        id = ids(store)["a.png"]
        store.paint(id, line([[70, 50]]))
        painted = keys_of(store, id)
    made = (photos / "a.png").read_bytes()
    make_photo(photos / "a.png", (20, 20))
    with open_session(photos) as store, refuses("other-image-labelled", photos / "a.png"):
        store.read(id, range(1), range(1))
    (photos / "a.png").write_bytes(made)
    (store.data / ".label" / "masks" / f"{id}.json").write_text('{"counts": 3}', "utf-8")
    with open_session(photos) as store:
        assert (keys_of(store, id) == painted).all()


def test_more_images_than_allowed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullconv.label.store.photos.MOST_IMAGES", 2)
    with refuses("too-many-photos"), open_session(make_photos(tmp_path / "photos")):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows makes junctions")
def test_a_disk_without_links_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with refuses("no-link"), open_session(make_photos(tmp_path / "photos")):
        pass


def test_a_model_without_an_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for model in (tmp_path / "run", make_photos(tmp_path / "photos") / "a.png"):
        with refuses("not-an-onnx-file"):
            label(tmp_path / "photos", model=str(model))


def test_partly_labelled_folders_name_their_faults(tmp_path: Path) -> None:
    with open_session(make_photos(tmp_path / "photos", ("a.png", "b.png", "b.jpg"))) as store:
        store.paint(ids(store)["a.png"], line([[10, 10]]))
    data = store.data
    assert survey(data).faults == ()
    for name, kind in (("b.png", "ambiguous-image"), ("c.png", "orphan-mask")):
        (data / "masks" / name).write_bytes((data / "masks" / "a.png").read_bytes())
        assert [fault.kind for fault in survey(data).faults] == [kind]
        (data / "masks" / name).unlink()
    (data / "splits.json").write_text('{"a.png": "best"}', "utf-8")
    assert [fault.kind for fault in survey(data).faults] == ["missing-list"]


def test_a_folder_without_a_mask_says_so(tmp_path: Path) -> None:
    with open_session(make_photos(tmp_path / "photos")) as store:
        pass
    assert [fault.kind for fault in survey(store.data).faults] == ["missing-mask"]


def test_new_classes_and_names_leave_the_masks_alone(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    with open_session(photos) as store:
        id = ids(store)["a.png"]
        store.paint(id, line([[10, 10]]))
        assert store.flush()
        mask = store.data / "masks" / "a.png"
        os.utime(mask, ns=(0, 0))
        store.change_classes({"action": "add", "name": "third"})
        store.change_classes({"action": "rename", "key": 0, "name": "first"})
        assert store.flush()
        assert mask.stat().st_mtime_ns == 0
        store.change_classes({"action": "recolour", "key": 0, "color": "#123456"})
        assert store.flush()
        assert mask.stat().st_mtime_ns > 0
    assert Image.open(mask).getpalette()[:3] == [0x12, 0x34, 0x56]
