"""Runs of Ray's engine resume what fits, keep what is not theirs, and give each image its own results.

The workers of these tests are in this process, so they need no Ray.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.cluster import engine, remote
from fullconv.cluster.blocks import engine_folder, label_block
from fullconv.cluster.join import join_blocks
from fullconv.cluster.manifest import MANIFEST_FILE, Entry, Manifest
from fullconv.cluster.records import Share
from fullconv.cluster.session import RayOptions
from fullconv.cluster.worker import Job, JobResult, Worker, WorkerSpec
from fullconv.predict.areas_table import read_areas
from fullconv.predict.predict_files import PredictOptions, PredictReport, predict_files
from fullconv.runtime.runner import Runner
from fullconv.runtime.tiles import TiledRunner
from geotiffs import Shifted, geotiff, picture
from refusals import matches


class Spec(WorkerSpec):
    """Options with a runner that needs no file."""

    def load(self, threads: int | None = None) -> Runner:
        return TiledRunner(Shifted(), self.tile or 32)


LARGE = Spec(Path("model"), Path("out"), ("labels", "areas"), max_in_memory_pixels=100)
SMALL = Spec(Path("model"), Path("out"), ("labels", "areas"))


class Workers:
    """Workers in this process, which count the jobs; those in `failing` fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs: list[tuple[str, str]] = []
        self.failing: tuple[str, ...] = ()
        monkeypatch.setattr(engine, "run_jobs", self.run_jobs)

    def run_jobs(
        self, spec: WorkerSpec, jobs: Sequence[Job], workers: int, cores: int, per_task: int
    ) -> Iterator[JobResult]:
        worker = Worker(spec, cores)
        for job in jobs:
            self.jobs.append((job.image, job.share))
            if job.share in self.failing:
                yield JobResult(job.index, job.share, "failed")
            else:
                yield JobResult.from_row({"result": worker({"job": [job.to_row()["job"]]})["result"][0]})

    def predict(self, spec: Spec, *images: Path | str) -> PredictReport:
        self.jobs.clear()
        return engine.predict_on_ray(spec, list(map(str, images)), RayOptions(), session=lambda _: nullcontext(1))


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    return Workers(monkeypatch)


def check_as_one_process(spec: Spec, image: Path, folder: Path) -> None:
    options = PredictOptions(spec.save, max_in_memory_pixels=spec.max_in_memory_pixels)
    assert not predict_files(spec.load(), [image], folder, options).failed
    assert (spec.out / "a.tif").read_bytes() == (folder / "a.tif").read_bytes()


