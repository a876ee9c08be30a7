"""Write docs/faults.md: the messages of `fullconv check` for tests/corpus.py. With --check, only compare."""

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

`docs/make_faults.py` writes this page. Each row is a small data set with one fault, from `tests/corpus.py`, and the
message of the command. Errors end the command with exit code 3; warnings do not change the exit code.

## For programs

`fullconv check DATA --json FILE` writes a list `findings`, errors first. Each has these keys:

| key | holds |
|---|---|
| `code` | the kind of fault, one of the codes below; codes are stable, messages are not |
| `severity` | `error` or `warning` |
| `path` | the file or folder |
| `problem`, `remedy` | what is wrong there and how to correct it, in English |
| `sample`, `split` | the image and the split of the fault; `null` if it concerns several or none |
| `fixable` | whether `--fix DIR` repairs the fault; pairs with other errors are left out of the copy |

In Python, `fullconv.errors.DataError` has the same list as `faults`. Its `code` is the code of all faults if they
are of one kind.

## The codes
"""

FAULTS_HEAD = """
## The faults
"""

HANDLED = """
These data have no fault:

- masks: palette PNG (read by index); 1, 8 or 16 bits; TIFF with a nodata value, which becomes 255;
- images: CMYK; 1 or 16 bits; any number of bands that all images share or that dataset.yaml states; turned by EXIF
  with a mask that is turned, too; one pixel or one row;
- names with blanks or in any script, and folders with links to themselves.
"""


def document() -> str:
    """Return the page."""
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
        path = make(root)
        examination = examine(survey(root))
        faults = [fault for group in examination.groups for fault in group.faults if group.kind == kind]
        fault = next((fault for fault in faults if fault.path == path), faults[0])
        cells = [name.replace("_", " "), f"`{kind}`", KINDS[kind], _text(fault, root)]
    return "| " + " | ".join(cells) + " |"


def _text(fault: Fault, root: Path) -> str:
    text = str(fault).replace(f"{root}/", "").replace(str(root), "data")
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the page, or compare it."""
    text = document()
    if "--check" not in sys.argv[1:]:
        write_text(TARGET, text)
    elif not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET.name} is not current: run python docs/{Path(__file__).name}")


if __name__ == "__main__":
    main()
