"""Write docs/faults.md: what `fullconv check` says of each fault of tests/corpus.py. With --check, only compare."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

from fullconv.data.doctor.examine import examine
from fullconv.data.doctor.findings import KINDS, Finding
from fullconv.data.layouts import survey
from fullconv.files import write_text

TARGET = Path(__file__).with_name("faults.md")
TESTS = Path(__file__).parents[1] / "tests"

HEAD = """# What `fullconv check` finds

Written by `docs/make_faults.py`: each row is a small data set with that one fault, made by `tests/corpus.py`, and what
the command says of it. An error makes the command end with exit code 3; a warning does not.
"""

HANDLED = """
Read without a word: masks as palette PNG (by index), with 1, 8 or 16 bits, or as TIFF whose nodata is then 255; images
in CMYK, in 1 or 16 bits, of any bands that all images have or dataset.yaml tells of, turned by EXIF beside a mask that
is turned, too; blanks and any script in names; folders that link to themselves; images of one pixel, or of one row.
"""


def document() -> str:
    """The page."""
    sys.path.insert(0, str(TESTS))
    corpus = importlib.import_module("corpus")
    rows = []
    for name, (kind, make) in corpus.FAULTS.items():
        rows.append(_row(name, kind, make))
    table = ["| fault | kind | | what is said |", "|---|---|---|---|", *rows]
    return HEAD + "\n" + "\n".join(table) + "\n" + HANDLED


def _row(name: str, kind: str, make: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        place = make(root)
        found = examine(survey(root, decode=False))
        said = [finding for group in found.groups for finding in group.findings if group.kind == kind]
        finding = next((finding for finding in said if finding.path == place), said[0])
        cells = [name.replace("_", " "), f"`{kind}`", KINDS[kind], _text(finding, root)]
    return "| " + " | ".join(cells) + " |"


def _text(finding: Finding, root: Path) -> str:
    text = str(finding).replace(f"{root}/", "").replace(str(root), "data")
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
