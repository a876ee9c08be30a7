"""Runs of Ray's engine resume what fits, and keep what is not theirs.

The workers of these tests are in this process, so they need no Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from fullconv.cluster import engine
from fullconv.cluster.blocks import engine_folder, label_block
from fullconv.cluster.join import join_blocks
from fullconv.cluster.records import Share
from fullconv.cluster.session import RayOptions
from fullconv.cluster.worker import Job, JobResult, Worker, WorkerSpec
from fullconv.predict.predict_files import PredictOptions, PredictReport, predict_files
from fullconv.runtime.runner import Runner
from fullconv.runtime.tiles import TiledRunner
from geotiffs import Shifted, geotiff, picture


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

    def predict(self, spec: Spec, *images: Path) -> PredictReport:
        self.jobs.clear()
        return engine.predict_on_ray(spec, list(map(str, images)), RayOptions(), session=lambda _: nullcontext(1))


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    return Workers(monkeypatch)


def check_as_one_process(spec: Spec, image: Path, folder: Path) -> None:
    options = PredictOptions(spec.save, max_in_memory_pixels=spec.max_in_memory_pixels)
    assert not predict_files(spec.load(), [image], folder, options).failed
    assert (spec.out / "a.tif").read_bytes() == (folder / "a.tif").read_bytes()


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
