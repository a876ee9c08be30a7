"""What a model's files say about how it came to be: settings and curves of a run folder, notes of an ONNX file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fullconv.errors import ModelError
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.runner import Runner

__all__ = ["Source", "read_curves", "read_source"]

COLUMNS = ("epoch", "train_loss", "pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou")


@dataclass(frozen=True)
class Source:
    """The model's path, its settings (nested, as in recipe.yaml) and `COLUMNS` of metrics.csv, a row a validation."""

    model: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    curves: tuple[Mapping[str, float], ...] = ()

    @property
    def network(self) -> str:
        """Such as "FCN-8s on vgg16", or the file's name where nothing else is known."""
        spec = self.settings.get("network")
        if not isinstance(spec, Mapping) or not {"stride", "model"} <= spec.keys():
            return self.model.name
        return f"FCN-{spec['stride']}s{'-fixed' if spec.get('fixed') else ''} on {spec['model']}"

    @property
    def stride(self) -> int:
        """The network's prediction stride; 32, which all others are finer than, where it is not known."""
        spec = self.settings.get("network")
        stride = spec.get("stride") if isinstance(spec, Mapping) else None
        return stride if isinstance(stride, int) else 32

    @property
    def pretrained(self) -> bool:
        """Whether it began with weights, of the classifier or of another run, as far as that is known."""
        weights = self.settings.get("weights")
        known = weights if isinstance(weights, Mapping) else {"from": weights, "start": self.settings.get("start")}
        return known.get("from") is not None or known.get("start") is not None

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The values of the training; none where they are not known."""
        found = self.settings.get("recipe")
        return found if isinstance(found, Mapping) else {}


def read_source(model: Path, runner: Runner | None = None) -> Source:
    """From recipe.yaml and metrics.csv of a run folder, as far as they are there, or the notes of an ONNX runner.

    Raises ModelError for files that cannot be read as such.
    """
    if not model.is_dir():
        notes = runner.metadata.notes if isinstance(runner, ExportedRunner) else {}
        return Source(model, {name: value for name, value in notes.items() if value and name != "scores"})
    settings = model / "recipe.yaml"
    try:
        values = yaml.safe_load(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _damaged(settings, error) from error
    if not isinstance(values, dict):
        raise _damaged(settings, "it holds no settings by name")
    return Source(model, json.loads(json.dumps(values, default=str)), read_curves(model))


def read_curves(run: Path) -> tuple[dict[str, float], ...]:
    """Read `COLUMNS` of a run folder's metrics.csv, a row for each validation; none if the file does not exist.

    Raises ModelError for a file that cannot be read as such.
    """
    table = run / "metrics.csv"
    if not table.is_file():
        return ()
    try:
        with table.open(encoding="utf-8", newline="") as file:
            return tuple({name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, TypeError, KeyError) as error:
        raise _damaged(table, error) from error


def _damaged(path: Path, what: object) -> ModelError:
    return ModelError(f"{path} is damaged ({what}); restore it, or move it away", code="damaged-run-folder")
