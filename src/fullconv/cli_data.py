"""The command that looks at a data set before anything is trained on it: check."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fullconv.arguments import say
from fullconv.errors import DataError, FullconvError
from fullconv.extras import need_torch
from fullconv.options import Data
from fullconv.terminal import print_table, sample_bar

if TYPE_CHECKING:
    from fullconv.data.dataset import DataSet
    from fullconv.data.doctor.examine import Examination

__all__ = ["check"]

SHOWN = 5
"""Findings of one kind on the terminal."""


def check(
    data: Data,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The sheet.", show_default="<data>-check.html in the current folder"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every finding there, too.")
    ] = None,
    fix: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a repaired copy into this new folder.")] = None,
) -> None:
    """Find all that is wrong with a data set before training does.

    Decodes every image and mask once, names each fault with its file and remedy, shows what training will face, and
    writes a sheet with thumbnails. DATA is never changed. Exit code 3 where training would stop or go wrong.
    """
    from fullconv import api
    from fullconv.data.doctor.repair import check_target
    from fullconv.data.doctor.sheet import write_sheet
    from fullconv.files import write_text

    if fix is not None:
        check_target(data, fix)
    with sample_bar("checking") as on_sample:
        found = api.check(data, on_sample=on_sample)
    _print(found)
    sheet = html or _sheet_for(data)
    if sheet is not None:
        write_sheet(sheet, found)
        say(f"sheet: {sheet}")
    if json_file is not None:
        write_text(json_file, json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
    if fix is not None:
        _fix(found, fix)
    print(found.verdict())
    count = _repairable(found)
    if count and fix is None:
        print(f"fullconv check {shlex.quote(str(data))} --fix DIR repairs {count} of them")
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
    """The findings by kind, errors first, then what training will face."""
    from fullconv.data.doctor.sheet import class_rows

    for group in found.groups:
        print(f"{group.severity}: {group.kind} ({len(group.findings)})")
        for finding in group.findings[:SHOWN]:
            print(f"  {finding.path}: {finding.found}" + ("" if group.remedy else f"; {finding.remedy}"))
        if len(group.findings) > SHOWN:
            print(f"  and {len(group.findings) - SHOWN} more")
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
        from fullconv.learn.train import expect

        rows = expect(dataset)
    except FullconvError as error:
        print(f"time and memory of a training cannot be measured: {error}")
        return
    print("fullconv train, by default:")
    for name, value in rows:
        print(f"  {name:<8} {value}")


def _repairable(found: Examination) -> int:
    """How many findings a repaired copy would not have."""
    from fullconv.data.doctor.repair import BY_HAND, MENDED

    if found.dataset is None or any(group.kind in BY_HAND for group in found.groups):
        return 0
    return sum(finding.sure for group in found.groups if group.kind in MENDED for finding in group.findings)


def _fix(found: Examination, folder: Path) -> None:
    """Repair, and check the copy as any other data set."""
    from fullconv import api
    from fullconv.data.doctor.repair import repair

    try:
        with sample_bar("repairing") as on_sample:
            made = repair(found, folder, on_sample)
    except DataError as error:
        print(found.verdict())
        raise DataError(f"nothing was repaired: {error}") from error
    with sample_bar("checking the copy") as on_sample:
        again = api.check(folder, on_sample=on_sample)
    for title, lines in (("repaired", made.done), ("left out", made.left_out)):
        if lines:
            print(f"{title} ({len(lines)}):")
        for line in lines:
            print(f"  {line}")
    print(f"{folder}: {made.pairs} pairs; {again.verdict()}")
    for group in again.groups:
        print(f"  still there: {group.severity}: {group.kind} ({len(group.findings)}), {group.findings[0]}")
    print(f"{found.root}, which is as it was:")
