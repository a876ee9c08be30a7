"""Read the history of a model: settings and curves of a run folder, or the notes of an ONNX file."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import isinf, isnan
from pathlib import Path
from typing import Annotated, Any, Required

from pydantic import Field, FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from fullconv.data.dataset import DataSet
from fullconv.data.division import divide_into_folds
from fullconv.data.layouts import find_dataset
from fullconv.data.reading import Reading, ReadingOptions
from fullconv.documents import describe_errors, parse_json, parse_yaml
from fullconv.errors import DataError, ModelError, UsageError
from fullconv.metrics import Scores
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.runner import Runner

__all__ = [
    "RunFacts",
    "Source",
    "find_run_data",
    "options_of_run",
    "read_curves",
    "read_score_values",
    "read_scores",
    "read_settings",
    "read_source",
]

logger = logging.getLogger(__name__)

COLUMNS = ("epoch", "train_loss", "pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou")


@dataclass(frozen=True)
class Source:
    """The path of a model, its settings (nested, as in recipe.yaml), and its `COLUMNS` of metrics.csv."""

    model: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    curves: tuple[Mapping[str, float], ...] = ()

    @property
    def network(self) -> str:
        """The name of the network, such as "FCN-8s on vgg16"; the name of the file if the network is unknown."""
        spec = self.settings.get("network")
        if not isinstance(spec, Mapping) or not {"stride", "model"} <= spec.keys():
            return self.model.name
        return f"FCN-{spec['stride']}s{'-fixed' if spec.get('fixed') else ''} on {spec['model']}"

    @property
    def stride(self) -> int:
        """The prediction stride; 32, the coarsest stride, if it is unknown."""
        spec = self.settings.get("network")
        stride = spec.get("stride") if isinstance(spec, Mapping) else None
        return stride if isinstance(stride, int) else 32

    @property
    def pretrained(self) -> bool:
        """Whether the training started from weights of the classifier or of another run; False if that is unknown."""
        weights = self.settings.get("weights")
        known = weights if isinstance(weights, Mapping) else {"from": weights, "start": self.settings.get("start")}
        return known.get("from") is not None or known.get("start") is not None

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The values of the training; empty if they are unknown."""
        recipe = self.settings.get("recipe")
        return recipe if isinstance(recipe, Mapping) else {}

    def trained_on(self, data: Path) -> bool:
        """Return whether the model was trained on the data in this folder; False if that is unknown."""
        known = self.settings.get("data")
        return isinstance(known, str) and Path(known).resolve() == data.resolve()


def read_source(model: Path, runner: Runner | None = None) -> Source:
    """Read recipe.yaml and metrics.csv of a run folder, or the notes of an ONNX runner; missing files are skipped.

    Raises ModelError for damaged files.
    """
    if not model.is_dir():
        notes = runner.metadata.notes if isinstance(runner, ExportedRunner) else {}
        return Source(model, {name: value for name, value in notes.items() if value and name != "scores"})
    settings = model / "recipe.yaml"
    values = read_settings(settings) if settings.is_file() else {}
    return Source(model, json.loads(json.dumps(values, default=str)), read_curves(model))


def read_settings(path: Path) -> dict[str, Any]:
    """Read a recipe.yaml: the settings of a run by name. Raises ModelError for a damaged file."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise _damaged(path, "it holds no settings by name")
    return values


class RunFacts(TypedDict, total=False):
    """The facts about a run in its scores.json; `alarm` is missing in older files."""

    seconds: Required[Annotated[FiniteFloat, Field(ge=0)]]
    parameters: Required[Annotated[int, Field(ge=0)]]
    alarm: str


_FACTS = TypeAdapter(RunFacts)


def read_scores(path: Path) -> tuple[Scores, RunFacts]:
    """Read a scores.json of a run: the scores and the facts about the run. Raises ModelError for a damaged file."""
    values = read_score_values(path)
    try:
        return Scores.from_dict(values), _FACTS.validate_python(values["run"])
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise _damaged(path, describe_errors(error)) from error


def read_score_values(path: Path) -> dict[str, Any]:
    """Read the values of a scores.json by name, for notes. Raises ModelError for a damaged file."""
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(values, dict):
        raise _damaged(path, "it holds no values by name")
    return values


def options_of_run(model: Path) -> ReadingOptions:
    """Return the options with which a run's data were read; those of any other model leave everything to the files.

    Raises ModelError for a damaged recipe.yaml.
    """
    return _options_of(read_source(model))


def _options_of(source: Source) -> ReadingOptions:
    reading = source.settings.get("reading") if source.model.is_dir() else None
    options = reading.get("options") if isinstance(reading, Mapping) else None
    try:
        ReadingOptions(**(options or {}))  # for the names
        return TypeAdapter(ReadingOptions).validate_python(options or {})
    except (TypeError, ValueError) as error:
        raise _damaged(source.model / "recipe.yaml", describe_errors(error)) from error


def find_run_data(model: Path, data: Path | str, given: Reading) -> DataSet:
    """Return labelled images, read as the data of the run `model` were where `given` leaves something open.

    Val of the data of a fold is that fold. A warning is logged if it cannot be found again. Raises ModelError for a
    damaged recipe.yaml, and the errors of `find_dataset`.
    """
    source = read_source(model)
    dataset = find_dataset(data, ReadingOptions.of({**vars(_options_of(source)), **given}))
    fold, samples = source.settings.get("fold"), source.settings.get("samples")
    if fold is None:
        return dataset
    try:
        number, count = TypeAdapter(tuple[int, int]).validate_python(fold)
        if not 1 <= number <= count:
            raise ValueError(f"there is no fold {number} of {count}")
    except ValueError as error:
        raise _damaged(model / "recipe.yaml", describe_errors(error)) from error
    if source.trained_on(dataset.root) and not given.keys() & {"val_share", "val_by"}:
        with suppress(UsageError):  # fewer images than folds
            division = divide_into_folds(dataset, count)[number - 1]
            if {name: len(members) for name, members in division.splits.items()} == samples:
                return replace(division, splits={**dataset.splits, **division.splits})
    logger.warning(
        f"{model} is the network of fold {number} of {count}. {data} is divided in another way than its data, or has "
        "other images, so some images of its training may be scored."
    )
    return dataset


def read_curves(run: Path) -> tuple[dict[str, float], ...]:
    """Read `COLUMNS` of a run folder's metrics.csv, a row for each validation; none if the file does not exist.

    Raises ModelError for a damaged file.
    """
    table = run / "metrics.csv"
    if not table.is_file():
        return ()
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = tuple({name: float(row[name]) for name in COLUMNS} for row in csv.DictReader(file))
            if any(isinf(v) or (isnan(v) and n != "train_loss") for row in rows for n, v in row.items()):
                raise ValueError("its numbers are not finite")
            return rows
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, TypeError, KeyError) as error:
        raise _damaged(table, error) from error


def _damaged(path: Path, reason: object) -> ModelError:
    return ModelError(f"{path} is damaged ({reason}); restore it, or move it away", code="damaged-run-folder")
