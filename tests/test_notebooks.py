"""The notebooks have no stored outputs, and all their cells run."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from test_readme import accept

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

RUNNER = """
import ast, json, sys

names = {"__name__": "__main__"}
for number, source in enumerate(json.load(sys.stdin), 1):
    tree = ast.parse(source, f"cell {number}")
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:  # Jupyter shows the value
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        shown = [getattr(value, name)() for name in ("_repr_html_", "_repr_png_") if hasattr(value, name)]
        assert all(shown), f"cell {number} shows nothing"
        print(repr(value))
"""


def _read_cells(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def _read_code(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in _read_cells(path) if cell["cell_type"] == "code"]


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["classifier_becomes_dense", "geotiff_to_polygons", "label_your_images"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_valid_code_and_no_stored_outputs(path: Path) -> None:
    for cell in _read_cells(path):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    for source in _read_code(path):
        ast.parse(source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_commands_in_the_text_of_a_notebook_are_accepted(path: Path) -> None:
    text = "".join(line for cell in _read_cells(path) if cell["cell_type"] == "markdown" for line in cell["source"])
    for command in re.findall(r"`(fullconv \w+ [^`]+)`", text):
        accept(shlex.split(command)[1:])


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_all_cells_of_a_notebook_run(path: Path, tmp_path: Path) -> None:
    """The cells run in one process, in an empty folder. The value of a last expression is shown as Jupyter does."""
    if path.stem == "geotiff_to_polygons":
        pytest.importorskip("rasterio")
    code = json.dumps(_read_code(path))
    run = subprocess.run([sys.executable, "-c", RUNNER], input=code, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
