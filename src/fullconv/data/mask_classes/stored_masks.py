"""Masks as their files store them: numbers or colours, before anything is decided about classes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fullconv.arrays import Int64, Mask, UInt8
from fullconv.data.mask_classes.nearest import find_nearest
from fullconv.data.mask_classes.summary import ClassReading, Kind, MaskSummary
from fullconv.data.object_widths import WIDEST, measure_widths
from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.images import open_with_pillow
from fullconv.images.decoders.available import is_installed
from fullconv.images.decoders.mask_arrays import ARRAY_MASKS, read_array_mask
from fullconv.images.decoders.open_pillow import decoding_errors, load_upright
from fullconv.images.decoders.pages import count_pages
from fullconv.images.decoders.tiff_tags import is_tiff, read_nodata
from fullconv.images.label_map import grey_maximum, pages_fault, unstretch_grey
from fullconv.images.reader import gdal_driver

__all__ = ["StoredMask", "apply_reading", "read_stored_mask", "summarize"]

MOST_CODES = 256
"""Of masks with more distinct colours than this, which are smeared, similar rare colours are counted together."""

FEW_CODES = 4
"""With no more codes than this a mask is not smeared, and each of its codes may be a class."""

SQUARE = 3


@dataclass(frozen=True, eq=False)
class StoredMask:
    """The codes of a mask, H x W integers: as `MaskSummary` has them.

    `palette` gives the colours of a palette image by index; `nodata` the number that a TIFF declares as such.
    """

    kind: Kind
    codes: npt.NDArray[Any]
    palette: dict[int, int] | None = None
    nodata: int | None = None
    lossy: bool = False
    plain: bool = True

    def runs(self) -> tuple[Int64, Int64, Int64]:
        """Return the distinct codes, and the index of the code and the length of each run of equal codes.

        Label images have few runs, so that work on runs is fast.
        """
        flat = self.codes.ravel()
        starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
        values, indices = np.unique(flat[starts], return_inverse=True)
        return values.astype(np.int64), indices.ravel(), np.diff(starts, append=flat.size)


def read_stored_mask(path: Path) -> StoredMask:
    """Decode a mask upright.

    Raises DataError for files that are not images or arrays, for several pages, and for numbers that are not whole.
    """
    if path.suffix.lower() in ARRAY_MASKS:
        return _of_array(read_array_mask(path), path)
    try:
        return _read_with_pillow(path)
    except DataError as error:
        if error.code not in ("not-an-image", "truncated-file") or not path.is_file() or not is_tiff(path):
            raise
        array = _read_tiff(path)
        if array is None:
            raise
        return array


def _read_with_pillow(path: Path) -> StoredMask:
    with open_with_pillow(path) as image, decoding_errors(path):
        _refuse_pages(path, image)
        nodata = read_nodata(image.tag_v2) if isinstance(image, TiffImageFile) else None
        maximum, lossy = grey_maximum(image), image.format in ("JPEG", "MPO")
        palette = _palette_of(image)
        upright = load_upright(image)
        if upright.mode in ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "PA"):
            return StoredMask("colours", _color_codes(upright), lossy=lossy, plain=upright.mode in ("RGB", "RGBA"))
        if upright.mode == "LA":
            upright = upright.getchannel(0)
        stored = unstretch_grey(np.asarray(upright), maximum)
    plain = stored.dtype.kind != "f" and not lossy
    return StoredMask("numbers", _whole(stored, path), palette, _whole_nodata(nodata), lossy, plain)


def _refuse_pages(path: Path, image: ImageFile | None = None) -> None:
    if (pages := count_pages(path, image)) > 1:
        raise DataError.of(pages_fault(path, pages))


def _palette_of(image: ImageFile) -> dict[int, int] | None:
    if image.mode != "P":
        return None
    flat = image.getpalette() or []
    codes = np.array(flat, np.int64).reshape(-1, 3) @ np.array([65536, 256, 1])
    return {index: int(code) for index, code in enumerate(codes)}


def _read_tiff(path: Path) -> StoredMask | None:
    """Decode a TIFF that Pillow cannot read, with rasterio or tifffile; None without both."""
    _refuse_pages(path)
    with ExitStack() as stack:
        source: Any
        if is_installed("rasterio"):
            from fullconv.images.decoders.gdal import open_gdal

            source = stack.enter_context(open_gdal(path, gdal_driver(path) or "GTiff"))
        elif is_installed("tifffile"):
            from fullconv.images.decoders.tiff import open_tiff

            source = stack.enter_context(open_tiff(path))
        else:
            return None
        height, width = source.size
        stored, nodata = source.stored(range(height), range(width)), source.nodata
    return _of_array(stored[..., 0] if stored.shape[2] == 1 else stored, path, nodata)


def _of_array(array: npt.NDArray[Any], path: Path, nodata: float | None = None) -> StoredMask:
    if array.ndim == 3:
        if array.shape[2] != 3 or array.dtype.kind != "u" or array.max() > 255:
            problem = f"is {' x '.join(map(str, array.shape))} {array.dtype}"
            remedy = "save class ids as height x width, or colours of 0 to 255 as height x width x 3"
            raise DataError.of(Fault("unsupported-format", path, problem, remedy))
        codes = array.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
        return StoredMask("colours", codes, plain=False)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    return StoredMask("numbers", _whole(array, path), None, _whole_nodata(nodata), plain=False)


def _whole(stored: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Return numbers as integers. Raises DataError for others."""
    if stored.dtype.kind == "b":
        return stored.astype(np.uint8)
    if stored.dtype.kind == "f":
        whole = bool(np.isfinite(stored).all()) and bool(np.abs(stored).max() < 2**52)
        if not whole or not np.array_equal(stored, np.rint(stored)):
            problem = "holds numbers that are not whole"
            raise DataError.of(Fault("unsupported-format", path, problem, "save class ids as whole numbers"))
        return stored.astype(np.int64)
    return stored if stored.dtype.kind in "ui" and stored.dtype.itemsize < 8 else stored.astype(np.int64)


