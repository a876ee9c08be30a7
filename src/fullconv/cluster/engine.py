"""Prediction of many images, or of blocks of large ones, by the workers of a Ray cluster.

The results are the files of `fullconv predict`, byte for byte, for any number of workers.
"""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fullconv.cluster.blocks import engine_folder, resume_shares
from fullconv.cluster.join import write_joined
from fullconv.cluster.manifest import Entry, Manifest
from fullconv.cluster.records import Share
from fullconv.cluster.remote import is_address, local_paths
from fullconv.cluster.session import RayOptions, ray_session
from fullconv.cluster.worker import Job, JobResult, Worker, WorkerSpec
from fullconv.errors import FullconvError, describe_failure
from fullconv.images.georeference import read_georeference
from fullconv.images.video import check_video_support, is_video
from fullconv.predict.areas_table import format_areas, update_areas
from fullconv.predict.inputs import output_names
from fullconv.predict.large import default_tile, probe_model
from fullconv.predict.outputs import compute_areas
from fullconv.predict.predict_files import FilePredictor, PredictReport, check_output
from fullconv.predict.result import file_identity
from fullconv.runtime.runner import Runner
from fullconv.runtime.tiles import TiledRunner

__all__ = ["choose_rows", "predict_on_ray", "run_jobs"]

log = logging.getLogger(__name__)

ROWS = 8
"""Most images of one task of Ray, whose results come at its end.

With more, a stop or the death of a worker costs more work. If each result is sent at once, the driver handles far fewer
images (docs/scale.md), too few for 64 workers.
"""

SHARES = 4
"""Blocks of a large image for each worker, so that the last ones do not keep all others waiting."""

RETRIES = 1
"""Times that Ray starts a task again whose worker died. The images that are lost then get one task each."""


def predict_on_ray(
    spec: WorkerSpec,
    images: Sequence[str],
    ray_options: RayOptions,
    on_image: Callable[[str, str | None], None] | None = None,
    session: Callable[[RayOptions], Any] = ray_session,
) -> PredictReport:
    """Label images, which are paths or addresses, and write their results into `spec.out` as `predict_files` does.

    `on_image(image, message)` is called after each one, with None for success. `Manifest` keeps what is done, so that
    the same command resumes. An image whose worker dies is tried again; if its worker dies each time, it is one of the
    failed ones. Large images are labelled in blocks by all workers, and joined.

    Raises UsageError as `predict_files` and `ray_session`, and FullconvError if Ray stops.
    """
    paths = local_paths(images)
    if any(map(is_video, paths)):
        check_video_support()
    identities = frozenset(map(file_identity, paths))
    table = check_output(spec.out, spec.options, identities)
    runner = spec.load()
    probe = probe_model(runner.runner if isinstance(runner, TiledRunner) else runner)
    inside = frozenset(one for one in identities if one.startswith(os.path.realpath(spec.out) + os.sep))
    spec = replace(spec, inputs=inside, probe=tuple(probe), folder=os.getcwd())
    with Manifest(spec.out, _describe(spec, runner), probe) as manifest:
        run = _Run(spec, list(images), output_names(paths), runner, manifest, on_image)
        left = run.find_left()
        manifest.forget({str(run.names[index]) for index in left})
        if len(left) < len(images):
            log.info("%s: %d of %d images were done earlier", manifest.path, len(images) - len(left), len(images))
        try:
            if left:
                with session(ray_options) as workers:
                    run.label(left, workers, ray_options.cores)
        finally:
            if table is not None:
                update_areas(table, run.collect_rows(), run.list_videos())
    return run.report()


def run_jobs(
    spec: WorkerSpec, jobs: Sequence[Job], workers: int, cores: int, per_task: int, worker: type = Worker
) -> Iterator[JobResult]:
    """Yield the results of jobs, in any order; those whose worker died twice have none. Ray must run.

    `per_task` is the number of jobs of a task. `worker` is the class of the actors.
    """
    import ray.data

    items = [job.to_row() for job in jobs]
    dataset = ray.data.from_items(items, override_num_blocks=-(-len(items) // per_task))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray 2.60 deprecates the only way to bound retries; Ray Data's are endless
        results = dataset.map_batches(
            worker,
            batch_size=None,  # all rows of a task
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(items)), max_tasks_in_flight_per_actor=2),
            fn_constructor_args=(spec, cores),
            num_cpus=cores,
            max_task_retries=RETRIES,
        )
    try:
        yield from map(JobResult.from_row, results.iter_rows())
    except FullconvError:
        raise
    except Exception as error:  # Ray's exceptions have no common class
        reason = " ".join(str(error).split())[:300]
        message = f"Ray stopped: {type(error).__name__} ({reason}); the same command resumes"
        raise FullconvError(message, code="ray-stopped") from error


