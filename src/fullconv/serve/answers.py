"""What a request may ask for, and the file that answers it: the same file as that of `fullconv predict`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.files import write_json
from fullconv.images import read_header, read_image
from fullconv.images.data_uri import encode_picture, jpeg_data_uri
from fullconv.images.georeference import Georeference, read_georeference
from fullconv.labels import LabelSet
from fullconv.predict.areas_table import format_areas, write_areas
from fullconv.predict.large import goes_in_windows, large_targets, predict_large
from fullconv.predict.outputs import Area, compute_areas, result_paths, to_geojson
from fullconv.predict.result import Result, choose_targets, segment
from fullconv.runtime.runner import Runner
from fullconv.serve.options import MAX_LOGITS
from fullconv.web.errors import RequestError

__all__ = ["AnswerFile", "As", "Asked", "answer_image", "check_image"]

As = Literal["mask", "overlay", "probabilities", "polygons", "areas", "json"]
"""The kinds of answers."""

_SAVED = {"mask": "labels", "overlay": "overlay", "probabilities": "probabilities", "polygons": "polygons"}
"""The kind of `fullconv predict --save` with the same file."""

_TYPES = {
    ".png": "image/png",
    ".tif": "image/tiff",
    ".jpg": "image/jpeg",
    ".npz": "application/octet-stream",
    ".geojson": "application/geo+json",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
}


@dataclass(frozen=True)
class Asked:
    """An uploaded image and what is asked for.

    `path` is the file in a private folder, `name` the name that the client gives, which is only shown. `preview` is the
    longest side of the picture in a JSON answer, 0 for none.
    """

    path: Path
    name: str
    kind: As
    preview: int = 0

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem or "image"


@dataclass(frozen=True)
class AnswerFile:
    """The file of an answer, with its media type, the name for a download, and the pixels of the image."""

    path: Path
    type: str
    name: str
    pixels: int


def check_image(path: Path, max_pixels: int, kind: As, classes: int) -> int:
    """Return the pixels of an image, by its header only.

    Raises RequestError for too many pixels, and DataError for anything that is not an image.
    """
    pixels = read_header(path, None).pixels
    if pixels > max_pixels:
        message = f"the image has {pixels:,} pixels, and at most {max_pixels:,} are accepted; send a smaller one"
        raise RequestError(413, message, code="too-many-pixels")
    if kind == "probabilities" and pixels * classes > MAX_LOGITS:
        message = (
            f"the probabilities of {classes} classes are given for at most {MAX_LOGITS // classes:,} pixels, "
            f"and the image has {pixels:,}; send a smaller one"
        )
        raise RequestError(413, message, code="too-many-pixels")
    return pixels


def answer_image(runner: Runner, asked: Asked, max_pixels: int) -> AnswerFile:
    """Predict the image and write what is asked for next to it. Raises the errors of `check_image` and of reading."""
    labels = runner.info.labels
    pixels = check_image(asked.path, max_pixels, asked.kind, labels.num_classes)
    out = asked.path.parent / "out"
    if goes_in_windows(runner, asked.path):
        path = _answer_large(runner, asked, out)
    else:
        picture = read_image(asked.path, runner.info.input)
        keep = asked.kind == "probabilities"
        result = segment(runner, picture, asked.stem, asked.path, keep_logits=keep)
        path = _WRITERS[asked.kind](result, asked, out)
    return AnswerFile(path, _TYPES[path.suffix], asked.stem + path.suffix, pixels)


def _write_saved(result: Result, asked: Asked, out: Path) -> Path:
    kind = _SAVED[asked.kind]
    targets = choose_targets(out, Path("answer"), {kind}, result.geo_tags)
    result.write(targets)
    return targets[kind]


def _write_polygons(result: Result, asked: Asked, out: Path) -> Path:
    """Write the GeoJSON; it names the image, which has another name in the private folder."""
    target = out / "answer.geojson"
    write_json(target, to_geojson(result.label_map, result.labels, result.georeference, asked.name))
    return target


def _write_areas(result: Result, asked: Asked, out: Path) -> Path:
    target = out / "answer.csv"
    write_areas(target, format_areas(asked.name, result.areas()))
    return target


def _write_summary(result: Result, asked: Asked, out: Path) -> Path:
    height, width = result.label_map.shape
    values = _summarise(asked.name, (height, width), result.labels, result.areas(), result.georeference, result.note)
    if asked.preview:
        values["preview"] = _make_preview(result.overlay(), asked.preview)
    return _write_values(out, values)


def _answer_large(runner: Runner, asked: Asked, out: Path) -> Path:
    """Predict a large image in windows. Raises RequestError for kinds that would need all of it in memory."""
    if asked.kind not in ("mask", "overlay", "areas", "json"):
        message = f"{asked.kind} of such a large image would need all of it in memory; ask for mask, overlay or areas"
        raise RequestError(413, message, code="too-many-pixels")
    kind = "overlay" if asked.kind == "overlay" else "labels"
    targets = large_targets(asked.path, result_paths(out, Path("answer"), {kind}), runner)
    result = predict_large(runner, asked.path, targets)
    if asked.kind in ("mask", "overlay"):
        return targets[kind]
    labels, georeference = runner.info.labels, read_georeference(asked.path)
    areas = compute_areas(result.counts, labels, georeference)
    if asked.kind == "json":
        return _write_values(out, _summarise(asked.name, result.size, labels, areas, georeference, result.note))
    write_areas(out / "answer.csv", format_areas(asked.name, areas))
    return out / "answer.csv"


def _summarise(
    name: str,
    size: tuple[int, int],
    labels: LabelSet,
    areas: Mapping[str, Area],
    georeference: Georeference | None,
    note: str,
) -> dict[str, Any]:
    ids = {class_name: index for index, class_name in enumerate(labels.class_names)}
    classes = [
        {
            "id": ids[class_name],
            "name": class_name,
            "color": "#{:02x}{:02x}{:02x}".format(*labels.palette[ids[class_name]]),
            "pixels": area.pixels,
            "share": round(area.share, 6),
            "square_metres": area.square_metres,
        }
        for class_name, area in areas.items()
    ]
    without = size[0] * size[1] - sum(area.pixels for area in areas.values())
    head = {"image": name, "width": size[1], "height": size[0], "crs": georeference and georeference.crs}
    return {**head, "note": note, "unlabelled_pixels": without, "classes": classes}


def _write_values(out: Path, values: Mapping[str, Any]) -> Path:
    write_json(out / "answer.json", values)
    return out / "answer.json"


def _make_preview(overlay: UInt8, side: int) -> str:
    """Return a picture of at most `side` pixels a side as a data URI."""
    picture = Image.fromarray(np.ascontiguousarray(overlay))
    picture.thumbnail((side, side))
    return jpeg_data_uri(encode_picture(picture, "JPEG", quality=88))


_WRITERS: dict[As, Callable[[Result, Asked, Path], Path]] = {
    "mask": _write_saved,
    "overlay": _write_saved,
    "probabilities": _write_saved,
    "polygons": _write_polygons,
    "areas": _write_areas,
    "json": _write_summary,
}

assert set(_WRITERS) == set(get_args(As))
