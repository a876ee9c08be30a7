"""The model of `fullconv.load`, which predicts paths, Pillow images and arrays."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.arrays import UInt8
from fullconv.choices import Backend, Device
from fullconv.errors import UsageError
from fullconv.images import read_image
from fullconv.images.decoders.pillow import decode_image
from fullconv.images.decoders.values import band_count_error, to_bytes
from fullconv.images.input_format import InputFormat, ValueRange
from fullconv.images.video import is_video, read_frames
from fullconv.labels import LabelSet
from fullconv.predict.inputs import expand_inputs, output_names
from fullconv.predict.ranges import find_misfit, input_with
from fullconv.predict.result import Result, segment
from fullconv.runtime.models import model_path
from fullconv.runtime.reloadable import ReloadableRunner
from fullconv.runtime.runner import Runner
from fullconv.runtime.tiles import FlippedRunner
from fullconv.visible import make_visible

__all__ = ["ImageLike", "Model", "load_model"]

logger = logging.getLogger(__name__)

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | UInt8
"""A file, an opened Pillow image, or an H x W x C uint8 array, RGB unless the model takes other channels."""


class Model:
    """A trained model on any backend; `fullconv.load` returns one.

    Any thread may call it. It can be pickled: another process loads the model again from its files.
    """

    def __init__(self, runner: Runner) -> None:
        """Predict with `runner`."""
        self._runner = runner

    def __repr__(self) -> str:
        """Return the names of the classes."""
        return f"Model({self.labels.num_classes} classes: {make_visible(', '.join(self.labels.class_names))})"

    @property
    def labels(self) -> LabelSet:
        """The names and colours of the classes."""
        return self._runner.info.labels

    def predict(self, image: ImageLike, *, value_range: ValueRange | None = None, tta: bool = False) -> Result:
        """Label every pixel of one image: a file, a Pillow image, or an H x W x 3 uint8 array of RGB, 0..255.

        A model for C other channels takes H x W x C uint8 arrays, and files and Pillow images with C bands. Files and
        Pillow images are rotated upright according to their EXIF data.

        `value_range` are the numbers that become 0 and 255 in images of more than 8 bits, (0, 4095) for those of a
        12-bit camera, instead of the range of the model. With it, arrays may hold integers or floats. Without, a file
        that uses a small part of the model's range is logged as a warning.

        With `tta`, the probabilities are the mean of those of the image and of its mirror image, in twice the time; the
        result's logits are their logarithms.

        Raises UsageError for anything else, DataError for a file that cannot be read, ModelError if the model cannot
        run on the image, and MemoryError if the image is too large.
        """
        runner: Runner = FlippedRunner(self._runner) if tta else self._runner
        wanted = input_with(runner.info.input, value_range)
        if isinstance(image, str | os.PathLike):
            path = Path(image)
            picture = read_image(path, wanted)
            if value_range is None and (misfit := find_misfit(path, wanted)) is not None:
                logger.warning(str(misfit))
            return segment(runner, picture, path.stem, path)
        if isinstance(image, Image.Image):
            pixels = decode_image(image, wanted, getattr(image, "filename", "") or "the image")
            return segment(runner, pixels, "image")
        return segment(runner, _copy_array(image, wanted, value_range is not None), "image")

    def predict_many(
        self,
        images: str | os.PathLike[str] | Iterable[ImageLike],
        *,
        value_range: ValueRange | None = None,
        tta: bool = False,
    ) -> Iterator[Result]:
        """Yield the results of many images, one at a time, in their order.

        `images` is a folder, a glob, a video, or an iterable of videos and of images as `predict` takes them. A video
        gives one result a frame, with the names frame-000001 and so on below the name of the video. For a folder or
        glob, `inputs.output_names` gives the names, which all differ; other names are the stems of the files. `tta` is
        that of `predict`. A failed image raises the errors of `predict`.
        """
        runner: Runner = FlippedRunner(self._runner) if tta else self._runner
        names: Iterable[Path | None] = repeat(None)
        if isinstance(images, str | os.PathLike):
            images = expand_inputs([os.fspath(images)])
            names = output_names(images)
        for image, name in zip(images, names, strict=False):
            if isinstance(image, str | os.PathLike) and is_video(path := Path(image)):
                takes = self._runner.info.input
                if takes.channels != 3:
                    raise band_count_error(path, 3, takes)
                for number, frame in enumerate(read_frames(path), 1):
                    yield segment(runner, frame, f"{name or path.stem}/frame-{number:06d}")
            else:
                result = self.predict(image, value_range=value_range, tta=tta)
                result.name = str(name or result.name)
                yield result


def load_model(
    model: str | os.PathLike[str],
    backend: Backend | None = None,
    code: str | os.PathLike[str] | None = None,
    device: Device = "auto",
) -> Model:
    """Load a run folder, a weights file, an .onnx file, or a bundled model by its name.

    `backend` None is torch for run folders and weights, and ONNX Runtime for .onnx files. `code` is the FILE.py of a
    custom classifier. Raises ModelError for anything that is not a model, UsageError for a backend that cannot run it
    and for a device that there is not, MissingExtra if the backend is not installed.
    """
    return Model(ReloadableRunner(model_path(model), backend, code, device))


def _copy_array(image: object, input: InputFormat, ranged: bool) -> UInt8:
    """Return a copy, because results use it later; raise UsageError with advice for anything else."""
    channels = input.channels
    kind = "RGB" if channels == 3 else "the model's channels"
    wanted = f"an image must be a path, a Pillow image, or an H x W x {channels} uint8 array of {kind}, 0 to 255"
    if not isinstance(image, np.ndarray):
        raise UsageError(f"{wanted}; this is {type(image).__name__}", code="not-an-image")
    actual = f"this array is {' x '.join(map(str, image.shape)) or 'a number'} {image.dtype}"
    if image.ndim != 3 or image.shape[2] != channels or not image.size:
        raise UsageError(f"{wanted}; {actual}{_explain_shape(image, channels)}", code="unsupported-array-shape")
    if ranged and image.dtype.kind in "uif":
        return to_bytes(image, input.value_range, "the array")
    if image.dtype != np.uint8:
        message = f"{wanted}; {actual}: scale it to 0 to 255 with value_range=(low, high)"
        raise UsageError(message, code="unsupported-array-type")
    return image.copy()


def _explain_shape(image: npt.NDArray[Any], channels: int) -> str:
    """Return how to convert an array of another shape, where that is known."""
    if image.ndim == 2 and channels == 3:
        return ": stack a grey image three times with np.stack([a] * 3, -1)"
    if image.ndim == 3 and image.shape[2] != channels and image.shape[0] == channels:
        return ": move the channels to the end with a.transpose(1, 2, 0)"
    if image.ndim == 3 and image.shape[2] == 4 and channels == 3:
        return ": remove the fourth channel with a[..., :3]"
    return ""
