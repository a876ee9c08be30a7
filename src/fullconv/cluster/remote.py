"""Addresses of images in object stores and on the web. Only Ray's engine reads them, and only on request."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from fullconv.errors import DataError, FullconvError
from fullconv.extras import need
from fullconv.images import BAND_SUFFIXES
from fullconv.predict.inputs import is_url

__all__ = ["PROTOCOLS", "expand_addresses", "fetch", "is_address", "local_name", "local_paths"]

PROTOCOLS = ("s3", "gs", "https", "http")
"""The protocols of addresses that are read."""


def is_address(text: str) -> bool:
    """Return whether a text is an address with one of `PROTOCOLS`, as s3://bucket/photo.jpg."""
    return re.match(rf"({'|'.join(PROTOCOLS)})://[^/]", text, re.IGNORECASE) is not None


def expand_addresses(arguments: Sequence[str]) -> list[str]:
    """Return the addresses of the images that the arguments name: files, patterns, and folders with all they hold.

    Raises DataError for an address without an image, and FullconvError if it cannot be listed.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        system, path = _open(argument)
        scheme = argument.partition("://")[0]
        with _errors(argument):
            if has_magic(path) and scheme not in ("http", "https"):
                matches = sorted(system.glob(path))
            elif _suffix(argument) in BAND_SUFFIXES:
                matches = [path]
            else:
                matches = sorted(system.find(path))
        images = [match for match in matches if _suffix(match) in BAND_SUFFIXES]
        if not images:
            raise DataError(f"{argument}: no images at this address; check it", code="no-images-at-address")
        found.update({match if is_url(match) else f"{scheme}://{match}": None for match in images})
    return list(found)


def local_name(address: str) -> Path:
    """Return a path from which the results of an address are named: /host/folder/photo.jpg.

    Only an address on the web has a query and escapes; in an object store, ? # and % are letters of the name.
    """
    scheme, _, rest = address.partition("://")
    if scheme.lower() in ("http", "https"):
        parts = urlsplit(address)
        rest = parts.netloc + unquote(parts.path)
    host, _, path = rest.partition("/")
    return Path("/", host.replace(":", "_") or "_", path.lstrip("/"))


def local_paths(images: Sequence[str]) -> list[Path]:
    """Return a path for each image, from which its results are named: its own, or the `local_name` of an address.

    Names of addresses that are not unique get a hash of the address.
    """
    remote = [is_address(image) and not os.path.lexists(image) for image in images]
    paths = [local_name(image) if far else Path(image) for image, far in zip(images, remote, strict=True)]
    count = Counter(map(os.path.abspath, paths))
    for index, path in enumerate(paths):
        if remote[index] and count[os.path.abspath(path)] > 1:
            digest = hashlib.sha256(images[index].encode("utf-8", "surrogateescape")).hexdigest()[:8]
            paths[index] = path.with_name(f"{path.stem}-{digest}{path.suffix}")
    return paths


@contextmanager
def fetch(address: str) -> Iterator[Path]:
    """Download an image to a temporary file, whose name is the same, and remove it at the end."""
    system, path = _open(address)
    with tempfile.TemporaryDirectory(prefix="fullconv-") as folder:
        target = Path(folder, local_name(address).name)
        with _errors(address):
            system.get_file(path, str(target))
        yield target


def _suffix(address: str) -> str:
    return (local_name(address) if is_url(address) else PurePosixPath(address)).suffix.lower()


def _open(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path there."""
    need("ray", "fsspec")
    import fsspec

    with _errors(address):
        system, path = fsspec.core.url_to_fs(address)
    return system, path


@contextmanager
def _errors(address: str) -> Iterator[None]:
    """Turn the errors of fsspec's many libraries into one sentence."""
    try:
        yield
    except Exception as error:  # each store has other exceptions
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        message = f"{address}: cannot be read ({reason}); check the address, the rights and the library of the store"
        raise FullconvError(message, code="address-not-read") from error
