"""A floor imports lower floors only, the torch-free side stays so, and `__all__` is the real surface."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fullconv

SOURCE = Path(fullconv.__file__).parent
ROOMS = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "make_rooms.py"))
ORDER: tuple[str, ...] = ROOMS["ORDER"]
TORCH: tuple[str, ...] = ROOMS["TORCH"]

HEAVY = ("torch", "torchvision", "lightning", "timm", "safetensors", "matplotlib", "sklearn", "scipy")

OPTIONAL = ("rasterio", "tifffile", "openvino", "fastapi", "starlette", "uvicorn", "prometheus_client", "onnx")
"""Packages of the extras that modules on the torch-free side import."""

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def imported_modules(path: Path) -> set[str]:
    """Return the modules of the package that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fullconv":
            base = (node.module or "").removeprefix("fullconv").lstrip(".")
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {name if name in MODULES else base for name in names}
    return found - {""}


def folder_of(module: str) -> str:
    """Return the folder of a module inside of its room, or the module where it lies in the room itself."""
    return ".".join(module.split(".")[:2])


def room_of(module: str) -> str:
    return module.split(".")[0]


def may_use_torch(module: str) -> bool:
    return room_of(module) in TORCH


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


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__"])
def test_rooms_import_lower_rooms_only(module: str) -> None:
    """Imports in functions and for type checking count, too. `fullconv/__init__.py` opens the highest rooms lazily."""
    room = room_of(module)
    assert room in ORDER, f"give {room} its place in docs/make_rooms.py"
    for line, name, _ in imports(MODULES[module]):
        package, _, inner = name.partition(".")
        if package == "fullconv" and inner and room_of(inner) != room:
            lower = ORDER.index(room_of(inner)) < ORDER.index(room)
            assert lower, f"{MODULES[module]}:{line}: {room} is not above {room_of(inner)}"


def test_modules_import_each_other_without_circles() -> None:
    graph = {module: imported_modules(MODULES[module]) - {module} for module in MODULES if module != "__init__"}
    assert set(TopologicalSorter(graph).static_order()) == set(graph)  # raises CycleError, which names the circle


def test_folders_inside_a_room_import_each_other_without_circles() -> None:
    for room in ORDER:
        graph: dict[str, set[str]] = {}
        for module, path in MODULES.items():
            if room_of(module) == room and module != room:
                inside = {other for other in imported_modules(path) if room_of(other) == room and other != room}
                folder = folder_of(module)
                graph.setdefault(folder, set()).update({folder_of(other) for other in inside} - {folder})
        assert set(TopologicalSorter(graph).static_order()) == set(graph)


def test_no_folder_has_more_than_eighteen_modules() -> None:
    counts = Counter(path.parent for path in MODULES.values())
    assert max(counts.values()) <= 18, counts.most_common(3)


def test_the_table_of_rooms_is_current() -> None:
    assert ROOMS["PAGE"].read_text(encoding="utf-8") == ROOMS["document"](), "run python docs/make_rooms.py"


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
        f"        if error.name not in {OPTIONAL!r}: raise\n"
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