def choose_rows(jobs: int, workers: int) -> int:
    """Return the number of jobs of a task: at least 8 tasks for a worker if there are enough, so that all end soon."""
    return max(1, min(ROWS, jobs // (8 * workers)))


@dataclass
class _Run:
    """The state of one run."""

    spec: WorkerSpec
    images: list[str]
    names: list[Path]
    runner: Runner
    manifest: Manifest
    on_image: Callable[[str, str | None], None] | None
    noted: set[str] = field(default_factory=set)
    errors: dict[int, str] = field(default_factory=dict)
    states: list[list[int]] = field(default_factory=list)

    def find_left(self) -> list[int]:
        """Return the indices of the images that have to be labelled."""
        self.states = [_read_state(image) for image in self.images]
        return [index for index in range(len(self.images)) if not self._is_done(index)]

    def label(self, left: Sequence[int], workers: int, cores: int) -> None:
        """Label the images, first several in a task, then those whose worker died alone, then large ones in blocks."""
        large = []
        for result in self._attempt([self._job(index) for index in left], workers, cores):
            if result.is_large:
                large.append(result.index)
            else:
                self._keep(result)
        for index in sorted(large):
            self._keep(self._label_large(index, workers, cores))

    def collect_rows(self) -> list[tuple[str, ...]]:
        """Return the rows of areas of all images that are done, in the order of the inputs."""
        entries = (self.manifest.entries.get(image) for image in self.images)
        return [tuple(row) for entry in entries if entry is not None for row in entry.rows]

    def list_videos(self) -> list[str]:
        """Return the videos that are done, as the rows of their frames name them."""
        entries = [(image, self.manifest.entries.get(image)) for image in self.images if is_video(Path(image))]
        videos = [image for image, entry in entries if entry is not None and entry.error is None]
        return [image if is_address(image) else str(Path(image)) for image in videos]

    def report(self) -> PredictReport:
        """Return the images that are done and those that failed, in the order of the inputs."""
        failed = tuple((Path(self.images[index]), self.errors[index]) for index in sorted(self.errors))
        done = tuple(Path(image) for index, image in enumerate(self.images) if index not in self.errors)
        return PredictReport(done, failed)

    def _job(self, index: int, share: str = "") -> Job:
        return Job(index, self.images[index], str(self.names[index]), share)

    def _attempt(self, jobs: list[Job], workers: int, cores: int) -> Iterator[JobResult]:
        """Yield one result for each job."""
        missing = {(job.index, job.share): job for job in jobs}
        for per_task in (choose_rows(len(jobs), workers), 1):
            if missing:
                for result in run_jobs(self.spec, list(missing.values()), workers, cores, per_task):
                    if missing.pop((result.index, result.share), None) is not None:
                        self._log(result.notes)
                        yield result
        for job in missing.values():
            message = f"{job.image}: its worker died each time; it may need more memory, or its machine was lost"
            yield JobResult(job.index, job.share, message)

    def _label_large(self, index: int, workers: int, cores: int) -> JobResult:
        """Label the blocks of a large image, and write its results as one process would."""
        image, name = Path(self.images[index]), self.names[index]
        notes: list[tuple[str, int, str]] = []
        predictor = FilePredictor(
            self.runner,
            self.spec.out,
            self.spec.options,
            self.spec.inputs,
            lambda *note: notes.append(note),
            noted=set(self.noted),
        )
        try:
            targets = predictor.prepare_large(image, name)
            folder, kinds = engine_folder(self.spec.out, name), self.spec.blocks_kinds
            shares = resume_shares(self.runner, image, folder, kinds, SHARES * workers)
            jobs = [self._job(index, str(Share(number, shares))) for number in range(1, shares + 1)]
            results = list(self._attempt(jobs, workers, cores))
            errors = sorted({result.error for result in results if result.error is not None})
            if errors:
                return JobResult(index, "", errors[0], notes=notes)
            target = targets["labels"] if "labels" in kinds else None
            counts, note = write_joined(folder, image, target, self.runner)
            if note:
                notes.append((f"{image}: {note}", logging.INFO, f"{image}: {note}"))
            areas = compute_areas(counts, self.runner.info.labels, read_georeference(image)) if "areas" in kinds else {}
            shutil.rmtree(folder)
        except Exception as error:  # one image never stops the others
            return JobResult(index, "", describe_failure(image, error), notes=notes)
        seconds = sum(result.seconds for result in results)
        rows = [list(row) for row in format_areas(str(image), areas)]
        files = [] if target is None else [target.relative_to(self.spec.out).as_posix()]
        return JobResult(index, "", None, rows, files, notes, seconds)

    def _keep(self, result: JobResult) -> None:
        """Keep the result of an image in the manifest."""
        image, name, state = self.images[result.index], str(self.names[result.index]), self.states[result.index]
        self._log(result.notes)
        if result.error is not None:
            self.errors[result.index] = result.error
        entry = Entry(image, name, state, result.rows, result.files, result.error, result.seconds, result.worker)
        self.manifest.add(entry)
        if self.on_image is not None:
            self.on_image(image, result.error)

    def _log(self, notes: Sequence[Sequence[Any]]) -> None:
        for key, level, text in notes:
            if key not in self.noted:
                self.noted.add(key)
                log.log(level, "%s", text)

    def _is_done(self, index: int) -> bool:
        """Return whether the manifest has this image as it is now and its name, and all its results exist."""
        entry = self.manifest.entries.get(self.images[index])
        if entry is None or (entry.name, entry.state) != (str(self.names[index]), self.states[index]):
            return False
        return all((self.spec.out / file).exists() for file in entry.files)


def _read_state(image: str) -> list[int]:
    """Return bytes and time of a file; nothing for an address, and for a file that is gone."""
    try:
        status = os.stat(image)
    except (OSError, ValueError):
        return []
    return [status.st_size, status.st_mtime_ns]


def _describe(spec: WorkerSpec, runner: Runner) -> dict[str, Any]:
    """Return model and results of a run, which identify them together with the probe."""
    info = runner.info
    return {
        "format": 3,
        "tile": [spec.tile or default_tile(runner), spec.halo],
        "windows": [[window.before, window.after, window.period] for window in info.windows],
        "labels": info.labels.to_dict(),
        "range": None if info.input.value_range is None else list(info.input.value_range),
        "save": None if spec.save is None else sorted(spec.save),
    }
