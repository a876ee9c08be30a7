"""The command that looks at a data set before anything is trained on it: check."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.cli.console import print_table, prints_json, sample_bar, write_results
from fullconv.cli.options import Data, JsonFile
from fullconv.cli.parsing import say
from fullconv.errors import DataError, FullconvError
from fullconv.extras import need_torch

if TYPE_CHECKING:
    from fullconv.data.dataset import DataSet
    from fullconv.doctor.examine import Examination

__all__ = ["check"]

SHOWN = 5
"""Faults of one kind on the terminal."""


def check(
    data: Data,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The sheet.", show_default="<data>-check.html in the current folder"),
    ] = None,
    json_file: JsonFile = None,
    fix: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a repaired copy into this new folder.")] = None,
) -> None:
    """Find all that is wrong with a data set before training does.

    Decodes every image and mask once, names each fault with its file and remedy, shows what training will face, and
    writes a sheet with thumbnails. DATA is never changed. Exit code 3 where training would stop or go wrong.
    """
    from fullconv import api
    from fullconv.doctor.page import write_sheet
    from fullconv.doctor.repair import check_target

    if fix is not None:
        check_target(data, fix)
    with sample_bar("checking") as on_sample:
        found = api.check(data, on_sample=on_sample)
    write_results(json_file, found.to_dict(), lambda: _print(found))
    show = say if prints_json(json_file) else print
    sheet = html or _sheet_for(data)
    if sheet is not None:
        write_sheet(sheet, found)
        say(f"sheet: {sheet}")
    if fix is not None:
        _fix(found, fix, show)
    show(found.verdict())
    count = sum(found.mends(fault) for group in found.groups for fault in group.faults)
    if count and fix is None:
        show(f"fullconv check {shlex.quote(str(data))} --fix DIR repairs {count} of them")
    if found.errors:
        raise typer.Exit(DataError.exit_code)


def _sheet_for(data: Path) -> Path | None:
    """The sheet that nobody named: in the current folder, but not inside the data."""
    here, root = Path.cwd().resolve(), data.resolve()
    if here == root or root in here.parents:
        say("sheet: not written inside the data; name a file with --html FILE")
        return None
    return Path(f"{root.name}-check.html")


def _print(found: Examination) -> None:
    """The faults by kind, errors first, then what training will face."""
    from fullconv.doctor.page import class_rows

    for group in found.groups:
        print(f"{group.severity}: {group.kind} ({len(group.faults)})")
        for fault in group.faults[:SHOWN]:
            print(f"  {fault.path}: {fault.problem}" + ("" if group.remedy else f"; {fault.remedy}"))
        if len(group.faults) > SHOWN:
            print(f"  and {len(group.faults) - SHOWN} more")
        if group.remedy:
            print(f"  -> {group.remedy}")
    if found.groups:
        print()
    splits = ", ".join(f"{count} {split}" for split, count in found.samples().items())
    print(f"{found.root} ({found.layout} layout): {splits or 'no samples'}; images of {found.sizes()}")
    if found.classes:
        print_table(class_rows(found.classes))
    if not found.errors and found.dataset is not None:
        _print_expected(found.dataset)


def _print_expected(dataset: DataSet) -> None:
    """How long `train` would take by default, and in how much memory, measured where it is installed."""
    try:
        need_torch()
        from fullconv.training.train import estimate

        rows = estimate(dataset)
    except FullconvError as error:
        print(f"time and memory of a training cannot be measured: {error}")
        return
    print("fullconv train, by default:")
    for name, value in rows:
        print(f"  {name:<8} {value}")


def _fix(found: Examination, folder: Path, show: Callable[[str], None]) -> None:
    """Repair, and check the copy as any other data set."""
    from fullconv import api
    from fullconv.doctor.repair import repair

    try:
        with sample_bar("repairing") as on_sample:
            made = repair(found, folder, on_sample)
    except DataError as error:
        show(found.verdict())
        raise DataError(f"nothing was repaired: {error}", code=error.code) from error
    with sample_bar("checking the copy") as on_sample:
        again = api.check(folder, on_sample=on_sample)
    for title, lines in (("repaired", made.done), ("left out", made.left_out)):
        if lines:
            show(f"{title} ({len(lines)}):")
        for line in lines:
            show(f"  {line}")
    show(f"{folder}: {made.pairs} pairs; {again.verdict()}")
    for group in again.groups:
        show(f"  still there: {group.severity}: {group.kind} ({len(group.faults)}), {group.faults[0]}")
    show(f"{found.root}, which is as it was:")
