"""onnxruntime-web, the program that runs networks in browsers: one version, whose hash is checked."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from fullconv.errors import FullconvError, UsageError
from fullconv.files import copy_file

__all__ = ["RUNTIME", "SHA512", "cached_archive", "find_archive", "read_archive"]

RUNTIME = "onnxruntime-web 1.30.0"
"""The package of npm and its version."""

SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""The hash of its archive in base64: the `integrity` that npm states."""

FILES = {
    "ort.js": "package/dist/ort.wasm.bundle.min.mjs",
    "ort.wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}
"""The files of a page, and where they are in the archive."""

TIMEOUT = 600
"""Seconds that npm may take."""

logger = logging.getLogger(__name__)


def cached_archive() -> Path:
    """Return where the archive is kept after it was fetched: below XDG_CACHE_HOME, LOCALAPPDATA or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "fullconv" / f"{RUNTIME.replace(' ', '-')}.tgz"


def find_archive(given: Path | None = None, cache: Path | None = None, npm: str = "npm") -> Path:
    """Return the archive of `RUNTIME`: the file that is given, the one in the cache, or one that npm fetches now.

    Raises UsageError if the file that is given is another one, and FullconvError if npm cannot fetch it.
    """
    if given is not None:
        if not given.is_file() or not _is_right(given):
            message = f"{given} is not the archive of {RUNTIME}; make it with: npm pack {_spec()}"
            raise UsageError(message, code="wrong-runtime-archive")
        return given
    cache = cache or cached_archive()
    if not cache.is_file() or not _is_right(cache):
        _fetch(cache, npm)
    return cache


def read_archive(archive: Path) -> Mapping[str, bytes]:
    """Return the content of the files that a page needs, by their names there."""
    contents = {}
    with tarfile.open(archive) as opened:
        for name, inside in FILES.items():
            file = opened.extractfile(inside)
            assert file is not None
            contents[name] = file.read()
    return contents


def _fetch(cache: Path, program: str) -> None:
    """Let npm fetch the archive, from the registry that the user has set, and keep it."""
    npm = shutil.which(program)
    advice = f"get it with `npm pack {_spec()}` where that works, and give the file with --onnxruntime-web"
    if npm is None:
        message = f"the page needs {RUNTIME}, which npm fetches, and npm is not installed; {advice}"
        raise FullconvError(message, code="npm-missing")
    logger.info("npm fetches %s once (33 MB); the page itself needs no network", RUNTIME)
    with TemporaryDirectory() as folder:
        command = [npm, "pack", _spec(), "--ignore-scripts", "--pack-destination", folder]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False
            )
            reason = "" if done.returncode == 0 else _first_error(done.stderr) or f"exit code {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        if reason:
            raise FullconvError(f"npm cannot fetch {RUNTIME} ({reason}); {advice}", code="npm-failed")
        archives = [path for path in Path(folder).glob("*.tgz") if _is_right(path)]
        if not archives:
            message = f"the archive of {RUNTIME} that npm fetched has another SHA-512 than the published one; {advice}"
            raise FullconvError(message, code="npm-fetched-another")
        copy_file(archives[0], cache)


def _first_error(printed: str) -> str:
    """Return the first line that npm marks as an error, else the first line."""
    lines = printed.strip().splitlines()
    errors = [line for line in lines if line.startswith(("npm error", "npm ERR!"))]
    return next(iter(errors + lines), "")


def _spec() -> str:
    return RUNTIME.replace(" ", "@")


def _is_right(path: Path) -> bool:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode() == SHA512
