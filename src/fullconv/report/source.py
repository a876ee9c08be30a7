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
from fullconv.run.exported import ExportedRunner
from fullconv.run.runner import Runner

__all__ = ["Source", "read_source"]

COLUMNS = ("epoch", "train_loss", "mean_iou", "pixel_accuracy")


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
    settings, rows = model / "recipe.yaml", model / "metrics.csv"
    try:
        values = yaml.safe_load(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        if not isinstance(values, dict):
            raise ModelError(f"{settings}: holds no settings by name; restore the file, or move it away")
        curves = _curves(rows) if rows.is_file() else ()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{model}: recipe.yaml or metrics.csv is damaged ({error}); restore it, or move it") from error
    return Source(model, json.loads(json.dumps(values, default=str)), curves)


def _curves(table: Path) -> tuple[dict[str, float], ...]:
    with table.open(encoding="utf-8", newline="") as file:
        return tuple({name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file))
