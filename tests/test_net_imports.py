"""The modules of `net/` and its future folders import each other without circles, inside functions, too."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import fullconv.net

FOLDERS = {
    "trace": {"axes", "layers", "nodes", "operations", "rules", "tracer", "values"},
    "surgery": {
        "dense_check",
        "dilate",
        "head_rewriter",
        "input_channels",
        "linear_as_conv",
        "reference_padding",
        "surgery",
    },
    "classifiers": {"backbones", "caffe", "caffemodel", "digit_net", "user_file", "weights"},
    "fcn": {"fcn", "head", "skips", "spec", "unpooling", "upsample"},
    "reference": {"published"},
}
"""The folders of `net/` and their modules; all other modules stay in `net/` itself."""

ROOT = Path(fullconv.net.__file__).parent
MODULES = {path.stem: path for path in ROOT.glob("*.py") if path.stem != "__init__"}


def read_imports(path: Path) -> set[str]:
    """Return the modules of `net/` that a file imports anywhere: at its top, in functions, for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "fullconv.net":
            names.update(f"fullconv.net.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.removeprefix("fullconv.net.") for name in names if name.startswith("fullconv.net.")}


IMPORTS = {name: read_imports(path) for name, path in MODULES.items()}


def folder_of(module: str) -> str:
    return next((folder for folder, modules in FOLDERS.items() if module in modules), module)


def test_modules_import_each_other_without_circles() -> None:
    order = list(TopologicalSorter(IMPORTS).static_order())  # raises CycleError and names the circle
    assert set(order) == MODULES.keys()


def test_folders_import_each_other_without_circles() -> None:
    assert set().union(*FOLDERS.values()) <= MODULES.keys()
    graph: dict[str, set[str]] = {}
    for module, imported in IMPORTS.items():
        folder = folder_of(module)
        graph.setdefault(folder, set()).update({folder_of(other) for other in imported} - {folder})
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("trace") < order.index("surgery") < order.index("fcn") < order.index("reference")
    assert order.index("classifiers") < order.index("fcn")
