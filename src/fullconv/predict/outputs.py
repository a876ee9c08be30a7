"""What can be made of a label map and its logits, and the files that hold it."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.arrays import Int64
from fullconv.errors import UsageError
from fullconv.files import atomic_write, write_text
from fullconv.images.georeference import Georeference
from fullconv.images.labelme_document import labelme_document
from fullconv.images.polygons import find_regions, simplify_ring
from fullconv.labels import LabelSet

__all__ = [
    "AREAS_FILE",
    "DEFAULT_SAVES",
    "SAVES",
    "Area",
    "areas",
    "areas_rows",
    "check_kinds",
    "geojson",
    "labelme",
    "probabilities",
    "read_areas",
    "result_paths",
    "update_areas",
    "write_areas",
    "write_probabilities",
]

SAVES = ("labels", "overlay", "probabilities", "polygons", "labelme", "areas")
"""The words for what can be saved of an image."""

DEFAULT_SAVES = ("labels", "overlay")
"""What is saved where nothing else is asked for."""

AREAS_FILE = "areas.csv"
"""The table of all images of a run, below the output folder."""

LABELME_PIXELS = 10
"""Regions with fewer pixels are left out of what is made for correction by hand."""

LABELME_TOLERANCE = 1.0
"""Pixels by which the polygons for correction may leave the borders of their pixels."""

ROWS = 64

_HEAD = ("image", "class", "pixels", "share", "square_metres")
_PLACES = {
    "labels": ("", ".png"),
    "overlay": ("overlays", ".jpg"),
    "probabilities": ("probabilities", ".npz"),
    "polygons": ("polygons", ".geojson"),
    "labelme": ("labelme", ".json"),
}

UInt8 = npt.NDArray[np.uint8]
Row = tuple[str, ...]


@dataclass(frozen=True)
class Area:
    """How much of an image is of one class: pixels, their share of all that have a class, and the area on the map."""

    pixels: int
    share: float
    square_metres: float | None = None


def check_kinds(kinds: Collection[str]) -> None:
    """UsageError for nothing to save, and for words that are not in `SAVES`."""
    unknown = sorted(set(kinds) - set(SAVES))
    if unknown or not kinds:
        raise UsageError(f"cannot save {', '.join(unknown) or 'nothing'}; choose from {', '.join(SAVES)}")


def result_paths(out: Path, name: Path, kinds: Collection[str]) -> dict[str, Path]:
    """The file of each kind for the result `name`, but for the areas, whose table all images share.

    No two kinds have one suffix, so that results of different names are never in each other's place.
    """
    return {
        kind: out / folder / name.with_name(name.name + suffix)
        for kind, (folder, suffix) in _PLACES.items()
        if kind in kinds
    }


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """K x H x W float32 logits to K x H x W float16 softmax over the classes, some rows at a time."""
    result = np.empty(logits.shape, np.float16)
    for top in range(0, logits.shape[1], ROWS):
        band = logits[:, top : top + ROWS]
        powers = np.exp(band - band.max(0))
        result[:, top : top + ROWS] = powers / powers.sum(0)
    return result


def write_probabilities(path: Path, found: npt.NDArray[np.float16], labels: LabelSet) -> None:
    """A compressed .npz for numpy.load: `probabilities`, K x H x W float16, and `class_names`, K strings."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, probabilities=found, class_names=np.array(labels.class_names))


def areas(counts: npt.ArrayLike, labels: LabelSet, place: Georeference | None) -> dict[str, Area]:
    """The area of every class, in the order of the class ids; those that are not there have 0 pixels.

    `counts` says for each label, 0 to 255, how many pixels have it: all that is needed of a label map of any size.
    """
    pixels_of = np.asarray(counts).tolist()
    named = {name: pixels_of[index] for index, name in _classes(labels).items()}
    total = max(sum(named.values()), 1)
    metres = None if place is None else place.square_metres
    return {
        name: Area(pixels, pixels / total, None if metres is None else pixels * metres)
        for name, pixels in named.items()
    }


def areas_rows(image: str, found: Mapping[str, Area]) -> list[Row]:
    """The rows of one image for `write_areas`."""
    return [
        (
            image,
            name,
            str(area.pixels),
            f"{area.share:.6f}",
            "" if area.square_metres is None else f"{area.square_metres:.12g}",
        )
        for name, area in found.items()
    ]


