"""Loggers of a run: TensorBoard, CSV, MLflow or Weights & Biases, as Lightning offers them."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from fullconv.choices import LoggerName
from fullconv.extras import need

__all__ = ["RunLogger", "make_logger"]

PACKAGES: Mapping[LoggerName, str] = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""The package that a logger needs; the extra has the same name."""


class RunLogger(Protocol):
    """What a logger can do."""

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> Any:
        """Log numbers by name at a step."""

    def finalize(self, status: str) -> Any:
        """Write what is left."""


def make_logger(name: LoggerName, out: Path, step: int) -> RunLogger:
    """Return the logger of a run in the folder `out` that starts at `step`.

    TensorBoard and CSV write into the run folder; MLflow to MLFLOW_TRACKING_URI, if it is set. Raises MissingExtra
    where the package is not installed.
    """
    if package := PACKAGES.get(name):
        need(package, package)
    from lightning.fabric.loggers.csv_logs import CSVLogger
    from lightning.fabric.loggers.tensorboard import TensorBoardLogger

    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    if name == "tensorboard":  # events of steps that a resumed run repeats are dropped
        return TensorBoardLogger(out, name="", version="tensorboard", purge_step=step + 1 if step else None)
    if name == "csv":
        return CSVLogger(out, name="csv", flush_logs_every_n_steps=1)
    from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

    if name == "mlflow":
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"file:{out.resolve() / 'mlruns'}"
        mlflow: RunLogger = MLFlowLogger("fullconv", run_name=out.name, tracking_uri=uri)
        return mlflow
    wandb: RunLogger = WandbLogger(name=out.name, project="fullconv", save_dir=out)
    return wandb
