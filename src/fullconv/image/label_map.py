"""Label maps as H x W uint8 class ids: read from the masks that annotation tools write, and written with a palette."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile

from fullconv.errors import DataError
from fullconv.faults import Fault
from fullconv.files import StrPath, atomic_write
from fullconv.image.opened import loaded_upright, nodata_of, opened_image, told_of
from fullconv.labels import LabelSet

__all__ = ["read_label_map", "stored_labels", "write_label_map"]

UInt8 = npt.NDArray[np.uint8]


def read_label_map(path: StrPath, labels: LabelSet | None = None) -> UInt8:
    """A mask file as an H x W uint8 label map of class ids, upright.

    The ids are the numbers stored: indices of a palette image (its colours are not read), values of a grey
    one of 1 to 32 bits; the nodata value of a GeoTIFF is 255. Colour images need `labels` and go through
    `LabelSet.from_colors`; alpha is dropped.

    Raises DataError as `read_image`, and for JPEG (whose compression changes labels), for ids above 255, and
    for colours that `labels` does not hold.
    """
    with opened_image(Path(path)) as image:
        if image.format in ("JPEG", "MPO"):
            fault = Fault("jpeg-mask", Path(path), "a JPEG mask, whose compression changes labels", "save masks as PNG")
            raise DataError.of(fault)
        stored = stored_labels(image, path)
    return stored if stored.ndim == 2 else _ids_from_colors(stored, path, labels)


def stored_labels(image: ImageFile, path: StrPath) -> UInt8:
    """An opened mask upright: H x W uint8 class ids where it stores numbers, H x W x 3 uint8 RGB where colours.

    The value that a GeoTIFF names as its nodata is 255. Raises DataError as `read_label_map`, but not for JPEG.
    """
    with told_of(path):
        maximum, nodata = _grey_maximum(image), nodata_of(image)
        upright = loaded_upright(image)
        if upright.mode in ("RGB", "RGBA"):
            return np.asarray(upright.convert("RGB"))
        if upright.mode in ("LA", "PA"):
            upright = upright.getchannel(0)
        if upright.mode not in ("1", "L", "P") and not upright.mode.startswith("I"):
            problem, remedy = f"a mask of mode {upright.mode}", "save masks as 8-bit indexed or grey PNG"
            raise DataError.of(Fault("unsupported-format", Path(path), problem, remedy))
        stored = np.asarray(upright)
        return _ids_from_grey(stored if nodata is None else np.where(stored == nodata, 255, stored), maximum, path)


def write_label_map(path: StrPath, label_map: UInt8, labels: LabelSet) -> None:
    """Write an H x W uint8 label map as an 8-bit palette PNG, in the colours of `labels`, others white.

    Raises FullconvError if it cannot be written; the file is replaced whole or not at all.
    """
    image = Image.fromarray(label_map)
    image.putpalette(labels.colorize(np.arange(256, dtype=np.uint8)).tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


def _grey_maximum(image: ImageFile) -> int | None:
    """The largest grey value of the file's own scale, where Pillow stretches that scale to 8 or 16 bits."""
    parameters = image.tile[0][3] if image.tile else None
    values = parameters if isinstance(parameters, tuple) else (parameters,)
    if image.format == "PPM" and len(values) == 2:
        return int(values[1])
    return {"L;2": 3, "L;4": 15}.get(str(values[0])[:3])


def _ids_from_grey(stored: npt.NDArray[Any], maximum: int | None, path: StrPath) -> UInt8:
    if maximum is not None:
        top = 255 if stored.dtype == np.uint8 else 65535
        stored = (stored.astype(np.int64) * maximum + top // 2) // top
    low, high = stored.min(), stored.max()
    if low < 0 or high > 255:
        problem = f"labels from {low} to {high}, where 0 to 255 can be read"
        raise DataError.of(Fault("unknown-label", Path(path), problem, "renumber the classes"))
    return stored.astype(np.uint8)


def _ids_from_colors(rgb: UInt8, path: StrPath, labels: LabelSet | None) -> UInt8:
    if labels is None:
        problem = "a mask in colours, with no table of class colours"
        raise DataError.of(Fault("no-colour-table", Path(path), problem, "give one or save class ids"))
    try:
        return labels.from_colors(rgb)
    except DataError as error:
        fault = Fault("unknown-colour", Path(path), str(error), "correct the mask, or add the colour and its class")
        raise DataError.of(fault) from None
