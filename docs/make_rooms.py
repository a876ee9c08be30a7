"""Write the table of rooms in docs/design.md, from the docstrings of the packages and modules.

Run `python docs/make_rooms.py` after adding a room or changing its docstring; with --check, only compare.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fullconv"
PAGE = ROOT / "docs" / "design.md"

ORDER = (
    *("faults", "installation", "arrays", "errors", "choices", "cores", "extras", "visible", "files"),
    *("locks", "documents", "watchdog", "forks"),
    *("geometry", "labels", "metrics", "pages", "images", "model_info", "data", "doctor", "net", "runtime", "predict"),
    *("cluster", "evaluation", "report", "onnx_graph", "web", "serve", "label"),
    *("onnx_export", "packages", "training", "demo", "bench", "api", "cli", "__main__"),
)
"""The rooms from the lowest to the highest. A room imports rooms before it only."""

TORCH = ("net", "onnx_export", "training", "demo", "bench")
"""The rooms that import torch when they are imported. All others work without it."""

BEGIN, END = "<!-- rooms: written by docs/make_rooms.py -->", "<!-- end of rooms -->"

__all__ = ["ORDER", "TORCH", "document", "make_table"]


def make_table() -> str:
    """Return the table: one row per room, with the first sentence of its docstring and its modules."""
    rows = ["| room | torch | what it owns | modules |", "|---|---|---|---|"]
    for room in ORDER:
        folder = SOURCE / room
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        name = f"{room}/" if folder.is_dir() else f"{room}.py"
        modules = ", ".join(_list_modules(folder)) if folder.is_dir() else ""
        rows.append(f"| `{name}` | {'yes' if room in TORCH else ''} | {_first_sentence(path)} | {modules} |")
    return "\n".join(rows)


def document() -> str:
    """Return docs/design.md with the current table."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{make_table()}\n\n{END}{after}"


def _list_modules(folder: Path) -> list[str]:
    """Return the names of the modules of a room, and those of its folders in brackets."""
    names = [path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    inner = [path.parent for path in sorted(folder.glob("*/__init__.py"))]
    return names + [f"{path.name}/ ({', '.join(_list_modules(path))})" for path in inner]


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")


def main() -> None:
    """Write the page, or compare it with --check."""
    made = document()
    if "--check" in sys.argv:
        if PAGE.read_text(encoding="utf-8") != made:
            sys.exit("docs/design.md: the table of rooms is out of date; run python docs/make_rooms.py")
        return
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
