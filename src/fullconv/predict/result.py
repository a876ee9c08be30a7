"""The result of one image: its labels, logits, overlay, polygons and areas, and their files."""

from __future__ import annotations

import html
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.arrays import Float32, Int64, UInt8
from fullconv.errors import ModelError, UsageError
from fullconv.files import write_json
from fullconv.forks import lazy_property
from fullconv.images import Picture, overlay, rgb_view, write_image, write_label_map
from fullconv.images.banded_writer import write_georeferenced
from fullconv.images.data_uri import encode_picture, jpeg_data_uri
from fullconv.images.decoders.base import GeoTags
from fullconv.images.georeference import Georeference, read_georeference
from fullconv.labels import LabelSet
from fullconv.predict import outputs
from fullconv.predict.areas_table import AREAS_FILE, format_areas, update_areas
from fullconv.predict.outputs import DEFAULT_SAVES, Area
from fullconv.runtime.runner import Runner, label_maps, largest
from fullconv.runtime.tiles import MAX_UNTILED_PIXELS, in_memory
from fullconv.visible import make_visible

__all__ = ["Result", "choose_targets", "file_identity", "refuse_targets", "segment"]

SHOWN = 480
"""The longest side, in pixels, of a picture in a notebook."""


@dataclass(eq=False)
class Result:
    """The labels of an image; `segment` and `fullconv.load(...).predict` return it.

    `image` is H x W x C uint8, upright, RGB if the model takes RGB. `label_map` is H x W uint8 class ids, of the same
    size. `name` is the name of the files that `save` writes, and `path` the file of the image, if it has one. Pixels
    without data (nodata value, mask or alpha of a TIFF) are black and have the ignored label. `geo_tags` are those of a
    georeferenced TIFF, for its label map. `note` says which bands of the file were read, if not all.

    A pickled result holds the arrays and the path of the model, which is loaded if `logits` need it.
    """

    image: UInt8
    label_map: UInt8
    name: str
    path: Path | None
    runner: Runner
    geo_tags: GeoTags | None = None
    note: str = ""

    def __repr__(self) -> str:
        """Return name, size and present classes."""
        height, width = self.label_map.shape
        classes = ", ".join(name for name, area in self._shares() if area.pixels)
        return f"Result({self.name!r}, {height} x {width} pixels: {make_visible(classes)})"

    @property
    def labels(self) -> LabelSet:
        """The names and colours of the classes."""
        return self.runner.info.labels

    @lazy_property
    def logits(self) -> Float32:
        """The raw scores, K x H x W float32, computed at the first access."""
        return _logits(self.runner, self.image)

    @lazy_property
    def georeference(self) -> Georeference | None:
        """The position on the map, if the image is a GeoTIFF. Raises the errors of `read_georeference`."""
        return None if self.path is None else read_georeference(self.path)

    def overlay(self, alpha: float = 0.5) -> UInt8:
        """Return the image in the colours of its classes, H x W x 3 uint8 RGB; `alpha` is the colours' share, 0..1.

        For an image that is not RGB, the picture under the colours is `images.rgb_view`.
        """
        return overlay(rgb_view(self.image), self.label_map, self.labels, alpha)

    def probabilities(self) -> npt.NDArray[np.float16]:
        """Return the softmax of the logits over the classes, K x H x W float16."""
        return outputs.compute_probabilities(self.logits)

    def areas(self) -> dict[str, Area]:
        """Return the area of each class; square metres are known for a GeoTIFF whose unit is a length."""
        return outputs.compute_areas(self._counts(), self.labels, self.georeference)

    def polygons(self) -> dict[str, Any]:
        """Return a GeoJSON FeatureCollection; `outputs.to_geojson` describes it."""
        image = self.name if self.path is None else self.path.name
        return outputs.to_geojson(self.label_map, self.labels, self.georeference, image)

    def save(
        self, folder: str | os.PathLike[str], kinds: Collection[str] = DEFAULT_SAVES, name: str | None = None
    ) -> dict[str, Path]:
        """Write results of these kinds below `folder`, like `fullconv predict`, and return their files by kind.

        `kinds` are those of `outputs.SAVES`. In an existing table of areas, only the rows of this image are replaced.

        Raises UsageError for other kinds, and if a result would overwrite the image, or another file in its folder.
        """
        if isinstance(kinds, str):
            message = f"kinds is the string {kinds!r}; use a list of strings such as [{kinds!r}]"
            raise UsageError(message, code="kinds-not-a-list")
        outputs.check_kinds(kinds)
        targets = choose_targets(Path(folder), Path(name or self.name), kinds, self.geo_tags)
        if self.path is not None:
            identity = file_identity(self.path)
            refuse_targets(targets.values(), str(self.path), {identity}, {os.path.dirname(identity)})
        self.write(targets)
        if "areas" in kinds:
            targets["areas"] = Path(folder) / AREAS_FILE
            image = str(self.path or name or self.name)
            update_areas(targets["areas"], format_areas(image, self.areas()))
        return targets

    def write(self, targets: dict[str, Path], embed: bool = False) -> None:
        """Write the results to `targets`, the files that `choose_targets` returned.

        If `embed`, a file of labelme contains the image, as that of an image without a file does.
        """
        for kind, target in targets.items():
            if kind == "labels" and self.geo_tags is not None:
                write_georeferenced(target, self.label_map, self.labels, self.geo_tags)
            elif kind == "labels":
                write_label_map(target, self.label_map, self.labels)
            elif kind == "overlay":
                write_image(target, self.overlay())
            elif kind == "probabilities":
                outputs.write_probabilities(target, self.probabilities(), self.labels)
            elif kind == "polygons":
                write_json(target, self.polygons())
            elif kind == "labelme":
                image_path = None if self.path is None or embed else _relative(self.path, target.parent)
                write_json(target, outputs.to_labelme(self.label_map, self.labels, rgb_view(self.image), image_path))

    def _counts(self) -> Int64:
        return np.bincount(self.label_map.ravel(), minlength=256)

    def _shares(self) -> list[tuple[str, Area]]:
        """Return the areas of the classes, the largest first, without reading the georeference."""
        areas = outputs.compute_areas(self._counts(), self.labels, None)
        return sorted(areas.items(), key=lambda entry: -entry[1].pixels)

    def _repr_html_(self) -> str:
        """Return the image, the overlay and a legend of the present classes, for notebooks."""
        colors = dict(zip(self.labels.class_names, self.labels.palette, strict=True))
        legend = " ".join(
            f'<span style="white-space:nowrap;margin-right:1em"><span style="display:inline-block;width:1em;height:1em;'
            f'background:rgb{colors[name]}"></span> {html.escape(name)} {area.share:.1%}</span>'
            for name, area in self._shares()
            if area.pixels
        )
        pictures = "".join(
            f'<img alt="{what} of {html.escape(self.name)}" src="{_thumbnail_uri(picture)}"'
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

    With `keep_logits`, the network runs only once for labels and logits, and the labels follow from the logits.
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


def choose_targets(folder: Path, name: Path, kinds: Collection[str], geo_tags: GeoTags | None) -> dict[str, Path]:
    """Return the files of `outputs.result_paths`; the label map of a georeferenced image is a TIFF."""
    targets = outputs.result_paths(folder, name, kinds)
    if geo_tags is not None and "labels" in targets:
        targets["labels"] = targets["labels"].with_name(f"{name.name}.tif")
    return targets


def file_identity(path: Path) -> str:
    """Return the same text for all paths to one directory entry; a link and its target are different entries."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def refuse_targets(targets: Iterable[Path], image: str, inputs: Collection[str], folders: Collection[str]) -> None:
    """Raise UsageError if a result of `image` would replace an input, or a file in `folders`, such as a mask there.

    `inputs` are the `file_identity` of all inputs, and `folders` their folders.
    """
    for target in targets:
        identity = file_identity(target)
        if identity in inputs:
            message = f"{image}: its result would overwrite the input {target}; choose another folder or name"
            raise UsageError(message, code="overwrites-input")
        if os.path.dirname(identity) in folders and os.path.lexists(target):
            message = f"{image}: its result would overwrite {target}, in the folder of an input; choose another folder"
            raise UsageError(f"{message}, or remove that file", code="overwrites-file")


def _logits(runner: Runner, image: UInt8) -> Float32:
    expected = (runner.info.labels.num_classes, *image.shape[:2])
    logits: Float32 = runner.logits(image[None])[0]
    if logits.shape != expected:
        message = f"the model returned logits of shape {logits.shape}, not {expected}; export or train it again"
        raise ModelError(message, code="logits-shape")
    return logits


def _relative(path: Path, folder: Path) -> str:
    """Return the relative path from a folder to a file; absolute if they are on different drives.

    Links in both are resolved, because `..` leads to the parent of a link's target.
    """
    try:
        return Path(os.path.relpath(file_identity(path), os.path.realpath(folder))).as_posix()
    except ValueError:
        return Path(os.path.abspath(path)).as_posix()


def _thumbnail_uri(rgb: UInt8) -> str:
    """Return a picture of at most `SHOWN` pixels a side as a data URI."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((SHOWN, SHOWN))
    return jpeg_data_uri(encode_picture(picture, "JPEG", quality=90))
