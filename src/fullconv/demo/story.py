"""Run the demo in minutes, offline: a classifier of digits, its heat map, and the ladder of skip networks."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from math import gcd
from pathlib import Path
from typing import Any

from fullconv.data.statistics import read_training_data
from fullconv.demo.classifier import Comparison, compare, measure_accuracy, save_classifier, train_classifier
from fullconv.demo.digits import make_digit_scenes, write_digit_dataset
from fullconv.demo.picture import draw_story
from fullconv.errors import Interrupted, UsageError
from fullconv.files import write_text
from fullconv.net.classifiers.backbones import build_classifier
from fullconv.training.job import TrainingOptions, make_job
from fullconv.training.ladder import Rung, climb, make_table
from fullconv.training.plan import has_bf16
from fullconv.training.progress import OnProgress

__all__ = ["Amounts", "DemoResult", "run_demo"]

logger = logging.getLogger(__name__)

NOTE = "demo.json"
"""The file that marks a folder as that of a demo, with the settings, and the result when it is complete."""


@dataclass(frozen=True)
class Amounts:
    """The amounts of data and training in the demo. `epochs` are those of the four networks of the ladder."""

    patches: int = 4500
    patch_epochs: int = 7
    test_patches: int = 1000
    train: int = 640
    val: int = 60
    scene: tuple[int, int] = (160, 192)
    epochs: tuple[int, int, int, int] = (3, 4, 4, 8)
    compared: tuple[int, int] = (480, 640)
    seed: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo.

    `accuracy` is the share of held-out patches that the classifier labels correctly. `comparison` compares its dense
    form with a sliding window. `table` is the table of the ladder.
    """

    accuracy: float
    patches: int
    comparison: Comparison
    table: list[list[str]]
    picture: Path

    def lines(self) -> list[str]:
        """Return accuracy and comparison as lines of text."""
        comparison = self.comparison
        rows, columns = comparison.cells
        dense, single = (f"{1000 * s:.0f} ms" for s in (comparison.dense_seconds, comparison.window_seconds))
        return [
            f"classifier: {100 * self.accuracy:.1f} % of {self.patches} patches with held-out digits are correct",
            f"heat map: {rows} x {columns} cells in one pass of {dense}; the same {rows * columns} windows as patches "
            f"take {single}, {comparison.speedup:.1f} times as long",
            f"both give the same logits: the largest difference is {comparison.difference:.1g}",
        ]


def run_demo(out: Path, amounts: Amounts | None = None, on_progress: OnProgress | None = None) -> DemoResult:
    """Run the demo in the folder `out`, or resume it. If it is complete, only read the result.

    The demo writes digits.safetensors, scenes/, ladder/ and story.png. It never replaces a file that exists.
    Raises UsageError if `out` contains other files, or a demo of another version or size; Interrupted after a signal.
    """
    amounts, out = amounts or Amounts(), Path(out).absolute()
    settings = json.loads(json.dumps({"fullconv": version("fullconv"), **asdict(amounts)}))
    result = _open(out, settings)
    if result is not None:
        logger.info(f"the demo in {out} is complete; to run it again, remove the folder, or name another with --out")
        return _read_result(result, out)
    try:
        share, comparison = _classify(out, amounts)
        rungs = _climb(out, amounts, on_progress)
        draw_story(out / "digits.safetensors", rungs, out / "story.png")
    except (Interrupted, KeyboardInterrupt) as error:
        message = f"stopped; everything that was finished is saved in {out}. Run the same command to continue."
        raise Interrupted(message, code="demo-stopped") from error
    demo = DemoResult(share, amounts.test_patches, comparison, make_table(rungs), out / "story.png")
    values = asdict(demo)
    del values["picture"]
    write_text(out / NOTE, json.dumps({"settings": settings, "result": values}, indent=1))
    return demo


def _open(out: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the result of the demo in the folder, if it is complete. Mark a new or empty folder as that of a demo."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder with --out", code="demo-folder-is-file")
    note = out / NOTE
    if not note.is_file():
        if out.exists() and any(out.iterdir()):
            message = f"{out} contains files that are not of a demo; name a new folder with --out"
            raise UsageError(message, code="not-a-demo-folder")
        write_text(note, json.dumps({"settings": settings, "result": None}, indent=1))
        return None
    try:
        values = json.loads(note.read_text(encoding="utf-8"))
        stored, result = values["settings"], values["result"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{note} cannot be read ({error}); name a new folder with --out"
        raise UsageError(message, code="unreadable-demo") from error
    if stored != settings:
        message = f"{out} contains a demo of another version or size; remove it, or name another folder with --out"
        raise UsageError(message, code="demo-differs")
    complete: dict[str, Any] | None = result if (out / "story.png").is_file() else None
    return complete


def _read_result(result: Mapping[str, Any], out: Path) -> DemoResult:
    comparison = dict(result["comparison"])
    comparison["cells"] = tuple(comparison["cells"])
    return DemoResult(**{**result, "comparison": Comparison(**comparison), "picture": out / "story.png"})


def _classify(out: Path, amounts: Amounts) -> tuple[float, Comparison]:
    """Train the classifier, measure its accuracy, and compare its dense form with a sliding window."""
    weights = out / "digits.safetensors"
    if not weights.is_file():
        logger.info(f"training a classifier on {amounts.patches} patches with handwritten digits")
        bf16 = has_bf16(_options(out, amounts).make_recipe())
        save_classifier(train_classifier(amounts.patches, amounts.patch_epochs, amounts.seed, bf16), weights)
    net = build_classifier("digits", weights)[0].eval()
    share = measure_accuracy(net, amounts.test_patches, amounts.seed)
    logger.info(f"it labels {100 * share:.1f} % of {amounts.test_patches} held-out patches correctly")
    (scene,), _ = make_digit_scenes(1, amounts.compared, amounts.seed, "val")
    return share, compare(net, scene)


def _climb(out: Path, amounts: Amounts, on_progress: OnProgress | None) -> list[Rung]:
    if not (out / "scenes").exists():
        logger.info(f"\nmaking {amounts.train} scenes for training and {amounts.val} for validation")
        write_digit_dataset(out / "scenes", amounts.train, amounts.val, amounts.scene, amounts.seed)
    dataset, statistics = read_training_data(out / "scenes")
    job = make_job(dataset, _options(out, amounts), statistics)
    named: dict[str, Any] = {"epochs_each": amounts.epochs, "resume": True, "on_progress": on_progress}
    return climb(dataset, job, out / "ladder", statistics=statistics, **named)


def _options(out: Path, amounts: Amounts) -> TrainingOptions:
    """Return options for short trainings of a small network on many scenes that are not scaled or mirrored."""
    values: dict[str, Any] = {
        "epochs": amounts.epochs[-1],
        "val_every": gcd(*amounts.epochs[1:]),
        "crop": min(128, *amounts.scene),
        "lr": 1e-3,
        "flip": 0.0,
        "scale": (1.0, 1.0),
        "color": 0.0,
        "ema": 0.99,
        "seed": amounts.seed,
    }
    values |= amounts.recipe
    return TrainingOptions("digits", weights=out / "digits.safetensors", values=values, by_data=False)
