"""Custom classifiers: find, import and build those named "path/to/file.py:function"."""

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

__all__ = ["build_from_file", "locate_user_file", "make_absolute", "parse_user_file"]


def parse_user_file(name: str) -> tuple[Path, str] | None:
    """Return file and function of "file.py:function"; None for other names."""
    match = re.fullmatch(r"(.+\.py):(\w+)", name)
    return (Path(match[1]), match[2]) if match else None


def make_absolute(name: str) -> str:
    """Return the name with the absolute path of its file, so it is valid in any folder; other names as they are.

    Raises ModelError if there is no such file.
    """
    user_file = parse_user_file(name)
    if user_file is None:
        return name
    path, function = user_file
    if not path.is_file():
        message = f"{path}: there is no such file; name a custom classifier as FILE.py:FUNCTION"
        raise ModelError(message, code="no-classifier-file")
    return f"{path.resolve()}:{function}"


def locate_user_file(name: str, weights: Path) -> str:
    """Return the name with the current path of its file, for a network whose weights are in the file `weights`.

    If the file was moved, a file of the same name in the folder of the weights, next to this folder, or in the current
    folder takes its place. Without such a file, the name stays as it is, as do names that are not of files.
    """
    user_file = parse_user_file(name)
    if user_file is None:
        return name
    path, function = user_file
    folder = weights.resolve().parent
    candidates = (path, folder / path.name, folder.parent / path.name, Path(path.name))
    return next((f"{candidate.resolve()}:{function}" for candidate in candidates if candidate.is_file()), name)


def build_from_file(path: Path, function: str) -> nn.Module:
    """Import the file, call its function, and return the classifier.

    The function runs with the CPU as default device, because it may read weights. Raises ModelError if there is no such
    file or function, if it fails, or if it does not return a torch.nn.Module.
    """
    if not path.is_file():
        raise ModelError(
            f"{path}: there is no such file, and the network is built by its function {function}(); put {path.name} "
            "there, into the run folder, next to it, or into the current folder",
            code="classifier-file-missing",
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
                raise ModelError(f"{path} has no function {function}()", code="no-classifier-function")
            model = build()
    except ModelError:
        raise
    except Exception as error:
        message = f"{path}:{function}() failed: {type(error).__name__}: {error}"
        raise ModelError(message, code="classifier-function-failed") from error
    if isinstance(model, nn.DataParallel):
        model = model.module
    if not isinstance(model, nn.Module):
        message = f"{path}:{function}() returns {type(model).__name__}, not a torch.nn.Module"
        raise ModelError(message, code="not-a-module")
    return model


@contextmanager
def _importing_from(path: Path) -> Iterator[None]:
    """Let the file import other modules in its folder by name."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
