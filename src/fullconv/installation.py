"""This installation of fullconv: the pip command that adds an extra, the files of the package, and the module path."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import sys
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["module_path", "pip_command", "real_path"]


def pip_command(extra: str) -> str:
    """Return the pip command that installs an extra from the origin of this installation.

    The origin is a checkout, an archive, a repository or an index. A checkout in the current folder is written as `.`.
    An editable installation stays editable.
    """
    origin = _origin()
    if origin is None:
        return f"pip install {_quote(f'fullconv[{extra}]')}"
    if "dir_info" in origin:
        folder = Path(url2pathname(urlsplit(origin["url"]).path))
        name = "." if folder == Path.cwd() else str(folder)
        option = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install {option}{_quote(f'{name}[{extra}]')}"
    return f"pip install {_quote(f'fullconv[{extra}] @ {_direct_reference(origin)}')}"


def module_path() -> str:
    """Return the `PYTHONPATH` with which another Python process finds the modules of this one.

    That process gets `-P`: otherwise it would import the Python files of the current folder, such as a `random.py`.
    """
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def _origin() -> dict[str, Any] | None:
    """Return what pip recorded in direct_url.json (PEP 610); None for an installation from an index."""
    try:
        text = distribution("fullconv").read_text("direct_url.json")
    except PackageNotFoundError:  # imported from a checkout without installation
        checkout = Path(__file__).parents[2]
        if not (checkout / "pyproject.toml").is_file():
            return None
        return {"url": checkout.as_uri(), "dir_info": {}}
    return None if text is None else dict(json.loads(text))


def _direct_reference(origin: dict[str, Any]) -> str:
    """Return the URL of an archive, or of a repository at the installed commit."""
    url: str = origin["url"]
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    return f"{url}#subdirectory={origin['subdirectory']}" if "subdirectory" in origin else url


def _quote(requirement: str) -> str:
    return f'"{requirement}"' if os.name == "nt" else shlex.quote(requirement)


def real_path(resource: Traversable) -> Path:
    """Return the path of a file of the package. From an archive (zipimport), it is copied to a temporary file."""
    if isinstance(resource, Path):
        return resource
    name = str(resource)
    if name not in _EXTRACTED:
        _EXTRACTED[name] = _FILES.enter_context(as_file(resource))
    return _EXTRACTED[name]


_FILES = ExitStack()
_EXTRACTED: dict[str, Path] = {}
atexit.register(_FILES.close)
