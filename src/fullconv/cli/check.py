"""The command `fullconv check`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.cli.console import emit, print_table, prints_json, sample_bar, say, write_results
from fullconv.cli.options.reading import reads_data
from fullconv.cli.options.shared import Data, JsonFile
from fullconv.cli.values import refuse_overwriting
from fullconv.data.reading import Reading, ReadingOptions
from fullconv.errors import DataError, FullconvError, UsageError
from fullconv.extras import need_torch

if TYPE_CHECKING:
    from fullconv.data.dataset import DataSet
    from fullconv.doctor.examine import Examination

__all__ = ["check"]

SHOWN = 5
"""The number of faults of one kind that are printed."""


@reads_data
def check(
    data: Data,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The HTML file for the page.", show_default="<data>-check.html in the current folder"
        ),
    ] = None,
    json_file: JsonFile = None,
    fix: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a repaired copy into this new folder.")] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Write what was inferred into DATA/dataset.yaml, so that it is fixed for good; not for archives.",
        ),
    ] = False,
    *,
    reading: Reading,
) -> None:
    """Find the faults of a data set before training.

    Decodes every image and mask once, and prints each fault with its file and its remedy. Prints the classes, and the
    time and memory that training will take. Writes a page with thumbnails. DATA is not changed, except dataset.yaml by
    --write. The exit code is 3 if training would stop or go wrong.
    """
    from fullconv import api

    _check_outputs(data, fix, write)
    refuse_overwriting(html, json_file, data=data)
    with sample_bar("checking") as on_sample:
        examination = api.check(data, on_sample=on_sample, **reading)
    files = {Path(os.path.realpath(path)) for path in examination.files()}
    refuse_overwriting(html, json_file, data=data, files=files)
    write_results(json_file, examination.to_dict(), lambda: _print_examination(examination))
    show = say if prints_json(json_file) else emit
    _write_page(examination, html, data)
    if fix is not None:
        _write_repaired(examination, fix, show)
    else:
        show(examination.verdict())
        count = sum(examination.mends(fault) for group in examination.groups for fault in group.faults)
        if count:
            show(f"{ReadingOptions(**reading).check_command(data)} --fix DIR repairs {count} of them")
    if write:
        _write_reading(examination, show)
    if examination.errors:
        raise typer.Exit(DataError.exit_code)


def _check_outputs(data: Path, fix: Path | None, write: bool) -> None:
    """Raise UsageError if --fix names a folder that cannot be written, or if --write is given for an archive."""
    from fullconv.data.archives import is_archive
    from fullconv.files import check_new_folder

    if write and is_archive(data):
        message = f"{data}: is an archive, so --write cannot put dataset.yaml into it; unpack it, or use --fix DIR"
        raise UsageError(message, code="write-to-archive")
    if fix is not None:
        check_new_folder(fix, data)


def _write_page(examination: Examination, html: Path | None, data: Path) -> None:
    """Write the page to `html`, or to the default file; if that fails, only say so."""
    from fullconv.doctor.page import write_check_page

    page = html or _default_page(data)
    if page is None:
        return
    try:
        write_check_page(page, examination)
    except FullconvError as error:
        if html is not None:
            raise
        say(f"no page was written: {error}; name another file with --html FILE")
        return
    say(f"page: {page}")


def _write_reading(examination: Examination, show: Callable[[str], None]) -> None:
    """Write what was inferred into dataset.yaml, and name the keys."""
    from fullconv.doctor.declare import declare

    path, keys = declare(examination)
    show(f"{path}: {', '.join(keys)} written" if keys else f"{path}: states all that can be stated; not changed")


def _default_page(data: Path) -> Path | None:
    """Return <data>-check.html, or None if the current folder is the data's folder or inside of it."""
    from fullconv.data.archives import data_name

    current, root = Path.cwd().resolve(), data.resolve()
    if current == root or root in current.parents:
        say("no page was written: the current folder is inside the data; name a file with --html FILE")
        return None
    return Path(f"{data_name(data)}-check.html")


def _print_examination(examination: Examination) -> None:
    """Print the faults by kind, errors first; then the samples, the classes and the cost of a training."""
    from fullconv.data.statistics import describe_labelled
    from fullconv.doctor.page import class_rows

    for group in examination.groups:
        emit(f"{group.severity}: {group.kind} ({len(group.faults)})")
        for fault in group.faults[:SHOWN]:
            emit(f"  {fault.path}: {fault.problem}" + ("" if group.remedy else f"; {fault.remedy}"))
        if len(group.faults) > SHOWN:
            emit(f"  and {len(group.faults) - SHOWN} more")
        if group.remedy:
            emit(f"  -> {group.remedy}")
    if examination.groups:
        emit()
    splits = ", ".join(f"{count} {split}" for split, count in examination.samples().items()) or "no samples"
    emit(f"{examination.root} ({examination.layout} layout): {splits}; images of {examination.sizes()}")
    for note in () if examination.dataset is None else examination.dataset.notes:
        emit(f"read as: {note}")
    if examination.range_facts is not None:
        emit(f"range: {examination.range_facts.text}")
    if labelled := describe_labelled(examination.labelled):
        emit(labelled)
    if examination.classes:
        print_table(class_rows(examination.classes))
    if not examination.errors and examination.dataset is not None:
        _print_cost(examination.dataset)


def _print_cost(dataset: DataSet) -> None:
    """Print the time and memory of `fullconv train` with its defaults, measured if torch is installed."""
    try:
        need_torch()
        from fullconv.training.train import estimate

        rows = estimate(dataset)
    except FullconvError as error:
        emit(f"the time and memory of a training cannot be measured: {error}")
        return
    emit("fullconv train with its defaults:")
    for name, value in rows:
        emit(f"  {name:<8} {value}")


def _write_repaired(examination: Examination, folder: Path, show: Callable[[str], None]) -> None:
    """Write a repaired copy, check it as any other data set, and show both results."""
    from fullconv import api
    from fullconv.doctor.repair import repair

    try:
        with sample_bar("repairing") as on_sample:
            result = repair(examination, folder, on_sample)
    except DataError as error:
        show(examination.verdict())
        raise DataError(f"nothing was repaired: {error}", code="nothing-repaired") from error
    with sample_bar("checking the copy") as on_sample:
        copy = api.check(folder, on_sample=on_sample)
    for title, lines in (("repaired", result.done), ("left out", result.left_out)):
        if lines:
            show(f"{title} ({len(lines)}):")
        for line in lines:
            show(f"  {line}")
    show(f"{examination.root} (unchanged): {examination.verdict()}")
    for group in copy.groups:
        show(f"remaining {group.severity} in the copy: {group.kind} ({len(group.faults)}), {group.faults[0]}")
    show(f"{folder}: {result.pairs} pairs; {copy.verdict()}")
    show(f"next: fullconv {'check' if copy.errors else 'train'} {shlex.quote(str(folder))}")