def test_a_file_in_the_folder_of_an_input_is_not_overwritten(workers: Workers, tmp_path: Path) -> None:
    spec, images = replace(SMALL, out=tmp_path), [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for image in images:
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(image)
    (tmp_path / "b.png").write_text("mine")
    ((failed, message),) = workers.predict(spec, *images).failed
    assert failed == images[1]
    assert matches("overwrites-file", message)
    (tmp_path / "b.png").unlink()
    assert not workers.predict(spec, *images).failed
    assert workers.jobs == [(str(images[1]), "")]


def test_the_shares_of_a_user_are_not_touched(workers: Workers, tmp_path: Path) -> None:
    image, spec = geotiff(tmp_path / "a.tif", picture(70, 90)), replace(LARGE, out=tmp_path / "out")
    for number in (1, 2):
        label_block(spec.load(), image, spec.out, Share(number, 2))
    join_blocks(spec.out)
    (spec.out / "a.blocks" / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in (spec.out / "a.blocks").iterdir()}
    assert not workers.predict(spec, image).failed
    assert {path.name: path.read_bytes() for path in (spec.out / "a.blocks").iterdir()} == before
    assert not engine_folder(spec.out, Path("a")).exists()
    check_as_one_process(spec, image, tmp_path / "whole")


@pytest.mark.parametrize("change", ["nothing", "tile", "save", "image"])
def test_a_stopped_large_image_resumes_or_starts_from_the_beginning(
    workers: Workers, tmp_path: Path, change: str
) -> None:
    image, spec = geotiff(tmp_path / "a.tif", picture(70, 90)), replace(LARGE, out=tmp_path / "out")
    workers.failing = ("2/4",)
    assert workers.predict(spec, image).failed
    assert engine_folder(spec.out, Path("a")).is_dir()
    workers.failing = ()
    shares = [engine_folder(spec.out, Path("a")) / f"{number}-of-4.tif" for number in (1, 3, 4)]
    times = [path.stat().st_mtime_ns for path in shares]
    if change == "image":
        geotiff(image, picture(70, 90, seed=1))
    spec = replace(spec, tile=40 if change == "tile" else None)
    spec = replace(spec, save=("labels",) if change == "save" else spec.save)
    if change == "nothing":
        workers.failing = ("3/4",)  # to look at the others
        assert workers.predict(spec, image).failed
        assert [path.stat().st_mtime_ns for path in shares] == times
        workers.failing = ()
    assert workers.predict(spec, image).failed == ()
    assert not engine_folder(spec.out, Path("a")).exists()
    check_as_one_process(spec, image, tmp_path / "whole")


@pytest.mark.parametrize("stopped", [False, True])
def test_an_image_is_not_done_if_another_one_replaced_its_results(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """Even if that run was stopped before the manifest had a line on its results."""
    add = Manifest.add

    def stop(self: Manifest, entry: Entry) -> None:
        if entry.error is None:
            raise KeyboardInterrupt
        add(self, entry)

    spec, days = replace(SMALL, out=tmp_path / "out"), []
    for seed, day in enumerate(("day1", "day2")):
        (tmp_path / day).mkdir()
        days.append(tmp_path / day / "a.png")
        Image.fromarray(picture(40, 60, seed=seed).astype(np.uint8)).save(days[-1])
    workers.predict(spec, days[0])
    first = (spec.out / "a.png").read_bytes()
    workers.predict(spec, days[0])
    assert workers.jobs == []
    if stopped:
        monkeypatch.setattr(Manifest, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            workers.predict(spec, days[1])
        monkeypatch.undo()
        workers = Workers(monkeypatch)
    else:
        workers.predict(spec, days[1])
    assert (spec.out / "a.png").read_bytes() != first
    workers.predict(spec, days[0])
    assert workers.jobs == [(str(days[0]), "")]
    assert (spec.out / "a.png").read_bytes() == first
    workers.predict(spec, *days)
    assert len(workers.jobs) == 2, "their results have other names"
    lines = [json.loads(line) for line in (spec.out / MANIFEST_FILE).read_text().splitlines()[1:]]
    assert [line["name"] for line in lines if line["error"] is None][-2:] == ["day1/a", "day2/a"]


@pytest.mark.parametrize(
    "pair",
    [
        ("https://h/img.png?id=1", "https://h/img.png?id=2"),
        ("https://h/x%20y.jpg", "https://h/x y.jpg"),
        ("s3://b/p.jpg", "gs://b/p.jpg"),
    ],
)
def test_addresses_that_differ_have_results_that_differ(pair: tuple[str, str]) -> None:
    one, other = remote.local_paths(pair)
    assert one != other
    assert remote.local_paths(pair[::-1]) == [other, one]
    assert one.stem.startswith(remote.local_name(pair[0]).stem)
    assert one.suffix == remote.local_name(pair[0]).suffix


def test_letters_of_names_in_object_stores_are_kept() -> None:
    addresses = ["s3://b/a#1.jpg", "s3://b/a#2.jpg", "s3://b/x%20y.jpg", "s3://b/x y.jpg"]
    assert remote.local_paths(addresses) == [Path(f"/{address[5:]}") for address in addresses]


def test_an_address_and_a_file_of_its_name_have_results_that_differ(tmp_path: Path) -> None:
    file, address = remote.local_paths([f"{os.sep}h{os.sep}a.png", "https://h/a.png"])
    assert file == Path("/h/a.png")
    assert address != file


@pytest.mark.parametrize(
    ("save", "most"),
    [
        (None, 10**6),
        (None, 100),
        (("labels", "areas"), 100),
        (("overlay",), 10**6),
        (("overlay",), 100),
        (("probabilities", "polygons", "labelme"), 10**6),
    ],
)
def test_an_image_is_done_only_while_all_its_results_exist(
    workers: Workers, tmp_path: Path, save: tuple[str, ...] | None, most: int
) -> None:
    """With more than `most` pixels, it is labelled in blocks or in windows."""
    image = tmp_path / "a.png"
    Image.fromarray(picture(40, 60).astype(np.uint8)).save(image)
    spec = replace(SMALL, out=tmp_path / "out", save=save, max_in_memory_pixels=most)
    assert not workers.predict(spec, image).failed
    files = [file for kind in ("png", "tif", "jpg", "npz", "geojson", "json") for file in spec.out.rglob(f"*.{kind}")]
    assert files
    for file in files:
        workers.predict(spec, image)
        assert workers.jobs == []
        content = file.read_bytes()
        file.unlink()
        workers.predict(spec, image)
        assert {name for name, _ in workers.jobs} == {str(image)}
        assert file.read_bytes() == content


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[UInt8]:
    """Return the frames of every video, which a test may change; so the tests need no PyAV."""
    frames = [picture(20, 30, seed=seed).astype(np.uint8) for seed in range(5)]
    monkeypatch.setattr("fullconv.predict.predict_files.read_frames", lambda path: iter(frames))
    for module in ("fullconv.cluster.engine", "fullconv.predict.predict_files"):
        monkeypatch.setattr(f"{module}.check_video_support", lambda: None)
    return frames


def test_a_video_is_done_only_while_the_results_of_all_frames_exist(
    workers: Workers, tmp_path: Path, frames: list[UInt8]
) -> None:
    video, spec = tmp_path / "clip.mp4", replace(SMALL, out=tmp_path / "out")
    video.touch()
    for _ in range(2):
        assert not workers.predict(spec, video).failed
    assert workers.jobs == []
    (spec.out / "clip" / "frame-000004.png").unlink()
    workers.predict(spec, video)
    assert workers.jobs == [(str(video), "")]
    assert (spec.out / "clip" / "frame-000004.png").is_file()


@pytest.mark.parametrize("by_ray", [False, True])
def test_frames_that_a_video_no_longer_has_lose_their_areas(
    workers: Workers, tmp_path: Path, frames: list[UInt8], by_ray: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A note names their files, which stay, because a user may have painted on them."""
    video, other, out = tmp_path / "clip.mp4", tmp_path / "clip.mp4 2.mp4", tmp_path / "out"
    spec = replace(SMALL, out=out, save=("labels", "overlay", "areas"))

    def predict(*videos: Path) -> set[str]:
        for path in videos:
            path.write_bytes(bytes(len(frames)))
        if by_ray:
            assert not workers.predict(spec, *videos).failed
        else:
            assert not predict_files(spec.load(), videos, out, PredictOptions(spec.save)).failed
        return {row[0] for row in read_areas(out / "areas.csv")}

    def name(path: Path, count: int) -> set[str]:
        return {str(path / f"frame-{number:06d}") for number in range(1, count + 1)}

    with caplog.at_level(logging.INFO, "fullconv"):
        assert predict(video, other) == name(video, 5) | name(other, 5)
        assert "results of later ones" not in caplog.text
        del frames[3:]
        assert predict(video) == name(video, 3) | name(other, 5)
    note = f"{video}: has 3 frames, and there are results of later ones; delete {out / 'clip' / 'frame-000004.png'}"
    assert f"{note} and 3 more" in caplog.text
    assert (out / "clip" / "frame-000005.png").is_file()


def test_the_copy_of_an_address_is_named_nowhere(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy is gone after the run: labelme's file contains the image, and notes name the address."""
    folders = []

    @contextmanager
    def fetch(address: str) -> Iterator[Path]:
        with TemporaryDirectory() as folder:
            folders.append(folder)
            Image.fromarray((np.arange(40 * 60, dtype=np.uint16) // 40).reshape(40, 60)).save(Path(folder, "dark.png"))
            yield Path(folder, "dark.png")

    monkeypatch.setattr("fullconv.cluster.worker.fetch", fetch)
    spec = replace(SMALL, out=tmp_path / "out", save=("labelme", "polygons", "areas"))
    with caplog.at_level(logging.INFO, "fullconv"):
        assert not workers.predict(spec, "http://host/dark.png").failed
    document = json.loads((spec.out / "labelme" / "dark.json").read_text())
    shown = Image.open(io.BytesIO(base64.b64decode(document["imageData"])))
    assert shown.size == (60, 40)
    assert "http://host/dark.png: nearly all values are " in caplog.text
    written = [path.read_text() for path in spec.out.rglob("*") if path.is_file()]
    assert not any(folder in text for folder in folders for text in [caplog.text, *written])
