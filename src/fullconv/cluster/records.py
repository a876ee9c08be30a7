"""The record of a finished share: what it was made of, and its file. The records of a folder are its manifest."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from fullconv.errors import UsageError
from fullconv.files import read_file, write_json
from fullconv.images.decoders.base import GeoTags
from fullconv.predict.resumable import same_probes

__all__ = ["FOLDER_SUFFIX", "Origin", "Record", "Share", "fingerprint", "hash_file", "list_records", "read_record"]

FOLDER_SUFFIX = ".blocks"
"""The end of the name of the folder of an image's shares."""

SAMPLES, SAMPLE = 256, 2**16
"""Pieces of a file that its fingerprint covers, and the bytes of each."""


@dataclass(frozen=True)
class Share:
    """The `number`-th of `of` shares of an image; the first one is 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the share of a text such as 3/16. Raises UsageError for anything else."""
        match = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            message = f"--blocks {text}: write share/shares, from 1/16 to 16/16 for sixteen shares"
            raise UsageError(message, code="invalid-share")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def stem(self) -> str:
        """The name of its files, without suffix."""
        return f"{self.number:0{len(str(self.of))}}-of-{self.of}"


@dataclass(frozen=True)
class Origin:
    """The georeference of the whole image: WKT, an affine transform, and points (row, column, x, y, z)."""

    crs: str
    transform: tuple[float, float, float, float, float, float] | None
    points: tuple[tuple[float, float, float, float, float], ...]

    @classmethod
    def of(cls, geo: GeoTags | None) -> Self | None:
        """Return the georeference that rasterio has read; None for None."""
        if geo is None:
            return None
        points = tuple((point.row, point.col, point.x, point.y, point.z or 0.0) for point in geo.gcps or ())
        transform = None if geo.transform is None or points else tuple(geo.transform)[:6]
        return cls("" if geo.crs is None else geo.crs.to_wkt(), transform, points)


@dataclass(frozen=True)
class Record:
    """A finished share.

    `job` names image, tiles, classes and kinds of results, and `probe` are numbers that the model computed: they are
    equal for all shares of one image, the probe up to rounding. `path` and `modified` are the image's resolved path and
    its time in nanoseconds. `region` is (top, left, height, width) of the block, `counts` holds the number of its
    pixels of each label, 0 to 255, and `bytes` and `sha256` describe its file. `image` is the image as the user named
    it, and `square_metres` the area of a pixel, if known.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    number: Annotated[int, Field(ge=1)]
    of: Annotated[int, Field(ge=1)]
    job: dict[str, Any]
    probe: list[FiniteFloat]
    path: str
    modified: int
    image: str
    region: tuple[int, int, int, int]
    geo: Origin | None
    square_metres: float | None
    counts: Annotated[tuple[int, ...], Field(min_length=256, max_length=256)]
    bytes: int
    sha256: str
    tiles: int
    seconds: float

    @property
    def share(self) -> Share:
        """The share."""
        return Share(self.number, self.of)

    def write(self, folder: Path) -> None:
        """Write the record next to its file, atomically."""
        write_json(folder / f"{self.share.stem}.json", asdict(self))

    def difference(self, other: Record) -> str:
        """Return what the shares have been made of differently; "" if they fit."""
        if self.of != other.of:
            return f"{other.of} shares in all, not {self.of}"
        if self.job["image"] != other.job["image"] or (self.path == other.path and self.modified != other.modified):
            return "another state of the image"
        if not same_probes(other.probe, self.probe):
            return "another model"
        keys = sorted(key for key in {*self.job, *other.job} if self.job.get(key) != other.job.get(key))
        return f"another value of {', '.join(keys)}" if keys else ""

    def is_intact(self, folder: Path) -> bool:
        """Return whether the file of the share has the content that it had when it was written."""
        path = folder / f"{self.share.stem}.tif"
        try:
            return path.stat().st_size == self.bytes and hash_file(path) == self.sha256
        except OSError:
            return False


def read_record(path: Path) -> Record | None:
    """Read a record; None if the file is damaged or anything else."""
    try:
        record = TypeAdapter(Record).validate_json(read_file(path))
    except (OSError, ValidationError, ValueError):
        return None
    return record if "image" in record.job and path.stem == record.share.stem else None


def list_records(folder: Path) -> list[Path]:
    """Return the files of the records in a folder of shares, sorted."""
    return sorted(path for path in folder.glob("*.json") if re.fullmatch(r"\d+-of-\d+", path.stem))


def fingerprint(path: Path) -> list[Any]:
    """Return size and a hash that identify the content of a file, on any machine.

    The hash covers `SAMPLES` pieces from the first to the last byte, so that it takes no time for a file of any size.
    """
    size = path.stat().st_size
    digest, last = hashlib.sha256(), max(0, size - SAMPLE)
    with path.open("rb") as file:
        for offset in sorted({last * number // (SAMPLES - 1) for number in range(SAMPLES)}):
            file.seek(offset)
            digest.update(file.read(SAMPLE))
    return [size, digest.hexdigest()]


def hash_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
