"""Join the shares of an image: check them against their records, and write a VRT and, if asked, one COG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fullconv.arrays import UInt8
from fullconv.cluster.records import FOLDER_SUFFIX, Origin, Record, Share, list_records, read_record
from fullconv.errors import DataError, UsageError
from fullconv.extras import need
from fullconv.files import atomic_write
from fullconv.images import open_image
from fullconv.images.banded_writer import BAND, write_bands
from fullconv.images.georeference import Georeference
from fullconv.images.vrt import VrtSource, write_vrt
from fullconv.labels import LabelSet
from fullconv.predict.areas_table import AREAS_FILE, format_areas, update_areas
from fullconv.predict.large import report_write_errors
from fullconv.predict.outputs import compute_areas
from fullconv.predict.result import file_identity
from fullconv.runtime.runner import Runner

if TYPE_CHECKING:
    from fullconv.images.decoders.gdal import GdalReader
from fullconv.predict.resumable import read_progress

__all__ = ["Joined", "join_blocks", "join_folder", "write_joined"]


@dataclass(frozen=True)
class Joined:
    """A joined image: its VRT, its COG if it was asked for, its size (height, width), and the number of its shares."""

    vrt: Path
    cog: Path | None
    size: tuple[int, int]
    shares: int


def join_blocks(out: Path, cog: bool = False) -> list[Joined]:
    """Join the shares of every image in `out`, as `join_folder` does, and return one result an image.

    Raises UsageError if there are no shares.
    """
    folders = sorted(path for path in out.glob(f"*{FOLDER_SUFFIX}") if path.is_dir()) if out.is_dir() else []
    if not folders:
        message = f"{out}: has no shares of an image; run fullconv predict MODEL IMAGE --out {out} --blocks I/N first"
        raise UsageError(message, code="no-blocks")
    return [join_folder(folder, cog) for folder in folders]


def join_folder(folder: Path, cog: bool = False) -> Joined:
    """Join the shares in `folder`, NAME.blocks: write NAME.vrt, NAME.tif with `cog`, and the rows of areas.csv.

    The VRT refers to the blocks, so the folder has to stay. The COG holds all pixels, with overviews. The table of
    areas gets its rows if the shares were to save areas.

    Raises DataError that lists every share that is missing, unfinished, damaged, or made of another image or model;
    then nothing is written. Raises FullconvError if a file cannot be written.
    """
    records = _read_shares(folder)
    first = records[0]
    height, width = first.job["image"][2:4]
    name, labels = folder.name.removesuffix(FOLDER_SUFFIX), LabelSet.from_dict(first.job["labels"])
    vrt, tif = folder.with_name(f"{name}.vrt"), folder.with_name(f"{name}.tif")
    if Path(first.path) in (Path(file_identity(vrt)), Path(file_identity(tif))):
        message = f"{first.path}: its result would overwrite the input {tif}; choose another folder or name"
        raise UsageError(message, code="overwrites-input")
    sources = [VrtSource(f"{folder.name}/{record.share.stem}.tif", record.region) for record in records]
    geo = first.geo or Origin("", None, ())
    palette = labels.colorize(np.arange(256, dtype=np.uint8))
    write_vrt(vrt, (height, width), sources, palette, labels.ignore_index, geo.crs, geo.transform, geo.points)
    if cog:
        need("geo", "rasterio")
        from fullconv.images.decoders.gdal import write_cog

        with atomic_write(tif) as temporary:
            write_cog(vrt, temporary)
    if "areas" in first.job["save"]:
        counts = np.sum([record.counts for record in records], 0)
        geo_area = None if first.square_metres is None else Georeference("", (1, 0, 0, 0, 1, 0), first.square_metres)
        rows = format_areas(first.image, compute_areas(counts, labels, geo_area))
        update_areas(folder.with_name(AREAS_FILE), rows)
    return Joined(vrt, tif if cog else None, (height, width), len(records))


def write_joined(folder: Path, image: Path, target: Path | None, runner: Runner) -> tuple[tuple[int, ...], str]:
    """Write the labels of all shares in `folder` to `target` as `predict_large` does, byte for byte.

    Returns the number of pixels of each label, 0 to 255, and the note on the bands of `image`. Raises as `join_folder`.
    """
    from fullconv.images.decoders.gdal import open_gdal

    records = _read_shares(folder)
    size: tuple[int, int] = tuple(records[0].job["image"][2:4])
    with open_image(image, runner.info.input) as reader:
        geo, note = reader.geo, reader.note
    if target is not None:
        with ExitStack() as stack, report_write_errors(target):
            files = [folder / f"{record.share.stem}.tif" for record in records]
            blocks = [stack.enter_context(open_gdal(file, "GTiff")) for file in files]
            regions = [record.region for record in records]
            write_bands(target, size, _read_bands(size, blocks, regions), runner.info.labels, geo)
    return tuple(int(number) for number in np.sum([record.counts for record in records], 0)), note


def _read_bands(
    size: tuple[int, int], blocks: Sequence[GdalReader], regions: Sequence[tuple[int, int, int, int]]
) -> Iterator[UInt8]:
    """Yield bands of `BAND` rows of the whole image."""
    for top in range(0, size[0], BAND):
        band = np.empty((min(BAND, size[0] - top), size[1]), np.uint8)
        for block, (first, left, height, width) in zip(blocks, regions, strict=True):
            rows = range(max(top, first), min(top + len(band), first + height))
            if rows:
                stored = block.stored(range(rows.start - first, rows.stop - first), range(width))
                band[rows.start - top : rows.stop - top, left : left + width] = stored[..., 0]
        yield band


def _read_shares(folder: Path) -> list[Record]:
    """Return the records of all shares, in their order. Raises DataError as `join_folder`."""
    read = {path: read_record(path) for path in list_records(folder)}
    records = [record for record in read.values() if record is not None]
    faults = [f"{path.name}: damaged; run this share again" for path, record in read.items() if record is None]
    if not records:
        raise DataError(f"{folder}: no share is finished", details=faults or _unfinished(folder), code="blocks-missing")
    reference = _most_common(records)
    faults += [
        f"share {record.share}: made with {difference}; delete its files, and run it again"
        for record in records
        if (difference := reference.difference(record))
    ]
    if faults:
        raise DataError(f"{folder}: these shares do not belong together", details=faults, code="blocks-differ")
    done = {record.number: record for record in records}
    for number in range(1, reference.of + 1):
        fault = _find_fault(folder, Share(number, reference.of), done.get(number))
        if fault:
            faults.append(fault)
    if faults:
        summary = f"{folder}: {len(faults)} of {reference.of} shares are not finished; run them again, then join"
        raise DataError(summary, details=faults, code="blocks-missing")
    _check_cover(folder, records)
    return [done[number] for number in sorted(done)]


def _most_common(records: Sequence[Record]) -> Record:
    """Return a record of the largest group that fits together."""
    counts = Counter({index: sum(not one.difference(other) for other in records) for index, one in enumerate(records)})
    return records[counts.most_common(1)[0][0]]


def _find_fault(folder: Path, share: Share, record: Record | None) -> str:
    """Return why a share cannot be joined; "" if it can."""
    target = folder / f"{share.stem}.tif"
    if record is not None:
        return "" if record.is_intact(folder) else f"share {share}: {target.name} is damaged or incomplete"
    stored = read_progress(target)
    if stored is not None:
        return f"share {share}: unfinished, {stored} tiles are stored"
    return f"share {share}: missing"


def _unfinished(folder: Path) -> list[str]:
    journals = sorted(folder.glob(".*-of-*.tif.journal"))
    return [f"{path.name[1:].removesuffix('.tif.journal')}: unfinished" for path in journals]


def _check_cover(folder: Path, records: Sequence[Record]) -> None:
    """Raise DataError unless the blocks cover the image: each pixel is in one block and is counted there."""
    height, width = records[0].job["image"][2:4]
    inside = all(
        min(top, left) >= 0 and top + rows <= height and left + columns <= width and rows * columns == sum(counts)
        for (top, left, rows, columns), counts in ((record.region, record.counts) for record in records)
    )
    if not inside or sum(record.region[2] * record.region[3] for record in records) != height * width:
        raise DataError(f"{folder}: the blocks do not cover the image; run all shares again", code="blocks-uncovered")
