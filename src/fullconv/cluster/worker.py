"""A worker of Ray's engine: it reads, labels and writes images with the code of `fullconv predict`.

Jobs and results travel as JSON in ASCII, because names of files may hold bytes that are not Unicode.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fullconv.choices import Backend, Device
from fullconv.cluster.blocks import BLOCK_KINDS, engine_folder, label_block
from fullconv.cluster.records import Share
from fullconv.cluster.remote import fetch, is_address
from fullconv.errors import ModelError, describe_failure
from fullconv.images.decoders.available import is_installed
from fullconv.images.input_format import ValueRange
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS, probe_model
from fullconv.predict.predict_files import Attempt, FilePredictor, PredictOptions
from fullconv.predict.resumable import same_probes
from fullconv.runtime.load import load_runner
from fullconv.runtime.runner import RangedRunner, Runner
from fullconv.runtime.tiles import FlippedRunner, TiledRunner

__all__ = ["Job", "JobResult", "Worker", "WorkerSpec"]


@dataclass(frozen=True)
class WorkerSpec:
    """What every worker does: the model and its options, the folder of the results, and their kinds.

    `model` and `out` are absolute paths, which all machines share. `inputs` are the `file_identity` of inputs in `out`.
    Images of more than `max_in_memory_pixels` are large. Relative paths of images start at `folder`.
    """

    model: Path
    out: Path
    save: tuple[str, ...] | None = None
    backend: Backend | None = None
    code: str | None = None
    value_range: ValueRange | None = None
    tile: int | None = None
    halo: int | None = None
    tta: bool = False
    inputs: frozenset[str] = frozenset()
    probe: tuple[float, ...] = ()
    max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS
    folder: str = ""
    device: Device = "auto"

    def load(self, threads: int | None = None) -> Runner:
        """Load the model. Raises the errors of `load_runner` and `TiledRunner`."""
        runner: Runner = load_runner(self.model, self.backend, self.code, threads is None, threads, self.device)
        if self.tta:
            runner = FlippedRunner(runner)
        if self.value_range is not None:
            runner = RangedRunner(runner, self.value_range)
        return runner if self.tile is None else TiledRunner(runner, self.tile, self.halo)

    @property
    def options(self) -> PredictOptions:
        """The options of `predict_files`."""
        limit = self.max_in_memory_pixels
        return PredictOptions(self.save, range_is_given=self.value_range is not None, max_in_memory_pixels=limit)

    @property
    def blocks_kinds(self) -> frozenset[str]:
        """The kinds of results of a large image if its blocks are labelled by several workers; empty if one does it."""
        kinds = self.options.kinds_of_large
        return kinds if kinds <= BLOCK_KINDS and is_installed("rasterio") else frozenset()


@dataclass(frozen=True)
class Job:
    """An image and the name of its results, or one share of it."""

    index: int
    image: str
    name: str
    share: str = ""

    def to_row(self) -> dict[str, str]:
        """Return the row of Ray's data set."""
        return {"job": json.dumps(asdict(self))}


@dataclass(frozen=True)
class JobResult:
    """What became of a job; `is_large` says that its image is left to be done in shares."""

    index: int
    share: str
    error: str | None = None
    rows: list[list[str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    notes: list[tuple[str, int, str]] = field(default_factory=list)
    seconds: float = 0.0
    worker: str = ""
    is_large: bool = False

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> JobResult:
        """Return the result in a row of Ray's data set."""
        return cls(**json.loads(row["result"]))


class Worker:
    """The function of Ray's actors: it maps rows of jobs to rows of results."""

    def __init__(self, spec: WorkerSpec, threads: int) -> None:
        """Keep the options; the model is loaded with the first job, so that an error becomes that job's result."""
        with suppress(OSError):
            os.chdir(spec.folder or ".")
        self._spec, self._threads = spec, threads
        self._runner: Runner | None = None
        self._notes: list[tuple[str, int, str]] = []
        self._noted: set[str] = set()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Do the jobs of a batch, one after another."""
        results = [self._do(Job(**json.loads(str(row)))) for row in batch["job"]]
        return {"result": [json.dumps(asdict(result)) for result in results]}

    def _do(self, job: Job) -> JobResult:
        started = time.monotonic()
        try:
            attempt = self._label(job)
        except Exception as problem:  # one job never stops the others
            attempt = Attempt(describe_failure(Path(job.image), problem))
        notes, self._notes = self._notes, []
        seconds, worker = round(time.monotonic() - started, 4), f"{socket.gethostname()}:{os.getpid()}"
        if attempt is None:
            return JobResult(job.index, job.share, notes=notes, seconds=seconds, worker=worker, is_large=True)
        rows = [list(row) for row in attempt.rows]
        files = [path.relative_to(self._spec.out).as_posix() for path in attempt.files]
        return JobResult(job.index, job.share, attempt.error, rows, files, notes, seconds, worker)

    def _label(self, job: Job) -> Attempt | None:
        """Label an image or a share of one; None for an image that is left to be done in shares."""
        runner, spec = self._load(), self._spec
        if job.share:
            share, kinds = Share.parse(job.share), sorted(spec.blocks_kinds)
            folder = engine_folder(spec.out, Path(job.name))
            label_block(runner, Path(job.image), spec.out, share, kinds, folder=folder)
            return Attempt(None)
        remote = is_address(job.image) and not os.path.lexists(job.image)
        with fetch(job.image) if remote else nullcontext(Path(job.image)) as path:

            def shown(text: str) -> str:
                """Name the address, not the temporary copy."""
                return text.replace(str(path), job.image) if remote else text

            def note(key: str, level: int, text: str) -> None:
                self._notes.append((shown(key), level, shown(text)))

            predictor = FilePredictor(
                runner, spec.out, spec.options, spec.inputs, note, noted=self._noted, is_temporary=remote
            )
            if not remote and spec.blocks_kinds and path.is_file() and predictor.is_large(path):
                return None
            attempt = predictor.attempt(path, Path(job.name))
            error = None if attempt.error is None else shown(attempt.error)
            return Attempt(error, tuple((shown(row[0]), *row[1:]) for row in attempt.rows), attempt.files)

    def _load(self) -> Runner:
        if self._runner is None:
            runner = self._spec.load(self._threads)
            inner = runner.runner if isinstance(runner, TiledRunner) else runner
            if not same_probes(probe_model(inner), self._spec.probe):
                message = f"{self._spec.model}: is another model on {socket.gethostname()}; share one folder"
                raise ModelError(message, code="other-model-on-machine")
            self._runner = runner
        return self._runner