def _whole_nodata(nodata: float | None) -> int | None:
    return int(nodata) if nodata is not None and abs(nodata) < 2**52 and nodata == int(nodata) else None


def _count(mask: StoredMask) -> dict[int, int]:
    """Return the pixels of each code."""
    if mask.codes.dtype in (np.uint8, np.uint16):
        pixels = np.bincount(mask.codes.ravel())
        values = np.flatnonzero(pixels)
        pixels = pixels[values]
    else:
        values, indices, lengths = mask.runs()
        pixels = np.zeros(len(values), np.int64)
        np.add.at(pixels, indices, lengths)
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def summarize(mask: StoredMask, with_widths: bool = False) -> MaskSummary:
    """Count the pixels of each code; with `with_widths`, also the widths of its objects."""
    counts = _count(mask)
    values = np.array(sorted(counts), np.int64)
    if len(counts) <= FEW_CODES:
        solid = frozenset(counts)
    else:
        squares = _squares(mask.codes)
        solid = frozenset(np.unique(mask.codes[: squares.shape[0], : squares.shape[1]][squares]).tolist())
        if mask.kind == "colours" and len(counts) > MOST_CODES:
            counts = _reduce(counts, solid)
    palette = None if mask.palette is None else {code: mask.palette.get(code, 0) for code in counts}
    widths = _count_widths(mask.codes, values) if with_widths and len(values) <= MOST_CODES else None
    size = (mask.codes.shape[0], mask.codes.shape[1])
    return MaskSummary(mask.kind, counts, palette, mask.nodata, size, solid, mask.lossy, mask.plain, widths)


def _squares(codes: npt.NDArray[Any]) -> Mask:
    """Return where a square of equal codes begins."""
    if min(codes.shape) < SQUARE:
        return np.zeros((0, 0), bool)
    wide, high = codes[:, 1:] == codes[:, :-1], codes[1:] == codes[:-1]
    wide, high = wide[:, 1:] & wide[:, :-1], (high[1:] & high[:-1])[:, :-2]
    rows: Mask = wide[:-2] & wide[1:-1] & wide[2:] & high
    return rows


def _reduce(counts: dict[int, int], solid: frozenset[int]) -> dict[int, int]:
    """Count rare colours that fill no area together with similar ones, so that smeared masks need little memory."""
    ranked = sorted(counts, key=lambda code: -counts[code])
    kept = [code for rank, code in enumerate(ranked) if rank < MOST_CODES // 2 or code in solid][:MOST_CODES]
    reduced = {code: counts.pop(code) for code in kept}
    for code, count in counts.items():
        coarse = code & 0xF0F0F0 | 0x080808 if code >= 0 else -1
        reduced[coarse] = reduced.get(coarse, 0) + count
    return reduced


def _count_widths(codes: npt.NDArray[Any], values: Int64) -> dict[int, Int64]:
    step = WIDEST + 1
    cells = np.minimum(measure_widths(codes), WIDEST)
    if codes.dtype in (np.uint8, np.uint16):  # a table is faster than a search for each pixel
        first = np.zeros(int(values[-1]) + 1, np.int32)
        first[values] = np.arange(len(values)) * step
        cells += first[codes]
    else:
        cells = cells + np.searchsorted(values, codes) * step
    rows = np.bincount(cells.ravel(), minlength=len(values) * step).reshape(len(values), step)
    return dict(zip(values.tolist(), rows, strict=True))


def apply_reading(path: Path, reading: ClassReading) -> UInt8:
    """Read a mask as H x W uint8 class ids and 255. Raises DataError as `read_stored_mask`, and for unknown codes."""
    mask = read_stored_mask(path)
    values, indices, lengths = mask.runs()
    codes = values.tolist()
    views = reading.views(mask.kind, codes, mask.palette)
    ids = np.zeros(len(values), np.uint8)
    for kind, classes in (("numbers", reading.numbers), ("colours", reading.colours)):
        chosen = [index for index, (of_kind, _) in enumerate(views) if of_kind == kind]
        strange = []
        for index in chosen:
            label = reading.class_of(*views[index])
            if label is None:
                strange.append(index)
            else:
                ids[index] = label
        if strange:
            if not reading.nearest or not classes:
                raise _unknown_code(path, mask.kind, codes[strange[0]])
            centers = [code for code in classes if code >= 0 or kind == "numbers"]
            nearest, _ = find_nearest(kind, [views[index][1] for index in strange], centers)  # type: ignore[arg-type]
            ids[strange] = [classes[centers[index]] for index in nearest]
    return np.repeat(ids[indices], lengths).reshape(mask.codes.shape)


def _unknown_code(path: Path, kind: Kind, code: int) -> DataError:
    if kind == "numbers":
        return DataError.of(Fault("unknown-label", path, f"holds {code}, the value of no class", "correct the mask"))
    color = f"#{max(code, -1 - code):06x}"
    return DataError.of(Fault("unknown-colour", path, f"holds {color}, the colour of no class", "correct the mask"))


def _color_codes(image: Image.Image) -> npt.NDArray[np.int32]:
    """Return the codes of an image in colours; those of transparent pixels are negative."""
    alpha = image.mode in ("RGBA", "PA")
    pixels = np.asarray(image.convert("RGBA" if alpha else "RGB"))
    codes = pixels[..., :3].astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    return np.where(pixels[..., 3] == 0, -1 - codes, codes) if alpha else codes
