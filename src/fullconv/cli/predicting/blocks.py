"""`fullconv predict --blocks I/N`: one share of one image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fullconv.cli.console import emit, progress_bar
from fullconv.errors import UsageError

if TYPE_CHECKING:
    from fullconv.runtime.runner import Runner

__all__ = ["predict_block"]

log = logging.getLogger(__name__)


def predict_block(runner: Runner, paths: Sequence[Path], out: Path, blocks: str, kinds: Sequence[str] | None) -> None:
    """Label the share `blocks`, such as 3/16, of the one image, with a progress bar.

    Raises UsageError for another number of images, and the errors of `label_block`.
    """
    from fullconv.cluster.blocks import label_block
    from fullconv.cluster.records import Share
    from fullconv.predict.ranges import find_misfit
    from fullconv.runtime.runner import RangedRunner
    from fullconv.runtime.tiles import TiledRunner

    share = Share.parse(blocks)
    if len(paths) != 1:
        message = f"--blocks is for one image, and these are {len(paths)}; name one image"
        raise UsageError(message, code="blocks-of-one-image")
    (image,) = paths
    inner = runner.runner if isinstance(runner, TiledRunner) else runner
    misfit = None if isinstance(inner, RangedRunner) else find_misfit(image, runner.info.input)
    if misfit is not None:
        log.warning("%s", misfit)
    with progress_bar() as bar:
        task = bar.add_task("tiles")
        result = label_block(
            runner,
            image,
            out,
            share,
            ("labels",) if kinds is None else kinds,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if result.note:
        log.info("%s: %s", image, result.note)
    stored = f", {result.resumed} of them earlier" if result.resumed else ""
    emit(f"share {share} of {image} is in {result.path}: {result.tiles} tiles{stored}")
