"""The manifest of a run over many images: one line an image, so that the next run does only what is left."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fullconv.errors import FullconvError
from fullconv.files import open_regular, read_file, write_text
from fullconv.locks import hold_lock
from fullconv.predict.resumable import same_probes

__all__ = ["MANIFEST_FILE", "Entry", "Manifest"]

MANIFEST_FILE = "manifest.jsonl"
"""The name of the manifest, in the output folder."""


@dataclass(frozen=True)
class Entry:
    """An image that was processed: its path, bytes and time, the name of its results, and what became of it.

    `files` are those of its results, relative to the folder of all results. The table of areas is not one of them.
    """

    image: str
    name: str
    state: list[int]
    rows: list[list[str]]
    files: list[str]
    error: str | None
    seconds: float
    worker: str


class Manifest:
    """The manifest in `out`, which one process at a time writes.

    The first line holds `job`, which describes model and results, and `probe`, numbers that the model computed. If they
    have changed, all images are processed again. Each further line is an `Entry`; a later line replaces an earlier one,
    and an incomplete last line does not count. `entries` are those of the images that are done, by path.
    """

    def __init__(self, out: Path, job: Mapping[str, Any], probe: list[float]) -> None:
        """Read the manifest, or start a new one. Raises FullconvError if another process is writing it."""
        self.path = out / MANIFEST_FILE
        self._lock = hold_lock(out / f".{MANIFEST_FILE}.lock", str(out))
        self._lock.__enter__()
        self.entries = _read(self.path, job, probe)
        head = json.dumps({**job, "probe": probe})
        write_text(self.path, "".join(f"{line}\n" for line in [head, *map(_line, self.entries.values())]))
        self._file = os.fdopen(open_regular(self.path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)

    def __enter__(self) -> Self:
        """Return the manifest."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Write the lines to the disk, and close the file."""
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
            self._lock.__exit__(None, None, None)

    def add(self, entry: Entry) -> None:
        """Append an entry. Raises FullconvError if the disk is full."""
        try:
            self._file.write(f"{_line(entry)}\n".encode())
        except OSError as error:
            message = f"{self.path}: cannot be written ({error.strerror}); check the folder and the disk"
            raise FullconvError(message, code="file-not-writable") from error
        self.entries[entry.image] = entry

    def forget(self, names: Collection[str]) -> None:
        """Drop the entries with these names of results, which this run replaces. Raises as `add`."""
        for entry in [entry for entry in self.entries.values() if entry.name in names]:
            self.add(replace(entry, rows=[], files=[], error="its results were replaced"))
            del self.entries[entry.image]


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry))


def _read(path: Path, job: Mapping[str, Any], probe: list[float]) -> dict[str, Entry]:
    """Return the entries without error of a manifest of the same job."""
    try:
        head, *lines = read_file(path).split(b"\n")[:-1]
        stored = json.loads(head)
        if not same_probes(stored.pop("probe"), probe) or stored != json.loads(json.dumps(job)):
            return {}
        entries = [Entry(**json.loads(line)) for line in lines]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    latest = {entry.image: entry for entry in entries}
    return {image: entry for image, entry in latest.items() if entry.error is None}
