"""The ladder of the paper: FCN-32s-fixed, FCN-32s, FCN-16s, FCN-8s, each fine-tuned from the previous one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fullconv.cores import is_main_process
from fullconv.data.dataset import DataSet
from fullconv.data.formats.voc import is_paper_val
from fullconv.data.statistics import DataSetStatistics, read_statistics
from fullconv.errors import UsageError
from fullconv.files import write_text
from fullconv.report.ladder import write_ladder_page
from fullconv.report.runs import Run
from fullconv.training.checkpointing import hold_run
from fullconv.training.job import Job, refuse_with_minutes
from fullconv.training.progress import OnProgress, TrainResult
from fullconv.training.run.settings import refuse_other_results
from fullconv.training.train import train

__all__ = ["Published", "Rung", "climb", "find_published", "make_table", "plan_rungs"]

logger = logging.getLogger(__name__)

RUNGS = ((32, True), (32, False), (16, False), (8, False))
"""(prediction stride, whether only the score layer is trained) of each rung, if no layer is dilated."""

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
    """One network of the ladder and its result."""

    name: str
    result: TrainResult

    @property
    def folder(self) -> Path:
        """Return the run folder."""
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
    """Train the four networks of the paper with the settings of `job`, except its stride, and write the table.

    A dilated backbone has no map coarser than `job.spec.dilate`. The ladder starts at this stride and has fewer rungs.
    Each rung has a run folder below `out`. After each rung, table.md, table.json and report.html contain the results so
    far. With `resume`, finished rungs are only read, and an interrupted rung resumes.
    `epochs_each` replaces the epochs of the recipe, with one number per rung (the first rung takes little time).
    `statistics` are those of `read_statistics`; None means that they are read.

    Raises UsageError if the number of `epochs_each` is wrong, if the recipe has minutes as well, or if `out` contains a
    ladder and `resume` is not set; and all errors of `train`.
    """
    planned = plan_rungs(job.spec.dilate)
    if epochs_each is not None and (len(epochs_each) != len(planned) or min(epochs_each) < 1):
        message = f"this ladder has {len(planned)} rungs, so --epochs-each takes {len(planned)} numbers of at least 1"
        raise UsageError(message, code="epochs-each-differ")
    refuse_with_minutes(job.recipe, () if epochs_each is None else ("epochs_each",))
    jobs = [_plan_rung(job, rung, number, epochs_each) for number, rung in enumerate(planned)]
    rungs: list[Rung] = []
    with hold_run(out):
        refuse_other_results(out, "a ladder")
        if not resume and any(out.glob("*/recipe.yaml")):
            message = f"{out} already contains a ladder; add --resume to continue it, or name another folder with --out"
            raise UsageError(message, code="run-exists")
        statistics = statistics or read_statistics(dataset, "train", "val")
        for number, rung in enumerate(jobs, start=1):
            folder = out / f"{number}-{rung.spec.name.lower()}"
            logger.info(f"\n{number} of {len(planned)}: {rung.spec.name} in {folder}")
            rung = replace(rung, start=rungs[-1].folder.absolute() if rungs else None)
            result = train(dataset, rung, folder, statistics=statistics, resume=resume, on_progress=on_progress)
            rungs.append(Rung(rung.spec.name, result))
            if is_main_process():
                _write(rungs, dataset, out)
    return rungs


def _plan_rung(job: Job, rung: tuple[int, bool], index: int, epochs_each: Sequence[int] | None) -> Job:
    """Return the job of a rung, without its start. Raises UsageError as `Recipe.check`."""
    stride, fixed = rung
    spec = replace(job.spec, stride=stride, fixed=fixed, at_once=False)
    recipe = replace(job.recipe, epochs=epochs_each[index] if epochs_each else job.recipe.epochs)
    if fixed:
        recipe = replace(recipe, val_every=1, frozen_stride=1)
    recipe.check()
    return Job(spec, recipe, job.weights, hardware=job.hardware)


def find_published(dataset: DataSet) -> Published:
    """Return the scores of the paper if the split `val` is the one that the paper scores; else an empty mapping."""
    return PAPER if is_paper_val(dataset) else {}


def make_table(rungs: Sequence[Rung], paper: Published | None = None) -> list[list[str]]:
    """Return head and rows of the table of the slides, in percent, with the gain in mean IU over the previous network.

    The row of `paper` for a network, if there is one, follows the row of the rung.
    """
    rows = [["", "pixel acc.", "mean acc.", "mean IU", "f.w. IU", "gain", "parameters", "seconds"]]
    before: Sequence[float] | None = None
    paper_before: Sequence[float] | None = None
    for rung in rungs:
        scores = rung.result.scores
        values = (scores.pixel_accuracy, scores.mean_accuracy, scores.mean_iou, scores.fw_iou)
        percent = [100 * value for value in values]
        cost = f"{rung.result.parameters / 1e6:.2f} M", f"{rung.result.seconds:.0f}"
        rows.append([rung.name, *_format_scores(percent, before), *cost])
        before = percent
        if paper and rung.name in paper:
            rows.append([f"{rung.name}, the paper's", *_format_scores(paper[rung.name], paper_before), "", ""])
            paper_before = paper[rung.name]
    return rows


def _format_scores(percent: Sequence[float], before: Sequence[float] | None) -> list[str]:
    """Return the four scores as text, and the gain in the third one."""
    return [*(f"{value:.1f}" for value in percent), "" if before is None else f"{percent[2] - before[2]:+.1f}"]


def plan_rungs(dilate: int | None) -> list[tuple[int, bool]]:
    """Return the rungs (stride, fixed) of a ladder whose prediction strides are not coarser than `dilate`."""
    return list(dict.fromkeys((min(stride, dilate or stride), fixed) for stride, fixed in RUNGS))


def _write(rungs: Sequence[Rung], dataset: DataSet, out: Path) -> None:
    paper = find_published(dataset)
    rows = make_table(rungs, paper)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    samples = len(dataset.split("val"))
    caption = (
        f"Percent, on the {samples} validation images of {dataset.root.name}; "
        "the gain is in mean IU, over the previous network."
    )
    if paper:
        caption += " The paper's: Long, Shelhamer, Darrell, CVPR 2015, table 2 (VGG16)."
    write_text(out / "table.md", "\n".join([*lines, "", caption, ""]))
    values = {rung.name: rung.result.scores.to_dict() for rung in rungs}
    write_text(out / "table.json", json.dumps(values, indent=1))
    steps = [Run(rung.name, rung.folder, rung.result.alarm) for rung in rungs]
    write_ladder_page(out / "report.html", dataset.root.resolve().name, steps, rows, caption)
