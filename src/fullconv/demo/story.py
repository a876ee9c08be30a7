"""The whole story in minutes, offline: a classifier of digits, its heat map, and the ladder of skip networks."""

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
from fullconv.demo.classifier import Comparison, accuracy, compare, save_classifier, train_classifier
from fullconv.demo.digits import digit_scenes, write_digit_dataset
from fullconv.demo.picture import draw_story
from fullconv.errors import Interrupted, UsageError
from fullconv.files import write_text
from fullconv.net.classifiers.backbones import build_classifier
from fullconv.training.job import TrainingOptions, make_job
from fullconv.training.ladder import Rung, climb, table
from fullconv.training.plan import has_bf16
from fullconv.training.progress import OnProgress

__all__ = ["Amounts", "DemoResult", "run_demo"]

logger = logging.getLogger(__name__)

NOTE = "demo.json"
"""The file by which a demo's folder is recognized: its settings, and its result once there is one."""


@dataclass(frozen=True)
class Amounts:
    """How much the demo trains on, and how long; `epochs` are those of the ladder's rungs."""

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
    """Share of held-out patches that the classifier gets right, the comparison, the ladder's table, the picture."""

    accuracy: float
    patches: int
    comparison: Comparison
    table: list[list[str]]
    picture: Path

    def lines(self) -> list[str]:
        """The first two in words."""
        both = self.comparison
        (rows, columns), windows = both.cells, both.cells[0] * both.cells[1]
        dense, single = (f"{1000 * seconds:.0f} ms" for seconds in (both.dense_seconds, both.window_seconds))
        return [
            f"classifier: {100 * self.accuracy:.1f} % of {self.patches} patches with held-out digits right",
            f"heat map: {rows} x {columns} cells in one pass of {dense}; the same {windows} windows as patches take "
            f"{single}, {both.speedup:.1f} times as long",
            f"their logits are equal: the largest difference is {both.difference:.1g}",
        ]


def run_demo(out: Path, amounts: Amounts | None = None, on_progress: OnProgress | None = None) -> DemoResult:
    """Do what is not yet done of the demo in `out`; of one that is complete, only read the result.

    Below `out`: digits.safetensors, scenes/, ladder/, story.png. Nothing that is there is ever replaced, so that a
    demo that was stopped resumes. Raises UsageError where `out` holds something else, or a demo of another version.
    """
    amounts, out = amounts or Amounts(), Path(out).absolute()
    settings = json.loads(json.dumps({"fullconv": version("fullconv"), **asdict(amounts)}))
    result = _open(out, settings)
    if result is not None:
        logger.info(f"the demo in {out} is complete; for another one, remove the folder or name another with --out")
        return _read(result, out)
    share, comparison = _classify(out, amounts)
    rungs = _climb(out, amounts, on_progress)
    draw_story(out / "digits.safetensors", rungs, out / "story.png")
    done = DemoResult(share, amounts.test_patches, comparison, table(rungs), out / "story.png")
    values = asdict(done)
    del values["picture"]
    write_text(out / NOTE, json.dumps({"settings": settings, "result": values}, indent=1))
    return done


def _open(out: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Claim a new or empty folder, or find out how far the demo in it is."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder with --out")
    note = out / NOTE
    if not note.is_file():
        if out.exists() and any(out.iterdir()):
            raise UsageError(f"{out} is not empty, and no demo: name a new folder with --out")
        write_text(note, json.dumps({"settings": settings, "result": None}, indent=1))
        return None
    try:
        values = json.loads(note.read_text(encoding="utf-8"))
        before, result = values["settings"], values["result"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{note} cannot be read ({error}): name a new folder with --out") from error
    if before != settings:
        raise UsageError(f"{out} holds a demo of another version or size: remove it, or name another with --out")
    complete: dict[str, Any] | None = result if (out / "story.png").is_file() else None
    return complete


def _read(result: Mapping[str, Any], out: Path) -> DemoResult:
    comparison = dict(result["comparison"])
    comparison["cells"] = tuple(comparison["cells"])
    return DemoResult(**{**result, "comparison": Comparison(**comparison), "picture": out / "story.png"})


def _classify(out: Path, amounts: Amounts) -> tuple[float, Comparison]:
    """Train the classifier, test it on held-out digits, and compare its dense form with the sliding window."""
    weights = out / "digits.safetensors"
    if not weights.is_file():
        logger.info(f"training a classifier on {amounts.patches} patches with handwritten digits")
        bf16 = has_bf16(_options(out, amounts).make_recipe())
        save_classifier(train_classifier(amounts.patches, amounts.patch_epochs, amounts.seed, bf16), weights)
    net = build_classifier("digits", weights)[0].eval()
    share = accuracy(net, amounts.test_patches, amounts.seed)
    logger.info(f"it is right about {100 * share:.1f} % of {amounts.test_patches} held-out patches")
    (scene,), _ = digit_scenes(1, amounts.compared, amounts.seed, "val")
    return share, compare(net, scene)


def _climb(out: Path, amounts: Amounts, on_progress: OnProgress | None) -> list[Rung]:
    if not (out / "scenes").exists():
        logger.info(f"\npainting {amounts.train} scenes to train on and {amounts.val} to validate on")
        write_digit_dataset(out / "scenes", amounts.train, amounts.val, amounts.scene, amounts.seed)
    dataset, statistics = read_training_data(out / "scenes")
    job = make_job(dataset, _options(out, amounts), statistics)
    asked: dict[str, Any] = {"epochs_each": amounts.epochs, "resume": True, "on_progress": on_progress}
    try:
        return climb(dataset, job, out / "ladder", statistics=statistics, **asked)
    except Interrupted as error:
        raise Interrupted(f"stopped; all is saved in {out}, and the same command resumes from there") from error


def _options(out: Path, amounts: Amounts) -> TrainingOptions:
    """The default recipe for short runs of a small network on plenty of scenes, all of one scale and none mirrored."""
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
