"""Custom classifiers: find, import and build "path/to/file.py:function"."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from fullconv.errors import ModelError

__all__ = ["absolute", "file_and_function", "from_file", "located"]


def file_and_function(name: str) -> tuple[Path, str] | None:
    """File and function of "file.py:function"; None for other names."""
    match = re.fullmatch(r"(.+\.py):(\w+)", name)
    return (Path(match[1]), match[2]) if match else None


def absolute(name: str) -> str:
    """The name with the whole path of its file, so that it holds in any folder; other names as they are.

    Raises ModelError where there is no such file.
    """
    own = file_and_function(name)
    if own is None:
        return name
    path, function = own
    if not path.is_file():
        raise ModelError(f"there is no file {path}; name yours as FILE.py:FUNCTION")
    return f"{path.resolve()}:{function}"


def located(name: str, weights: Path) -> str:
    """The name with the path at which its file lies now, for a network whose weights are in the file `weights`.

    Where the path is gone, a file called the same counts that lies with the weights, next to their folder, or in the
    current folder. The name as it is where there is none, and for names that are no files.
    """
    own = file_and_function(name)
    if own is None:
        return name
    path, function = own
    folder = weights.resolve().parent
    places = (path, folder / path.name, folder.parent / path.name, Path(path.name))
    return next((f"{place.resolve()}:{function}" for place in places if place.is_file()), name)


def from_file(path: Path, function: str) -> nn.Module:
    """Import the file and call its function; on the CPU wherever other networks are built, as it may read weights."""
    if not path.is_file():
        raise ModelError(
            f"there is no file {path}, which a network of {path.name}:{function} is built from; put {path.name} there, "
            "next to the run folder, or into the folder that you call from"
        )
    spec = importlib.util.spec_from_file_location(f"fullconv_model_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        with _importing_from(path), torch.device("cpu"):
            spec.loader.exec_module(module)
            build = getattr(module, function, None)
            if not callable(build):
                raise ModelError(f"{path} has no function {function}() that gives a classifier")
            model = build()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{path}:{function}() failed: {type(error).__name__}: {error}") from error
    if isinstance(model, nn.DataParallel):
        model = model.module
    if not isinstance(model, nn.Module):
        raise ModelError(f"{path}:{function}() gives {type(model).__name__}, not a torch.nn.Module")
    return model


@contextmanager
def _importing_from(path: Path) -> Iterator[None]:
    """Meanwhile, modules in the file's folder can be imported by name."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
