"""Masks as their files store them: numbers or colours, before anything is decided about classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from fullconv.arrays import Int64, UInt8
from fullconv.data.discovery.mask_summary import TRANSPARENT, ClassReading, Kind, MaskSummary
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import open_with_pillow
from fullconv.images.decoders.open_pillow import decoding_errors, load_upright
from fullconv.images.decoders.tiff_tags import read_nodata

__all__ = ["StoredMask", "apply_reading", "read_stored_mask", "summarize"]

MOST_CODES = 4096
"""More distinct numbers or colours than this are counted as so many: the mask is no label image."""


@dataclass(frozen=True, eq=False)
class StoredMask:
    """The codes of a mask, H x W: numbers, or colours as 0xRRGGBB with `TRANSPARENT` where alpha is 0.

    `palette` gives the colours of a palette image by index; `nodata` the number that a TIFF declares as such.
    """

    kind: Kind
    codes: Int64
    palette: dict[int, int] | None = None
    nodata: int | None = None


def read_stored_mask(path: Path) -> StoredMask:
    """Decode a mask upright.

    Raises DataError for files that are not images, for JPEG (its compression changes labels), and for numbers that are
    not whole.
    """
    with open_with_pillow(path) as image, decoding_errors(path):
        if image.format in ("JPEG", "MPO"):
            problem = "is a JPEG mask, whose compression changes labels"
            raise DataError.of(Fault("jpeg-mask", path, problem, "export the mask as PNG"))
        nodata = read_nodata(image.tag_v2) if isinstance(image, TiffImageFile) else None
        flat = image.getpalette() if image.mode == "P" else None
        upright = load_upright(image)
        if upright.mode in ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
            return StoredMask("colours", _color_codes(np.asarray(upright.convert("RGBA"))))
        if upright.mode in ("LA", "PA"):
            upright = upright.getchannel(0)
        stored = np.asarray(upright)
    if stored.dtype.kind == "f" and not np.array_equal(stored, np.rint(stored)):
        problem = "holds numbers that are not whole"
        raise DataError.of(Fault("unsupported-format", path, problem, "save class ids as whole numbers"))
    palette = None
    if flat is not None:
        colors = np.array(flat, np.int64).reshape(-1, 3) @ np.array([65536, 256, 1])
        palette = {index: int(color) for index, color in enumerate(colors)}
    whole = None if nodata is None or nodata != int(nodata) else int(nodata)
    return StoredMask("numbers", stored.astype(np.int64), palette, whole)


def summarize(mask: StoredMask) -> MaskSummary:
    """Count the pixels of each code."""
    values, counts = _count_codes(mask.codes)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    codes = dict(sorted(pairs, key=lambda pair: -pair[1])[:MOST_CODES])
    palette = None if mask.palette is None else {code: mask.palette.get(code, 0) for code in codes}
    return MaskSummary(mask.kind, codes, palette, mask.nodata)


def apply_reading(path: Path, reading: ClassReading) -> UInt8:
    """Read a mask as H x W uint8 class ids and 255. Raises DataError as `read_stored_mask`, and for unknown codes."""
    mask = read_stored_mask(path)
    values, _ = _count_codes(mask.codes)
    ids = np.zeros(len(values), np.uint8)
    for index, value in enumerate(values.tolist()):
        label = reading.class_of(value, mask.palette)
        if label is None:
            problem = f"holds {value}, which is the value of no class"
            raise DataError.of(Fault("unknown-label", path, problem, "correct the mask"))
        ids[index] = label
    if _are_small(values):
        table = np.zeros(int(values[-1]) + 1, np.uint8)
        table[values] = ids
        return table[mask.codes]
    return ids[np.searchsorted(values, mask.codes)]


def _count_codes(codes: Int64) -> tuple[Int64, Int64]:
    """Return the distinct codes in ascending order, and the pixels of each."""
    if _are_small(codes):
        counts = np.bincount(codes.ravel())
        values = np.flatnonzero(counts)
        return values, counts[values]
    return np.unique(codes, return_counts=True)


def _are_small(codes: Int64) -> bool:
    """Return whether codes can index a table, which is much faster than sorting them."""
    return bool(codes.min() >= 0 and codes.max() < 1 << 16)


def _color_codes(rgba: UInt8) -> Int64:
    codes = rgba[..., :3].astype(np.int64) @ np.array([65536, 256, 1])
    return np.where(rgba[..., 3] == 0, TRANSPARENT, codes)
