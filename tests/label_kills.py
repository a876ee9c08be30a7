"""Kill a real server of label again and again while two tabs paint, and look whether anything is lost."""

from __future__ import annotations

import http.client
import json
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np

from children import Child
from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset
from fullconv.label.store.strokes import paint, parse_stroke
from label_server import Page, label_process
from waiting import LIMIT

__all__ = ["kill_sessions"]

MOST_ANSWERS = 60
"""Maximum number of answers before a kill."""

Answer = tuple[str, str, int]
"""An image, an operation and the id of its stroke, for which the server has answered."""


def kill_sessions(photos: Path, kills: int, seed: int) -> int:
    """Return the number of answers; each of them must be in a journal after the kill, and in the masks at the end.

    A journal may also hold an operation of each tab that was cut off before its answer, and nothing else.
    """
    rng, answered = np.random.default_rng(seed), 0
    data = photos.parent / f"{photos.name}-labels"
    for number in range(kills + 1):
        with label_process(photos) as (page, process):
            ids = page.ids()
            for id in ids.values():
                assert (page.tile(id, "labels") == replay(data, id, (60, 80))).all()
            if number == kills:
                process.send_signal(signal.SIGTERM)
                assert process.wait(LIMIT) == 0
                break
            before = {id: len(read_lines(data, id)) for id in ids.values()}
            answers = paint_until_killed(page, list(ids.values()), process, int(rng.integers(2**31)))
            process.wait(LIMIT)
        written = [(id, line["op"], line["id"]) for id in ids.values() for line in read_lines(data, id)[before[id] :]]
        unanswered = list(written)
        for answer in answers:
            unanswered.remove(answer)
        assert len(unanswered) <= 2
        answered += len(answers)
    dataset = find_dataset(data)
    masks = {sample.image.name: dataset.read(sample)[1] for samples in dataset.splits.values() for sample in samples}
    for name, id in ids.items():
        assert (masks.get(name, np.full((60, 80), 255)) == replay(data, id, (60, 80))).all()
    return answered


def read_lines(data: Path, id: str) -> list[dict[str, Any]]:
    """Return the complete lines of a journal, read in the simplest way."""
    path = data / ".label" / "strokes" / f"{id}.jsonl"
    text = path.read_text("utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def replay(data: Path, id: str, size: tuple[int, int]) -> UInt8:
    """Return the keys that a journal paints, in the simplest way."""
    strokes, active = {}, {}
    for line in read_lines(data, id):
        if line["op"] == "stroke":
            strokes[line["id"]] = parse_stroke(line)
        active[line["id"]] = line["op"] != "undo"
    keys = np.full(size, 255, np.uint8)
    for number, stroke in strokes.items():
        if active[number]:
            paint(stroke, keys, 0, 0)
    return keys


def paint_until_killed(page: Page, ids: list[str], process: Child, seed: int) -> list[Answer]:
    """Paint with two tabs; kill the server a moment after some answer, and return all answers."""
    answers: list[Answer] = []
    killing: list[bool] = []
    chance = np.random.default_rng(seed)
    last, moment = int(chance.integers(4, MOST_ANSWERS)), float(chance.uniform(0, 0.02))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        rng, tab = np.random.default_rng(seed + number), Page(page.client, f"tab-{number}")
        try:
            while True:
                id = ids[int(rng.integers(len(ids)))]
                what = str(rng.choice(["undo", "redo", "stroke", "stroke", "stroke"]))
                if what == "stroke":
                    points = rng.uniform(0, 60, (3, 2)).tolist()
                    answer = tab.stroke(id, int(rng.integers(2)), points, float(rng.uniform(1, 9)))
                else:
                    answer = tab.move(id, what)
                if answer["stroke"] is not None:
                    answers.append((id, what, answer["stroke"]))
                if len(answers) >= last and not killing:
                    killing.append(True)
                    threading.Timer(moment, process.kill).start()
        except (OSError, http.client.HTTPException):
            return
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    process.kill()
    assert not failures, failures
    return answers
