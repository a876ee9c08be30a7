"""The Python face: a model that is loaded, and predicts from paths, Pillow images and arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.choices import Backend
from fullconv.errors import UsageError
from fullconv.images import read_image
from fullconv.images.decoders.pillow import decode_image
from fullconv.images.decoders.values import band_count_error
from fullconv.images.video import is_video, read_frames
from fullconv.labels import LabelSet
from fullconv.predict.inputs import expand_inputs, output_names
from fullconv.predict.result import Result, segment
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import model_path
from fullconv.runtime.runner import Runner

__all__ = ["ImageLike", "Model", "load_model"]

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]
"""A file, an opened Pillow image, or H x W x C uint8, RGB unless the model takes other channels."""


class Model:
    """A trained model on any backend; `fullconv.load` makes one."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __repr__(self) -> str:
        return f"Model({self.labels.num_classes} classes: {', '.join(self.labels.class_names)})"

    @property
    def labels(self) -> LabelSet:
        """Names and colours of the classes."""
        return self._runner.info.labels

    def predict(self, image: ImageLike) -> Result:
        """Label every pixel of one image: a file, a Pillow image, or an H x W x 3 uint8 array of RGB, 0..255.

        A model of other channels takes H x W x C uint8, and files and Pillow images with those bands. Files and Pillow
        images are turned upright. Raises UsageError for anything else, DataError for files that cannot be read,
        ModelError where the model cannot run on it, MemoryError where it is too large.
        """
        wanted = self._runner.info.input
        if isinstance(image, str | os.PathLike):
            path = Path(image)
            return segment(self._runner, read_image(path, wanted), path.stem, path)
        if isinstance(image, Image.Image):
            pixels = decode_image(image, wanted, getattr(image, "filename", "") or "the image")
            return segment(self._runner, pixels, "image")
        return segment(self._runner, _checked(image, wanted.channels), "image")

    def predict_many(self, images: str | os.PathLike[str] | Iterable[ImageLike]) -> Iterator[Result]:
        """The results of many images, one at a time, in their order.

        `images` is a folder, a glob, a video, or an iterable of what `predict` takes and of videos. A video gives a
        result for each frame, named frame-000001 and so on below its own name. The names of a folder or glob are those
        of `inputs.output_names`, no two of which are equal; others are stems. Raises as `predict`, at the image that
        fails.
        """
        names: Iterable[Path | None] = repeat(None)
        if isinstance(images, str | os.PathLike):
            images = expand_inputs([os.fspath(images)])
            names = output_names(images)
        for image, name in zip(images, names, strict=False):
            if isinstance(image, str | os.PathLike) and is_video(path := Path(image)):
                channels = self._runner.info.input.channels
                if channels != 3:
                    raise band_count_error(path, 3, channels)
                for number, frame in enumerate(read_frames(path), 1):
                    yield segment(self._runner, frame, f"{name or path.stem}/frame-{number:06d}")
            else:
                result = self.predict(image)
                result.name = str(name or result.name)
                yield result


def load_model(model: str | os.PathLike[str], backend: Backend | None = None) -> Model:
    """Load a run folder, a weights file, an .onnx file, or a bundled model by its name.

    `backend` None is torch for run folders and weights, and ONNX Runtime for .onnx files. Raises ModelError for
    anything that is not a model, UsageError for a backend that cannot run it, MissingExtra if it is not installed.
    """
    return Model(load_runner(model_path(model), backend))


def _checked(image: object, channels: int) -> npt.NDArray[np.uint8]:
    """The array, copied, as results compute from it later; UsageError that says how to make one of what was given."""
    kind = "RGB" if channels == 3 else "the model's channels"
    wanted = f"an image is a path, a Pillow image, or an H x W x {channels} uint8 array of {kind}, 0 to 255"
    if not isinstance(image, np.ndarray):
        raise UsageError(f"{wanted}; this is {type(image).__name__}")
    found = f"this array is {' x '.join(map(str, image.shape)) or 'a number'} {image.dtype}"
    if image.ndim == 2 and channels == 3:
        raise UsageError(f"{wanted}; {found}: stack a grey image three times, as np.stack([a] * 3, -1)")
    if image.ndim == 3 and image.shape[2] != channels and image.shape[0] == channels:
        raise UsageError(f"{wanted}; {found}: move the channels to the end, as a.transpose(1, 2, 0)")
    if image.ndim == 3 and image.shape[2] == 4 and channels == 3:
        raise UsageError(f"{wanted}; {found}: leave the fourth channel out, as a[..., :3]")
    if image.ndim != 3 or image.shape[2] != channels or not image.size:
        raise UsageError(f"{wanted}; {found}")
    if image.dtype != np.uint8:
        raise UsageError(f"{wanted}; {found}: scale it to 0 to 255, then a.round().astype(np.uint8)")
    return image.copy()
