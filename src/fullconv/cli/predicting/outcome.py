"""The end of a prediction: how many images are done, and those that failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fullconv.cli.console import emit
from fullconv.errors import FullconvError

if TYPE_CHECKING:
    from fullconv.predict.predict_files import PredictReport

__all__ = ["print_count", "raise_failed"]


def print_count(report: PredictReport, out: Path) -> None:
    """Print how many images are labelled."""
    total = len(report.done) + len(report.failed)
    emit(f"{len(report.done)} of {total} images labelled in {out}")


def raise_failed(report: PredictReport) -> None:
    """Raise FullconvError that lists the images that failed, if there are any."""
    if report.failed:
        total = len(report.done) + len(report.failed)
        lines = "".join(f"\n  - {message}" for _, message in report.failed)
        raise FullconvError(f"{len(report.failed)} of {total} images failed:{lines}", code="images-failed")
