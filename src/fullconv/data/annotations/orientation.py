"""The pixels that shapes were drawn on: those of the upright image, or those that the file stores.

Some programs ignore the EXIF orientation when they show a photo, others only when they read its size. The sizes and the
shapes decide: shapes lie in the image that they were drawn on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from fullconv.arrays import UInt8
from fullconv.data.annotations.annotated import AnnotatedImage
from fullconv.data.annotations.rle import rasterize_runs
from fullconv.data.annotations.shapes import Size, find_extent
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import ImageHeader, read_header

__all__ = ["Frame", "find_frames", "frame_fault", "make_upright", "read_headers"]

Frame = Literal["upright", "stored", "both", "neither"]
"""The pixels that the shapes of an image fit; "neither" if they fit only another image of transposed size."""

SLACK = 0.02
"""Shapes may reach out of their image by this share of a side, and by `LEAST_SLACK` pixels."""

LEAST_SLACK = 2

_TURNS: dict[int, Callable[[UInt8], UInt8]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: np.rot90(stored),
}


def make_upright(stored: UInt8, orientation: int) -> UInt8:
    """Turn a label map (H x W) as the EXIF orientation, 1 to 8, turns the image."""
    return np.ascontiguousarray(_TURNS[orientation](stored))


def read_headers(entries: Sequence[AnnotatedImage]) -> dict[Path, ImageHeader]:
    """Return the headers of all images that can be read."""
    headers = {}
    for entry in entries:
        with contextlib.suppress(DataError):  # the fault is reported where the sample is made
            headers[entry.image] = read_header(entry.image)
    return headers


def find_frames(
    entries: Sequence[AnnotatedImage], headers: Mapping[Path, ImageHeader]
) -> tuple[dict[Path, Frame], list[str]]:
    """Return the frame of each image whose frame is not simply "upright", and sentences on what was inferred.

    Images whose EXIF orientation swaps the sides, and whose stated size is the stored one, decide for each other: if
    the shapes of some fit only one of the two readings, that reading holds for all of them.
    """
    frames: dict[Path, Frame] = {}
    unclear: list[tuple[AnnotatedImage, Frame]] = []
    for entry in entries:
        header = headers.get(entry.image)
        if header is None or not entry.shapes or entry.size not in (header.size, header.stored):
            continue
        if entry.size != header.size:
            unclear.append((entry, _fit(entry, header)))
        elif not _fits(entry, header.size) and _fits(entry, header.size[::-1]):
            frames[entry.image] = "neither"
    votes = {frame for _, frame in unclear} & {"upright", "stored"}
    for entry, frame in unclear:
        frames[entry.image] = next(iter(votes)) if frame == "both" and len(votes) == 1 else frame
    decided = [frames[entry.image] for entry, _ in unclear if frames[entry.image] in ("upright", "stored")]
    if not decided:
        return frames, []
    kinds = " and ".join(sorted(set(decided)))
    return frames, [f"the shapes of {len(decided)} image(s) with an EXIF orientation fit the {kinds} pixels"]


def frame_fault(entry: AnnotatedImage, header: ImageHeader, frame: Frame) -> Fault:
    """Return the fault of an image whose shapes fit both readings, or neither.

    It is never `sure`: `--fix` does not turn shapes.
    """
    stated = entry.size or header.size
    states = f"states {stated[1]}x{stated[0]} (width x height) for {entry.image}"
    if frame == "neither":
        height, width = header.size
        problem = f"{states}, but its shapes reach out of that image and fit one of {height}x{width}"
        remedy = "the image was turned, or lost its EXIF orientation: restore the file that was annotated"
        return Fault("exif-rotation", entry.source, problem, remedy, entry.name, sure=False)
    height, width = header.size
    problem = (
        f"{states}, but the image is {width}x{height} after its EXIF orientation is applied, and its "
        "shapes do not show which is right"
    )
    remedy = (
        "look at a shape on the photo: if it is right on the upright photo, swap width and height in the file; if it "
        f"is right on the photo as stored, run: exiftool -Orientation= {entry.image}"
    )
    return Fault("exif-rotation", entry.source, problem, remedy, entry.name, sure=False)


def _fit(entry: AnnotatedImage, header: ImageHeader) -> Frame:
    """Return the readings that the shapes of an image fit, whose stated size is the stored one."""
    if entry.relative:
        return "both"
    upright, stored = _fits(entry, header.size), _fits(entry, header.stored)
    if any(_is_runs(rasterizer) for _, rasterizer in entry.shapes):  # run lengths are of the stated size
        upright = False
    return "upright" if upright and not stored else "stored" if stored and not upright else "both"


def _is_runs(rasterizer: object) -> bool:
    return isinstance(rasterizer, partial) and rasterizer.func is rasterize_runs


def _fits(entry: AnnotatedImage, size: Size) -> bool:
    """Return whether all polygons lie in an image of this size, up to some slack."""
    extents = [extent for _, rasterizer in entry.shapes if (extent := find_extent(rasterizer)) is not None]
    limits = [side + max(LEAST_SLACK, SLACK * side) for side in size]
    return all(extent[axis] <= limits[axis] for extent in extents for axis in (0, 1))
