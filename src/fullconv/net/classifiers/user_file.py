"""Custom classifiers: find, import and build those named "path/to/file.py:function".

The code of a file runs if the user names it, or if a model names it by its absolute path and the SHA-256 that it had
when the model was trained. Nothing is searched for, in any folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

import torch
from torch import nn

from fullconv.choices import refuse_code
from fullconv.errors import ModelError
from fullconv.files import StrPath

__all__ = [
    "allow_code",
    "build_from_file",
    "hash_code",
    "make_absolute",
    "parse_user_file",
    "path_of_code",
]

MAX_BYTES = 16 * 2**20
"""The size up to which a file counts as Python code, so that nothing huge or endless is read."""


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


def path_of_code(name: str) -> Path | None:
    """Return the file of "file.py:function"; None for other names."""
    user_file = parse_user_file(name)
    return None if user_file is None else user_file[0]


def hash_code(name: str) -> str | None:
    """Return the SHA-256 of the file of "file.py:function"; None for other names and where there is no such file."""
    path = path_of_code(name)
    if path is None or not path.is_file() or path.stat().st_size > MAX_BYTES:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()


def allow_code(name: str, sha256: str | None, model: Path, code: StrPath | None = None) -> str:
    """Return the classifier that may be built for the file `model`, which names the classifier `name`.

    `code` is the FILE.py, or FILE.py:FUNCTION, that the user names for this model; it takes the place of the file in
    `name`. Without it, the file must be at its absolute path on this computer, with the hash `sha256`. Names that are
    not of files stay as they are.

    Raises ModelError if the user has to name the code, and UsageError for code that the model does not need.
    """
    user_file = parse_user_file(name)
    if user_file is None:
        refuse_code(model, code)
        return name
    path, function = user_file
    if code is not None:
        named = str(code)
        return make_absolute(named if parse_user_file(named) else f"{named}:{function}")
    reason = _reason_against(name, path, sha256)
    if reason:
        raise ModelError(
            f"{model}: its network is built by the function {function}() of {path}, {reason}; if you trust a file with "
            "this function, name it: --model-code FILE.py, or code='FILE.py' in Python; train (--start, --teacher) "
            "needs that file as it was",
            code="code-not-named",
        )
    return name


def _reason_against(name: str, path: Path, sha256: str | None) -> str:
    """Return why the file must not run unless the user names it; empty if it may."""
    if PureWindowsPath(str(path)).drive.startswith("\\\\"):  # asking for the file would connect to that computer
        return "a path of another computer"
    if not path.is_absolute():
        return "which is not an absolute path"
    if sha256 is None:
        return "whose SHA-256 the model does not record"
    if not path.is_file():
        return "and there is no such file"
    return "" if hash_code(name) == sha256 else "which is not the file of the training"


def build_from_file(path: Path, function: str) -> nn.Module:
    """Import the file, call its function, and return the classifier.

    The function runs with the CPU as default device, because it may read weights. Raises ModelError if there is no such
    file or function, if it fails, or if it does not return a torch.nn.Module.
    """
    if not path.is_file():
        raise ModelError(
            f"{path}: there is no such file; name a custom classifier as FILE.py:FUNCTION", code="no-classifier-file"
        )
    spec = importlib.util.spec_from_file_location(f"fullconv_model_{path.stem}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        with _importing_from(path), torch.device("cpu"):
            code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)  # not the code in __pycache__
            exec(code, module.__dict__)
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