def write_areas(path: Path, rows: Iterable[Row]) -> None:
    """The table of areas as CSV (RFC 4180, UTF-8): image, class, pixels, share, square_metres (empty if unknown)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def update_areas(path: Path, rows: Sequence[Row]) -> None:
    """Replace the rows of these images in the table, or begin it; the others stay. UsageError as `read_areas`."""
    images = {row[0] for row in rows}
    write_areas(path, [*(row for row in read_areas(path) if row[0] not in images), *rows])


def read_areas(path: Path) -> list[Row]:
    """The rows of a table that `write_areas` wrote, none if there is no file; UsageError for any other file."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = [tuple(row) for row in csv.reader(file)]
    except (OSError, ValueError, csv.Error):
        head, rows = (), []
    if head != _HEAD:
        raise UsageError(f"{path}: not a table of areas that fullconv wrote; move it away or choose another folder")
    return rows


def geojson(label_map: UInt8, labels: LabelSet, place: Georeference | None, image: str = "") -> dict[str, Any]:
    """A GeoJSON FeatureCollection with one Polygon for each region of a class, along the borders of the pixels.

    Properties are class, class_id, color, pixels and, where it is known, square_metres. Regions hang together by the
    sides of their pixels. Rings turn as RFC 7946 wants it: the outer one counterclockwise, holes clockwise, x to the
    right and y up. Drawn again by the even-odd rule at the centres of the pixels, they give the label map.

    With a georeference, positions are in its coordinate reference system, which the member "crs" names as GDAL and
    QGIS write and read it. Without, they are pixels, and the member "coordinates" says so.
    """
    classes = _classes(labels)
    head: dict[str, Any] = {"type": "FeatureCollection", "image": image}
    head |= {"height": label_map.shape[0], "width": label_map.shape[1]}
    if place is None:
        head["coordinates"] = "pixels: x to the right, y down, from the top left corner of the image"
    else:
        head["crs"] = {"type": "name", "properties": {"name": _crs_name(place.crs)}}
    features = []
    for region in find_regions(label_map):
        if region.label not in classes:
            continue
        properties: dict[str, Any] = {"class": classes[region.label], "class_id": region.label}
        properties["color"] = "#{:02x}{:02x}{:02x}".format(*labels.palette[region.label])
        properties["pixels"] = region.pixels
        if place is not None and place.square_metres is not None:
            properties["square_metres"] = region.pixels * place.square_metres
        geometry = {"type": "Polygon", "coordinates": [_positions(ring, place) for ring in region.rings]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return head | {"features": features}


def labelme(label_map: UInt8, labels: LabelSet, image: UInt8, image_path: str | None) -> dict[str, Any]:
    """What labelme opens for correction: one polygon for each region of a class, from the largest to the smallest.

    labelme has no holes, and draws later shapes over earlier ones: what lies in a hole is a smaller shape of its own.
    Regions of fewer than `LABELME_PIXELS` are left out, and polygons follow the pixels to `LABELME_TOLERANCE`. The
    image, H x W x 3 uint8, goes into the file only where `image_path` is None.
    """
    classes = _classes(labels)
    regions = [region for region in find_regions(label_map) if region.label in classes]
    regions = [region for region in regions if region.pixels >= LABELME_PIXELS]
    regions.sort(key=lambda region: region.filled_area, reverse=True)
    polygons = [(classes[region.label], simplify_ring(region.rings[0], LABELME_TOLERANCE)) for region in regions]
    image_data = _png(image) if image_path is None else None
    size = label_map.shape[0], label_map.shape[1]
    return labelme_document(polygons, size, image_path or "image.png", image_data)


def _classes(labels: LabelSet) -> dict[int, str]:
    """Class ids and names, the ignored label left out."""
    return {index: name for index, name in enumerate(labels.class_names) if index != labels.ignore_index}


def _positions(ring: Int64, place: Georeference | None) -> list[list[float]]:
    """A ring as GeoJSON has it, the first position repeated."""
    closed: npt.NDArray[Any] = np.concatenate([ring, ring[:1]])
    if place is not None:  # in pixels, what turns to the right on the screen turns to the left seen with y up
        closed = place.coordinates(closed[::-1] if place.mirrored else closed)
    found: list[list[float]] = closed.tolist()
    return found


def _crs_name(crs: str) -> str:
    """The name of a system as GDAL writes it: for EPSG:4326 the one whose longitude comes first."""
    authority, colon, code = crs.partition(":")
    if crs == "EPSG:4326":
        return "urn:ogc:def:crs:OGC:1.3:CRS84"
    return f"urn:ogc:def:crs:{authority}::{code}" if colon and code.isalnum() else crs


def _png(image: UInt8) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
