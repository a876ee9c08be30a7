"""A TIFF that the disk cannot hold is an error, also where GDAL reports none; the last complete file remains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fullconv.files import atomic_write
from fullconv.images.banded_writer import BAND, write_bands
from fullconv.images.decoders import gdal
from fullconv.labels import LabelSet
from geotiffs import LABELS
from refusals import refuses

resource = pytest.importorskip("resource")

SIZE = (BAND + 100, 600)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow above `size` bytes, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write(path: Path, labels: LabelSet | None) -> None:
    noise = np.random.default_rng(0).integers(0, 3, SIZE if labels else (*SIZE, 3), np.uint8)
    write_bands(path, SIZE, iter([noise[:BAND], noise[BAND:]]), labels, None)


def write_cog(path: Path, source: Path) -> None:
    with atomic_write(path) as temporary:
        gdal.write_cog(source, temporary)


@pytest.mark.parametrize("kind", ["labels", "overlay", "cog"])
def test_a_file_larger_than_the_disk_is_an_error(tmp_path: Path, kind: str) -> None:
    path, source = tmp_path / "a.tif", tmp_path / "source.tif"
    write(source, LABELS)

    def work() -> None:
        write_cog(path, source) if kind == "cog" else write(path, LABELS if kind == "labels" else None)

    work()
    complete = path.read_bytes()
    for missing in (1, 1000, len(complete) // 2, len(complete) - 2500, len(complete) - 100):
        with refuses("file-not-writable", path), room_for(len(complete) - missing):
            work()
        assert path.read_bytes() == complete
        assert sorted(tmp_path.iterdir()) == [path, source]
