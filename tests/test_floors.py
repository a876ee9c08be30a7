"""A floor imports lower floors only, the torch-free side stays so, and `__all__` is the real surface."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fullconv

SOURCE = Path(fullconv.__file__).parent

FLOORS = {
    "faults": -1,
    "installation": -1,
    "__init__": 0,
    "arrays": 0,
    "errors": 0,
    "choices": 1,
    "cores": 1,
    "extras": 1,
    "geometry": 1,
    "files": 1,
    "labels": 1,
    "images": 2,
    "metrics": 2,
    "pages": 2,
    "polygons": 2,
    "tiling": 2,
    "data": 3,
    "model_info": 3,
    "net": 4,
    "run": 5,
    "report": 6,
    "learn": 7,
    "model": 7,
    "onnx_export": 6,
    "api": 8,
    "serve": 8,
    "terminal": 8,
    "arguments": 8,
    "options": 8,
    "cli_bench": 9,
    "cli_convert": 9,
    "cli_data": 9,
    "cli_model": 9,
    "cli_predict": 9,
    "cli_report": 9,
    "cli": 10,
    "__main__": 11,
}
"""Rooms by floor, as in docs/design.md. Modules of one room may import each other; rooms of one floor may not."""

HEAVY = ("torch", "torchvision", "lightning", "torchmetrics", "timm", "safetensors", "matplotlib", "sklearn", "scipy")
TORCH_ROOMS = ("net", "learn", "onnx_export")
TORCH_MODULES = ("data.augment", "data.batches")

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def room_of(module: str) -> str:
    return module.split(".")[0]


def may_use_torch(module: str) -> bool:
    return room_of(module) in TORCH_ROOMS or module in TORCH_MODULES


def imports(path: Path) -> list[tuple[int, str, bool]]:
    """Line, absolute name and whether it happens on import, of every import in the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        node
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(scope, ast.If) and ast.unparse(scope.test) == "TYPE_CHECKING")
        for node in ast.walk(scope)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, node not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            found.append((node.lineno, node.module or "", node not in inside))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_floor_imports_lower_floors_only(module: str) -> None:
    room = room_of(module)
    assert room in FLOORS, f"give {room} a floor here and in docs/design.md"
    for line, name, on_import in imports(MODULES[module]):
        if module == "__init__" and not on_import:
            continue  # the package's own name stands below all rooms, and opens the face's when it is called
        package, _, inner = name.partition(".")
        other = room_of(inner) if inner else "__init__"
        if package == "fullconv" and other != room:
            assert FLOORS[other] < FLOORS[room], f"{MODULES[module]}:{line}: {room} is not above {other}"


@pytest.mark.parametrize("module", [module for module in MODULES if not may_use_torch(module)])
def test_torch_is_imported_only_where_it_may_be(module: str) -> None:
    """Inside a function it may be asked for by digits (scikit-learn) and the commands, whose imports are lazy."""
    for line, name, on_import in imports(MODULES[module]):
        torch_side = name.split(".")[0] in HEAVY or may_use_torch(name.removeprefix("fullconv."))
        assert not (on_import and torch_side), f"{MODULES[module]}:{line}: {name} is for the torch side"


def test_the_torch_free_side_imports_without_torch() -> None:
    names = [f"fullconv.{module}" for module in MODULES if not may_use_torch(module) and module != "__main__"]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    try: importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        if error.name not in ('rasterio', 'tifffile', 'openvino'): raise\n"
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, fullconv; dir(fullconv); print(*sorted({'numpy', 'PIL', 'torch', 'jinja2'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split()) == (0, []), run.stderr


def test_no_module_hides_a_name_of_the_package() -> None:
    """Importing the module fullconv.export, for one, would replace the function of that name by the module."""
    assert not set(fullconv.__all__) & {room_of(module) for module in MODULES if module != "__init__"}


@pytest.mark.parametrize("module", MODULES)
def test_all_is_the_real_surface(module: str) -> None:
    """What is listed exists, and every public class and function is listed, commands aside."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    listed: list[str] | None = None
    defined, assigned, imported = set(), set(), set()
    conditional = [node for branch in tree.body if isinstance(branch, ast.If) for node in branch.body]
    for node in [*tree.body, *conditional]:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if not any(ast.unparse(decorator).startswith("app.command(") for decorator in node.decorator_list):
                defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if "__all__" in names and node.value is not None:
                listed = ast.literal_eval(node.value)
            assigned.update(names)
        elif isinstance(node, ast.ImportFrom):
            imported.update(alias.asname or alias.name for alias in node.names)
    assert listed is not None, "the module has no __all__"
    assert set(listed) <= defined | assigned | imported
    forgotten = {name for name in defined if not name.startswith("_")} - set(listed)
    assert not forgotten, f"public, but not in __all__: {sorted(forgotten)}"
