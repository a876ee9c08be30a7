"""Results computed from a label map and its logits, and their files."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.arrays import Float32, Int64, UInt8
from fullconv.errors import UsageError
from fullconv.files import atomic_write
from fullconv.images.data_uri import encode_base64, encode_picture
from fullconv.images.georeference import Georeference
from fullconv.images.labelme_document import labelme_document
from fullconv.images.polygons import find_regions, simplify_ring
from fullconv.labels import LabelSet

__all__ = [
    "DEFAULT_SAVES",
    "FRAME_NAME",
    "SAVES",
    "Area",
    "check_kinds",
    "compute_areas",
    "compute_probabilities",
    "result_paths",
    "to_geojson",
    "to_labelme",
    "write_probabilities",
]

SAVES = ("labels", "overlay", "probabilities", "polygons", "labelme", "areas")
"""The kinds of results that can be saved."""

DEFAULT_SAVES = ("labels", "overlay")
"""The kinds that are saved by default."""

FRAME_NAME = re.compile(r"frame-(\d{6,})")
"""The name of a frame's results, in the folder of its video."""

LABELME_PIXELS = 10
"""Regions with fewer pixels are left out of labelme files, because small regions are mostly noise."""

LABELME_TOLERANCE = 1.0
"""The largest distance, in pixels, of a labelme polygon from the border of its region."""

ROWS = 64
"""The number of rows whose softmax is computed at a time."""

_FILES = {
    "labels": ("", ".png"),
    "overlay": ("overlays", ".jpg"),
    "probabilities": ("probabilities", ".npz"),
    "polygons": ("polygons", ".geojson"),
    "labelme": ("labelme", ".json"),
}


@dataclass(frozen=True)
class Area:
    """The area of one class: pixels, their share, 0..1, of all pixels that have a class, and square metres if known."""

    pixels: int
    share: float
    square_metres: float | None = None


def check_kinds(kinds: Collection[str]) -> None:
    """Raise UsageError for an empty collection, and for kinds that are not in `SAVES`."""
    if not kinds:
        raise UsageError(f"nothing to save; choose from {', '.join(SAVES)}", code="nothing-to-save")
    unknown = sorted(set(kinds) - set(SAVES))
    if unknown:
        raise UsageError(
            f"cannot save {', '.join(unknown)}; choose from {', '.join(SAVES)}", code="unknown-result-kind"
        )


def result_paths(out: Path, name: Path, kinds: Collection[str]) -> dict[str, Path]:
    """Return the file of each kind for the result `name`, except the areas: all images share their table.

    The suffixes of all kinds differ, so files of different results never collide.
    """
    return {
        kind: out / folder / name.with_name(name.name + suffix)
        for kind, (folder, suffix) in _FILES.items()
        if kind in kinds
    }


def compute_probabilities(logits: Float32) -> npt.NDArray[np.float16]:
    """Map K x H x W float32 logits to their softmax over the classes, K x H x W float16."""
    result = np.empty(logits.shape, np.float16)
    for top in range(0, logits.shape[1], ROWS):
        band = logits[:, top : top + ROWS]
        powers = np.exp(band - band.max(0))
        result[:, top : top + ROWS] = powers / powers.sum(0)
    return result


