"""The paper's ladder: FCN-32s-fixed, FCN-32s, FCN-16s, FCN-8s, each fine-tuned from the one before."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fullconv.data.dataset import DataSet
from fullconv.data.formats.voc import is_paper_val
from fullconv.data.statistics import DataSetStatistics, read_statistics
from fullconv.errors import UsageError
from fullconv.files import write_text
from fullconv.report.ladder import Step, write_ladder_page
from fullconv.training.job import Job
from fullconv.training.progress import OnProgress
from fullconv.training.result import TrainResult
from fullconv.training.train import train

__all__ = ["Published", "Rung", "climb", "published", "table"]

logger = logging.getLogger(__name__)

RUNGS = ((32, True), (32, False), (16, False), (8, False))
"""(prediction stride, whether only the score layer learns), where no layer is dilated."""

Published = Mapping[str, tuple[float, float, float, float]]
"""Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU in percent, by network."""

PAPER: Published = {
    "FCN-32s-fixed": (83.0, 59.7, 45.4, 72.0),
    "FCN-32s": (89.1, 73.3, 59.4, 81.4),
    "FCN-16s": (90.0, 75.7, 62.4, 83.0),
    "FCN-8s": (90.3, 75.9, 62.7, 83.2),
}
"""Long, Shelhamer, Darrell, CVPR 2015, table 2: VGG16, trained on SBD, on the 736 images of `paper_val`."""


@dataclass(frozen=True)
class Rung:
    """One row of the table."""

    name: str
    result: TrainResult

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.result.folder


def climb(
    dataset: DataSet,
    job: Job,
    out: Path,
    *,
    statistics: DataSetStatistics | None = None,
    epochs_each: Sequence[int] | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Rung]:
    """Train the four networks of the paper with `job`, its stride aside, and write the table.

    A dilated backbone has no map coarser than `job.spec.dilate`: the ladder starts there and has fewer rungs.
    Each rung is a run folder of its own below `out`; with `resume`, what is done is only read, and the rung that was
    stopped resumes. After each rung, table.md, table.json and report.html hold the results so far.
    `epochs_each` gives the epochs of the rungs instead of the recipe's (those of the first cost next to nothing).
    `statistics` are those of `read_statistics`, where they are known already.
    """
    planned = _planned(job.spec.dilate)
    if epochs_each is not None and (len(epochs_each) != len(planned) or min(epochs_each) < 1):
        message = f"this ladder has {len(planned)} rungs: give as many numbers of epochs, each at least 1"
        raise UsageError(message, code="bad-epochs-each")
    if not resume and any(out.glob("*/recipe.yaml")):
        message = f"{out} already holds a ladder: add --resume to continue it, or name another --out"
        raise UsageError(message, code="run-exists")
    statistics = statistics or read_statistics(dataset, "train", "val")
    rungs: list[Rung] = []
    for number, (stride, fixed) in enumerate(planned, start=1):
        spec = replace(job.spec, stride=stride, fixed=fixed, at_once=False)
        folder = out / f"{number}-{spec.name.lower()}"
        recipe = replace(job.recipe, epochs=epochs_each[number - 1] if epochs_each else job.recipe.epochs)
        if fixed:
            recipe = replace(recipe, val_every=1, frozen_stride=1)
        recipe.check()
        start = rungs[-1].folder if rungs else None
        logger.info(f"\n{number} of {len(planned)}: {spec.name} in {folder}")
        rung = Job(spec, recipe, job.weights, start)
        result = train(dataset, rung, folder, statistics=statistics, resume=resume, on_progress=on_progress)
        rungs.append(Rung(spec.name, result))
        _write(rungs, dataset, out)
    return rungs


def published(dataset: DataSet) -> Published:
    """The paper's scores of the four networks where `val` is what the paper scores; else none."""
    return PAPER if is_paper_val(dataset) else {}


def table(rungs: Sequence[Rung], paper: Published | None = None) -> list[list[str]]:
    """Head and rows of the slides' table in percent, with the gain in mean IU over the network before.

    Each rung is followed by the row that `paper` has for it.
    """
    rows = [["", "pixel acc.", "mean acc.", "mean IU", "f.w. IU", "gain", "parameters", "seconds"]]
    before: Sequence[float] | None = None
    paper_before: Sequence[float] | None = None
    for rung in rungs:
        scores = rung.result.scores
        values = (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iou, scores.fw_iou)
        percent = [100 * value for value in values]
        cost = f"{rung.result.parameters / 1e6:.2f} M", f"{rung.result.seconds:.0f}"
        rows.append([rung.name, *_scored(percent, before), *cost])
        before = percent
        if paper and rung.name in paper:
            rows.append([f"{rung.name}, the paper's", *_scored(paper[rung.name], paper_before), "", ""])
            paper_before = paper[rung.name]
    return rows


def _scored(percent: Sequence[float], before: Sequence[float] | None) -> list[str]:
    """Four scores, and what the third one gained."""
    return [*(f"{value:.1f}" for value in percent), "" if before is None else f"{percent[2] - before[2]:+.1f}"]


def _planned(dilate: int | None) -> list[tuple[int, bool]]:
    """The rungs that differ where no prediction stride is coarser than `dilate`."""
    return list(dict.fromkeys((min(stride, dilate or stride), fixed) for stride, fixed in RUNGS))


def _write(rungs: Sequence[Rung], dataset: DataSet, out: Path) -> None:
    paper = published(dataset)
    rows = table(rungs, paper)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    samples = len(dataset.split("val"))
    caption = (
        f"Percent, on the {samples} validation images of {dataset.root.name}; gain in mean IU over the network before."
    )
    if paper:
        caption += " The paper's: Long, Shelhamer, Darrell, CVPR 2015, table 2 (VGG16)."
    write_text(out / "table.md", "\n".join([*lines, "", caption, ""]))
    values = {rung.name: rung.result.scores.to_dict() for rung in rungs}
    write_text(out / "table.json", json.dumps(values, indent=1))
    steps = [Step(rung.name, rung.folder, rung.result.alarm) for rung in rungs]
    write_ladder_page(out / "report.html", dataset.root.resolve().name, steps, rows, caption)
