"""One image that a model has labelled, and all that can be had of it."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.errors import ModelError, UsageError
from fullconv.files import write_json
from fullconv.images import Picture, overlay, rgb_view, write_image, write_label_map
from fullconv.images.banded_writer import write_georeferenced
from fullconv.images.decoders.base import GeoTags
from fullconv.images.georeference import Georeference, read_georeference
from fullconv.labels import LabelSet
from fullconv.predict import outputs
from fullconv.predict.outputs import AREAS_FILE, DEFAULT_SAVES, Area
from fullconv.runtime.runner import Runner, label_maps, largest
from fullconv.runtime.tiles import MAX_UNTILED_PIXELS, in_memory

__all__ = ["Result", "file_identity", "segment", "targets_of"]

SHOWN = 480
"""Pixels of the longer side of what a notebook shows."""

UInt8 = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(eq=False)
class Result:
    """What a model says about an image; made by `segment` and by `fullconv.load(...).predict`.

    `image` is H x W x C uint8, RGB where the model takes that, upright; `label_map` H x W uint8 class ids, at the same
    size. `name` is that of its files, and `path` the image's own file, where it has one. Pixels without data, as TIFFs
    name them, are black and have the ignored label. `origin` is where a georeferenced TIFF lies, for its label map, and
    `note` says which of the file's bands were read, if not all.
    """

    image: UInt8
    label_map: UInt8
    name: str
    path: Path | None
    runner: Runner
    origin: GeoTags | None = None
    note: str = ""

    def __repr__(self) -> str:
        height, width = self.label_map.shape
        classes = ", ".join(name for name, area in self._shares() if area.pixels)
        return f"Result({self.name!r}, {height} x {width} pixels: {classes})"

    @property
    def labels(self) -> LabelSet:
        """Names and colours of the classes."""
        return self.runner.info.labels

    @cached_property
    def logits(self) -> Floats:
        """K x H x W float32 raw scores, computed when they are first asked for, and then kept."""
        return _logits(self.runner, self.image)

    @cached_property
    def georeference(self) -> Georeference | None:
        """Where the image lies on the map, if it is a GeoTIFF. Raises as `read_georeference`."""
        return None if self.path is None else read_georeference(self.path)

    def overlay(self, alpha: float = 0.5) -> UInt8:
        """The image tinted with the colours of its classes, H x W x 3 uint8 RGB; `alpha` is the colours' share.

        Of images that are not RGB it is `bands.rgb_view` that is tinted.
        """
        return overlay(rgb_view(self.image), self.label_map, self.labels, alpha)

    def probabilities(self) -> npt.NDArray[np.float16]:
        """K x H x W float16, the softmax of the logits."""
        return outputs.probabilities(self.logits)

    def areas(self) -> dict[str, Area]:
        """For each class its pixels, their share, and square metres where the image is a GeoTIFF in a length."""
        return outputs.areas(self._counts(), self.labels, self.georeference)

    def polygons(self) -> dict[str, Any]:
        """A GeoJSON FeatureCollection, as `outputs.geojson` says."""
        image = self.name if self.path is None else self.path.name
        return outputs.geojson(self.label_map, self.labels, self.georeference, image)

    def save(
        self, folder: str | os.PathLike[str], kinds: Collection[str] = DEFAULT_SAVES, name: str | None = None
    ) -> dict[str, Path]:
        """Write what `kinds` name below `folder`, as `fullconv predict` does; the files that were written.

        The kinds are those of `outputs.SAVES`. In a table of areas that is there, the rows of this image are replaced
        and the others stay. Raises UsageError for other kinds, and rather than write over the image itself.
        """
        if isinstance(kinds, str):
            raise UsageError(f"kinds is {kinds!r}; give a list of words, as [{kinds!r}]")
        outputs.check_kinds(kinds)
        targets = targets_of(Path(folder), Path(name or self.name), kinds, self.origin)
        if self.path is not None and file_identity(self.path) in map(file_identity, targets.values()):
            raise UsageError(f"{self.path}: its result would overwrite it; choose another folder or name")
        self.write(targets)
        if "areas" in kinds:
            targets["areas"] = Path(folder) / AREAS_FILE
            image = str(self.path or name or self.name)
            outputs.update_areas(targets["areas"], outputs.areas_rows(image, self.areas()))
        return targets

    def write(self, targets: dict[str, Path]) -> None:
        """Write the kinds of `targets_of` to their files."""
        for kind, target in targets.items():
            if kind == "labels" and self.origin is not None:
                write_georeferenced(target, self.label_map, self.labels, self.origin)
            elif kind == "labels":
                write_label_map(target, self.label_map, self.labels)
            elif kind == "overlay":
                write_image(target, self.overlay())
            elif kind == "probabilities":
                outputs.write_probabilities(target, self.probabilities(), self.labels)
            elif kind == "polygons":
                write_json(target, self.polygons())
            elif kind == "labelme":
                image_path = None if self.path is None else _relative(self.path, target.parent)
                write_json(target, outputs.labelme(self.label_map, self.labels, rgb_view(self.image), image_path))

    def _counts(self) -> npt.NDArray[np.int64]:
        return np.bincount(self.label_map.ravel(), minlength=256)

    def _shares(self) -> list[tuple[str, Area]]:
        """The classes, the largest first, without asking for the georeference."""
        areas = outputs.areas(self._counts(), self.labels, None)
        return sorted(areas.items(), key=lambda entry: -entry[1].pixels)

    def _repr_html_(self) -> str:
        """The image, the overlay, and the classes that are there, for notebooks."""
        colors = dict(zip(self.labels.class_names, self.labels.palette, strict=True))
        legend = " ".join(
            f'<span style="white-space:nowrap;margin-right:1em"><span style="display:inline-block;width:1em;height:1em;'
            f'background:rgb{colors[name]}"></span> {html.escape(name)} {area.share:.1%}</span>'
            for name, area in self._shares()
            if area.pixels
        )
        pictures = "".join(
            f'<img alt="{what} of {html.escape(self.name)}" src="data:image/jpeg;base64,{_jpeg(picture)}"'
            f' style="max-width:49%;margin-right:1%;display:inline-block">'
            for what, picture in (("image", rgb_view(self.image)), ("overlay", self.overlay()))
        )
        return f"<div>{pictures}<div>{legend}</div></div>"


def segment(
    runner: Runner,
    image: UInt8 | Picture,
    name: str,
    path: Path | None = None,
    keep_logits: bool = False,
    max_untiled_pixels: int = MAX_UNTILED_PIXELS,
) -> Result:
    """Label an H x W x C uint8 image in the runner's input format; above `max_untiled_pixels` in tiles.

    With `keep_logits`, for callers that need them anyhow, the network runs once, and the labels are those of the
    largest logits.
    """
    picture = image if isinstance(image, Picture) else Picture(image)
    pixels, runner = picture.pixels, in_memory(runner, picture.pixels.shape[:2], max_untiled_pixels)
    logits = _logits(runner, pixels) if keep_logits else None
    label_map = label_maps(runner, pixels[None])[0] if logits is None else largest(logits[None])[0]
    if picture.empty is not None:
        label_map = np.where(picture.empty, np.uint8(runner.info.labels.ignore_index), label_map)
    result = Result(pixels, label_map, name, path, runner, picture.geo, picture.note)
    if logits is not None:
        result.logits = logits
    return result


def targets_of(folder: Path, name: Path, kinds: Collection[str], origin: GeoTags | None) -> dict[str, Path]:
    """The files of `outputs.result_paths`; the label map of a georeferenced image is a TIFF."""
    targets = outputs.result_paths(folder, name, kinds)
    if origin is not None and "labels" in targets:
        targets["labels"] = targets["labels"].with_name(f"{name.name}.tif")
    return targets


def file_identity(path: Path) -> str:
    """The same for two ways to one directory entry; a link to a file is a file of its own."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _logits(runner: Runner, image: UInt8) -> Floats:
    expected = (runner.info.labels.num_classes, *image.shape[:2])
    logits: Floats = runner.logits(image[None])[0]
    if logits.shape != expected:
        raise ModelError(f"the model gave logits of shape {logits.shape} where {expected} was expected")
    return logits


def _relative(path: Path, folder: Path) -> str:
    """The way from a folder to a file, absolute from one drive to another."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(os.path.abspath(path)).as_posix()


def _jpeg(rgb: UInt8) -> str:
    """At most `SHOWN` pixels on each side, as base64."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((SHOWN, SHOWN))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=90)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