def write_probabilities(path: Path, probabilities: npt.NDArray[np.float16], labels: LabelSet) -> None:
    """Write a compressed .npz for numpy.load: `probabilities`, K x H x W float16, and `class_names`, K strings."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, probabilities=probabilities, class_names=np.array(labels.class_names))


def compute_areas(counts: npt.ArrayLike, labels: LabelSet, georeference: Georeference | None) -> dict[str, Area]:
    """Return the area of every class, in the order of the class ids; absent classes have 0 pixels.

    `counts` holds the number of pixels of each label, 0 to 255.
    """
    pixels_of = np.asarray(counts).tolist()
    named = {name: pixels_of[index] for index, name in _classes(labels).items()}
    total = max(sum(named.values()), 1)
    metres = None if georeference is None else georeference.square_metres
    return {
        name: Area(pixels, pixels / total, None if metres is None else pixels * metres)
        for name, pixels in named.items()
    }


def to_geojson(
    label_map: UInt8, labels: LabelSet, georeference: Georeference | None, image: str = ""
) -> dict[str, Any]:
    """Return a GeoJSON FeatureCollection with one Polygon for each region of a class, along the borders of the pixels.

    Properties are class, class_id, color, pixels and, if known, square_metres. A region is a 4-connected set of pixels.
    Rings have the orientation of RFC 7946, section 3.1.6: the outer ring is counterclockwise, holes are clockwise, with
    x to the right and y up. Filling the polygons by the even-odd rule at the centres of the pixels gives the label map.

    With a georeference, positions are in its coordinate reference system, and the member "crs" names it in the form of
    GDAL and QGIS. Without a georeference, positions are pixels, as the member "coordinates" says.
    """
    classes = _classes(labels)
    head: dict[str, Any] = {"type": "FeatureCollection", "image": image}
    head |= {"height": label_map.shape[0], "width": label_map.shape[1]}
    if georeference is None:
        head["coordinates"] = "pixels: x to the right, y down, from the top left corner of the image"
    else:
        head["crs"] = {"type": "name", "properties": {"name": _crs_name(georeference.crs)}}
    features = []
    for region in find_regions(label_map):
        if region.label not in classes:
            continue
        properties: dict[str, Any] = {"class": classes[region.label], "class_id": region.label}
        properties["color"] = "#{:02x}{:02x}{:02x}".format(*labels.palette[region.label])
        properties["pixels"] = region.pixels
        if georeference is not None and georeference.square_metres is not None:
            properties["square_metres"] = region.pixels * georeference.square_metres
        geometry = {"type": "Polygon", "coordinates": [_positions(ring, georeference) for ring in region.rings]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return head | {"features": features}


def to_labelme(label_map: UInt8, labels: LabelSet, image: UInt8, image_path: str | None) -> dict[str, Any]:
    """Return a document for labelme: one polygon for each region of a class, from the largest to the smallest.

    labelme has no holes, and draws later shapes over earlier ones, so a region in a hole is a later shape. Regions of
    fewer than `LABELME_PIXELS` are left out, and polygons are simplified to `LABELME_TOLERANCE`. If `image_path` is
    None, the document contains the image, H x W x 3 uint8.
    """
    classes = _classes(labels)
    regions = [region for region in find_regions(label_map) if region.label in classes]
    large = [region for region in regions if region.pixels >= LABELME_PIXELS]
    large.sort(key=lambda region: region.filled_area, reverse=True)
    polygons = [(classes[region.label], simplify_ring(region.rings[0], LABELME_TOLERANCE)) for region in large]
    image_data = encode_base64(encode_picture(image, "PNG")) if image_path is None else None
    size = label_map.shape[0], label_map.shape[1]
    return labelme_document(polygons, size, image_path or "image.png", image_data)


def _classes(labels: LabelSet) -> dict[int, str]:
    """Return the names of the classes by their ids, without the ignored label."""
    return {index: name for index, name in enumerate(labels.class_names) if index != labels.ignore_index}


def _positions(ring: Int64, georeference: Georeference | None) -> list[list[float]]:
    """Return the positions of a GeoJSON ring, whose first and last positions are equal."""
    closed: npt.NDArray[Any] = np.concatenate([ring, ring[:1]])
    if georeference is not None:  # a mirrored system would reverse the orientation of the ring
        closed = georeference.coordinates(closed[::-1] if georeference.mirrored else closed)
    positions: list[list[float]] = closed.tolist()
    return positions


def _crs_name(crs: str) -> str:
    """Return the name of a reference system as GDAL writes it; that of EPSG:4326 has longitude before latitude."""
    authority, colon, code = crs.partition(":")
    if crs == "EPSG:4326":
        return "urn:ogc:def:crs:OGC:1.3:CRS84"
    return f"urn:ogc:def:crs:{authority}::{code}" if colon and code.isalnum() else crs
