"""Archives of data sets: unpacked once into the user's cache folder, and read from there."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import lzma
import os
import re
import shutil
import stat
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from fullconv.data.discovery.words import parse_name
from fullconv.errors import DataError
from fullconv.files import is_litter

__all__ = ["Limits", "data_name", "is_archive", "unpack"]

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

BLOCK = 2**20

_DRIVE = re.compile("[A-Za-z]:")

_DECODING_ERRORS = (zlib.error, lzma.LZMAError, gzip.BadGzipFile)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """An archive with more bytes or files is not unpacked: a small file can hold a huge number of either."""

    bytes: int = 2**36
    files: int = 1_000_000


LIMITS = Limits()


@dataclass(frozen=True)
class _Member:
    """A member of an archive: `open` opens a file, and is None for a folder.

    `problem` says why the member must not be written, and is empty if it may.
    """

    name: str
    open: Callable[[], IO[bytes] | None] | None
    problem: str = ""


def is_archive(path: Path) -> bool:
    """Return whether a path is an archive by its name, and a file."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def data_name(path: Path) -> str:
    """Return the name of a data set for other files: that of its folder, or of its archive without the suffix."""
    name = path.resolve().name
    suffix = next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(suffix)), "")
    return name[: -len(suffix)] if suffix and not path.is_dir() and len(name) > len(suffix) else name


def unpack(path: Path, cache: Path | None = None, limits: Limits = LIMITS) -> Path:
    """Unpack an archive into a folder under `cache`, named by its SHA-256 and its name, and return that folder.

    If the folder exists, it is returned at once: it appears only when it is complete. A single folder at the top is
    left out. Hidden files and other litter are not written. Raises DataError if the archive is damaged, encrypted or
    too large, or has members that are no files and folders or lie outside of it.
    """
    cache = cache or _cache_folder()
    target = cache / _hash(path) / data_name(path)
    if target.is_dir():
        logger.info(f"{path}: is read from {target}, where it was unpacked before")
        return target
    temporary = cache / f".{uuid.uuid4().hex}.partial"
    try:
        temporary.mkdir(parents=True)
        _write_members(path, temporary, limits)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _top(temporary).rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster
                raise
    except OSError as error:
        problem = f"cannot be unpacked into {cache} ({error.strerror or error}); make room there, or unpack it yourself"
        raise DataError(f"{path}: {problem}", code="archive-not-unpacked") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    logger.info(f"{path}: unpacked into {target}")
    return target


def _cache_folder() -> Path:
    """Return the folder for unpacked archives: below XDG_CACHE_HOME, LOCALAPPDATA or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "fullconv" / "archives"


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _top(folder: Path) -> Path:
    """Return the single folder in `folder`, unless its name says what it holds (`images`, `train`); else `folder`."""
    entries = list(folder.iterdir())
    if len(entries) != 1 or not entries[0].is_dir():
        return folder
    parts = parse_name(entries[0].name)
    return folder if (parts.role or parts.split) and not parts.rest else entries[0]


def _write_members(path: Path, folder: Path, limits: Limits) -> None:
    """Write the files of an archive. Raises DataError before anything unsafe is written."""
    written = count = 0
    with _members(path) as members:
        for member in members:
            parts = _safe_parts(path, member)
            if any(map(is_litter, parts)) or member.open is None:
                continue
            count += 1
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file, member.open() or io.BytesIO() as content:
                while block := content.read(BLOCK):
                    written += len(block)
                    _check_limits(path, written, count, limits)
                    file.write(block)
    if not count:
        raise DataError(f"{path}: contains no files; give another archive or a folder", code="empty-archive")


def _check_limits(path: Path, written: int, count: int, limits: Limits) -> None:
    if written > limits.bytes or count > limits.files:
        bound = f"{limits.bytes / 2**30:g} GiB or {limits.files:,} files"
        raise DataError(f"{path}: holds more than {bound}; unpack it, and give the folder", code="archive-too-large")


def _safe_parts(path: Path, member: _Member) -> tuple[str, ...]:
    """Return the parts of a member's path. Raises DataError if it is not a file inside of the archive."""
    name = member.name.replace("\\", "/")
    parts = PurePosixPath(name).parts
    outside = name.startswith("/") or ".." in parts or _DRIVE.match(name) is not None or "\0" in name
    problem = "lies outside of the archive" if outside else member.problem
    if problem:
        message = f"{path}: its member {member.name!r} {problem}; unpack it, and give the folder"
        raise DataError(message, code="unsafe-archive")
    return tuple(part for part in parts if part != ".")


@contextmanager
def _members(path: Path) -> Iterator[Iterator[_Member]]:
    """Yield the members of an archive in order. Raises DataError if it is damaged or encrypted."""
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                yield _zip_members(path, archive)
        else:
            with tarfile.open(path) as tar:
                yield _tar_members(tar)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, *_DECODING_ERRORS) as error:
        message = f"{path}: is damaged or not such an archive ({error}); download it again"
        raise DataError(message, code="damaged-archive") from error


def _zip_members(path: Path, archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.flag_bits & 1:
            raise DataError(f"{path}: is encrypted; unpack it, and give the folder", code="encrypted-archive")
        if info.is_dir():
            yield _Member(info.filename, None)
        elif kind not in (0, stat.S_IFREG):
            yield _Member(info.filename, None, "is a link or a device")
        else:
            yield _Member(info.filename, partial(archive.open, info))


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        if info.isdir():
            yield _Member(info.name, None)
        elif not info.isreg():
            yield _Member(info.name, None, "is a link or a device")
        else:
            yield _Member(info.name, partial(tar.extractfile, info))
    if tar.fileobj is not None:  # a file that was cut between two members has no end mark, and tarfile does not mind
        tar.fileobj.seek(tar.offset)
        if len(tar.fileobj.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
            raise EOFError("its end is missing")
