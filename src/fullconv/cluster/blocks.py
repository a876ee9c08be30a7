"""One share of an image: its tiles are labelled, and written as one tiled GeoTIFF with a record.

The tiles are those of `predict.large`, so the labels of all shares are those of one machine. A share writes only files
of its own, so shares need no lock and no connection with each other, only a common folder in the end.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from fullconv.cluster.records import (
    FOLDER_SUFFIX,
    Origin,
    Record,
    Share,
    fingerprint,
    hash_file,
    list_records,
    read_record,
)
from fullconv.errors import DataError, UsageError
from fullconv.extras import need
from fullconv.geometry.blocks import split_grid
from fullconv.images import open_image
from fullconv.images.banded_writer import BAND, write_bands
from fullconv.images.decoders.base import ImageReader
from fullconv.images.georeference import read_georeference
from fullconv.locks import hold_lock
from fullconv.predict.inputs import output_names, refuse_url
from fullconv.predict.large import default_tile, describe_job, label_tiles, probe_model, report_write_errors
from fullconv.predict.outputs import check_kinds
from fullconv.predict.result import file_identity, refuse_targets
from fullconv.predict.resumable import ResumableLabelMap
from fullconv.runtime.runner import Runner
from fullconv.runtime.tiles import Tile, TiledRunner

__all__ = ["BLOCK_KINDS", "BlockResult", "block_folder", "engine_folder", "label_block", "resume_shares"]

log = logging.getLogger(__name__)

BLOCK_KINDS = frozenset({"labels", "areas"})
"""The kinds of results of shares; the others would need all pixels, or their colours, in one place."""


@dataclass(frozen=True)
class BlockResult:
    """A finished share: its file, its tiles, how many of them an earlier run stored, and a note on the bands."""

    path: Path
    tiles: int
    resumed: int
    note: str


def block_folder(out: Path, image: Path) -> Path:
    """Return the folder of the shares of an image, which users keep."""
    return out / f"{_printable(output_names([image])[0].name)}{FOLDER_SUFFIX}"


def engine_folder(out: Path, name: Path) -> Path:
    """Return the folder of the shares of Ray's engine, which removes it; `name` is that of the image's results."""
    return out / name.parent / f".{_printable(name.name)}.ray"


def _printable(name: str) -> str:
    """Return a name whose characters a VRT can hold; the others become underscores."""
    return "".join(letter if letter.isprintable() else "_" for letter in name)


def resume_shares(runner: Runner, image: Path, folder: Path, kinds: Collection[str], most: int) -> int:
    """Return the number of shares that `folder` was begun with; for a new one at most `most`, or one a tile.

    If a finished share does not fit the image, the runner or `kinds`, the folder is removed.
    """
    tiled = _tile(runner)
    with open_image(image, tiled.info.input) as reader:
        shares = min(most, len(tiled.tiles(reader.size)))
        plan = _plan(tiled, image, reader, Share(1, shares), kinds, (0, 0, 0, 0), 0)
    records = [record for record in map(read_record, list_records(folder)) if record is not None]
    if records:
        plan = replace(plan, of=records[0].of)
        if not any(map(plan.difference, records)):
            return plan.of
        shutil.rmtree(folder)
    return shares


def label_block(
    runner: Runner,
    image: Path,
    out: Path,
    share: Share,
    kinds: Collection[str] = ("labels",),
    on_tile: Callable[[int, int], None] | None = None,
    folder: Path | None = None,
) -> BlockResult:
    """Label one share of an image and write its block into `folder`, by default `block_folder`.

    `kinds` are some of `BLOCK_KINDS`. The tiles are those of `runner` if it is a `TiledRunner`, otherwise those of
    `default_tile`. A finished share is not computed again, and an interrupted one resumes. `on_tile(done, all)` is
    called after each tile.

    Raises UsageError for more shares than tiles, for other kinds, if the folder holds shares that do not fit this one,
    and if the result would overwrite the image or a file in its folder; DataError for an image that cannot be read or
    changes meanwhile; and FullconvError as `predict_large`.
    """
    need("geo", "rasterio")
    check_kinds(kinds)
    if extra := sorted(set(kinds) - BLOCK_KINDS):
        message = f"shares of an image have labels and areas only; leave out {', '.join(extra)}"
        raise UsageError(message, code="kinds-of-blocks")
    refuse_url(image)
    started, tiled, folder = time.monotonic(), _tile(runner), folder or block_folder(out, image)
    target = folder / f"{share.stem}.tif"
    joined = folder.name.removesuffix(FOLDER_SUFFIX)
    results = folder.with_name(f"{joined}.tif"), folder.with_name(f"{joined}.vrt"), target
    identity = file_identity(image)
    refuse_targets(results, str(image), {identity}, {os.path.dirname(identity)})
    with ExitStack() as stack:
        reader = stack.enter_context(open_image(image, tiled.info.input))
        stack.enter_context(report_write_errors(target))
        stack.enter_context(hold_lock(target.with_name(f".{target.name}.lock"), str(target)))
        tiles, region = _choose_tiles(tiled, reader.size, share)
        plan = _plan(tiled, image, reader, share, kinds, region, len(tiles))
        if _is_finished(plan, folder):
            return BlockResult(target, len(tiles), len(tiles), reader.note)
        resumed = _write(plan, tiled, image, reader, target, tiles, on_tile, started)
    return BlockResult(target, len(tiles), resumed, reader.note)


def _tile(runner: Runner) -> TiledRunner:
    return runner if isinstance(runner, TiledRunner) else TiledRunner(runner, default_tile(runner))


def _choose_tiles(
    tiled: TiledRunner, size: tuple[int, int], share: Share
) -> tuple[list[Tile], tuple[int, int, int, int]]:
    """Return the tiles of a share, row by row, and their (top, left, height, width)."""
    rows, columns = tiled.cuts(size)
    down, across = split_grid(len(rows), len(columns), share.of)[share.number - 1]
    rows, columns = rows[down.start : down.stop], columns[across.start : across.stop]
    top, left = rows[0].keep.start, columns[0].keep.start
    return list(product(rows, columns)), (top, left, rows[-1].keep.stop - top, columns[-1].keep.stop - left)


def _plan(
    tiled: TiledRunner,
    image: Path,
    reader: ImageReader,
    share: Share,
    kinds: Collection[str],
    region: tuple[int, int, int, int],
    tiles: int,
) -> Record:
    """Return the record of a share before its work: without counts and file."""
    geo = read_georeference(image) if "areas" in kinds else None
    job: dict[str, Any] = describe_job(tiled, image, reader.size)
    path, _, modified, *size = job["image"]
    tile = [job["tile"][0] if isinstance(job["tile"][0], int) else list(job["tile"][0]), job["tile"][1]]
    scale = None if job["range"] is None else list(job["range"])
    job |= {"image": [*fingerprint(image), *size], "tile": tile, "range": scale, "save": sorted(kinds)}
    return Record(
        number=share.number,
        of=share.of,
        job=job,
        probe=probe_model(tiled.runner),
        path=path,
        modified=modified,
        image=str(image),
        region=region,
        geo=Origin.of(reader.geo),
        square_metres=None if geo is None else geo.square_metres,
        counts=(0,) * 256,
        bytes=0,
        sha256="",
        tiles=tiles,
        seconds=0.0,
    )


def _is_finished(plan: Record, folder: Path) -> bool:
    """Return whether the share is finished. Raise UsageError if a finished share of the folder does not fit it."""
    for path in list_records(folder):
        record = read_record(path)
        if record is None:
            continue
        if difference := plan.difference(record):
            message = f"{folder}: holds share {record.share}, made with {difference}; delete the folder or name another"
            raise UsageError(message, code="other-blocks")
        if record.share == plan.share and record.is_intact(folder):
            return True
    return False


def _write(
    plan: Record,
    tiled: TiledRunner,
    image: Path,
    reader: ImageReader,
    target: Path,
    tiles: list[Tile],
    on_tile: Callable[[int, int], None] | None,
    started: float,
) -> int:
    """Label the tiles, write block and record, and return how many tiles an earlier run stored."""
    from fullconv.images.decoders.gdal import move_geo

    top, left, height, width = plan.region
    job = describe_job(tiled, image, reader.size) | {"share": [plan.number, plan.of]}
    with ResumableLabelMap(target, (height, width), job, plan.probe, (top, left)) as part:
        resumed = part.done
        label_tiles(tiled.runner, reader, tiles, part, on_tile)
        counts = part.counts()
        write_bands(target, part.size, part.bands(BAND), tiled.info.labels, move_geo(reader.geo, top, left))
        changed = (image.stat().st_mtime_ns, *fingerprint(image)) != (plan.modified, *plan.job["image"][:2])
        if not changed:
            values = {"counts": counts, "bytes": target.stat().st_size, "sha256": hash_file(target)}
            Record(**{**plan.__dict__, **values, "seconds": round(time.monotonic() - started, 3)}).write(target.parent)
    part.remove()
    if changed:
        target.unlink(missing_ok=True)
        message = f"{image}: was changed while it was labelled; run share {plan.share} again"
        raise DataError(message, code="image-changed")
    return resumed
