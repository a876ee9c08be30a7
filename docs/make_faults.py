"""Write docs/faults.md: what `fullconv check` says of each fault of tests/corpus.py. With --check, only compare."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from fullconv.data.layouts import survey
from fullconv.doctor.examine import examine
from fullconv.faults import KINDS, REPAIRABLE, UNREPAIRABLE, Fault
from fullconv.files import write_text

TARGET = Path(__file__).with_name("faults.md")
TESTS = Path(__file__).parents[1] / "tests"

HEAD = """# What `fullconv check` finds

Written by `docs/make_faults.py`: each row is a small data set with that one fault, made by `tests/corpus.py`, and what
the command says of it. An error makes the command end with exit code 3; a warning does not.

## For programs

`fullconv check DATA --json FILE` writes a list `findings`, errors first. Each has these keys:

| key | holds |
|---|---|
| `code` | the kind of fault, one of those below; the codes are stable, the wording of messages is not |
| `severity` | `error` or `warning` |
| `path` | the file or folder |
| `problem`, `remedy` | what is wrong there, and what to do about it, in English |
| `sample`, `split` | the image and the split that it concerns, `null` where it concerns several or none |
| `fixable` | whether `--fix DIR` repairs it; pairs with other errors are left out of the copy |

From Python, `fullconv.errors.DataError` has the same as `faults`, and the code that all share, if they do, as `code`.

## The codes
"""

FAULTS_HEAD = """
## The faults
"""

HANDLED = """
Read without a finding: masks as palette PNG (by index), with 1, 8 or 16 bits, or as TIFF whose nodata is then 255;
images in CMYK, in 1 or 16 bits, of any bands that all images have or that dataset.yaml describes, turned by EXIF with a
mask that is turned, too; blanks and any script in names; folders that link to themselves; images of one pixel, or of
one row.
"""


def document() -> str:
    """The page."""
    sys.path.insert(0, str(TESTS))
    corpus = importlib.import_module("corpus")
    codes = ["| code | severity | `--fix` |", "|---|---|---|", *map(_code, KINDS)]
    rows = [_row(name, kind, make) for name, (kind, make) in corpus.FAULTS.items()]
    table = ["| fault | code | severity | message |", "|---|---|---|---|", *rows]
    return "\n".join([HEAD, *codes, FAULTS_HEAD, *table, HANDLED])


def _code(kind: str) -> str:
    fix = "repairs it" if kind in REPAIRABLE else "refuses the data set" if kind in UNREPAIRABLE else ""
    return f"| `{kind}` | {KINDS[kind]} | {fix} |"


def _row(name: str, kind: str, make: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        place = make(root)
        found = examine(survey(root, decode=False))
        faults = [fault for group in found.groups for fault in group.faults if group.kind == kind]
        fault = next((fault for fault in faults if fault.path == place), faults[0])
        cells = [name.replace("_", " "), f"`{kind}`", KINDS[kind], _text(fault, root)]
    return "| " + " | ".join(cells) + " |"


def _text(fault: Fault, root: Path) -> str:
    text = str(fault).replace(f"{root}/", "").replace(str(root), "data")
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the page, or compare."""
    text = document()
    if "--check" not in sys.argv[1:]:
        write_text(TARGET, text)
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET.name} is not current: run python docs/{Path(__file__).name}")


if __name__ == "__main__":
    main()
