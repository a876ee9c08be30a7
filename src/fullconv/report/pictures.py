"""The pictures of the report: image, truth, prediction and errors of the worst, median, best and some other images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from fullconv.data.dataset import DataSet, distinct_labels
from fullconv.data.windows import open_sample
from fullconv.evaluation.measure import ImageCounts, Measured, thumb_of, thumb_step
from fullconv.images import overlay, rgb_view
from fullconv.labels import LabelSet
from fullconv.pages.parts import percent
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS

__all__ = ["Sheet", "chosen", "error_picture", "jpeg_uri", "outlines", "sheet_of", "tinted"]

WORST, MEDIAN, BEST, OTHERS = 12, 4, 4, 6
STRIP = 8
"""Rows of the small picture that are made at once of a large image."""

WRONG = (178, 52, 0)
"""A dark orange: against the lightened grey it stands out by hue for every kind of colour vision, and by lightness."""

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sheet:
    """The pictures of one image as data URIs, with its mIoU and the share of its labelled pixels that is wrong.

    Both numbers are texts, in percent. `true_classes` and `predicted_classes` name the classes in the pictures.
    """

    name: str
    mean_iou: str
    wrong: str
    image: str
    truth: str
    prediction: str
    error: str
    true_classes: tuple[str, ...]
    predicted_classes: tuple[str, ...]


def chosen(images: Sequence[ImageCounts]) -> dict[str, list[ImageCounts]]:
    """Choose the images to show, each once, in groups by name; none without a labelled pixel.

    All but the last group go from the lowest mIoU to the highest. The last one is spread evenly over the rest of the
    split, in its order.
    """
    scored = [(iou, place, image) for place, image in enumerate(images) if (iou := image.mean_iou) is not None]
    ranked = sorted(scored, key=lambda row: row[:2])
    if len(ranked) <= WORST + MEDIAN + BEST:
        return {"All, worst first": [image for *_, image in ranked]}
    middle = min(max((len(ranked) - MEDIAN) // 2, WORST), len(ranked) - BEST - MEDIAN)
    rest = sorted(ranked[WORST:middle] + ranked[middle + MEDIAN : -BEST], key=lambda row: row[1])
    spread = np.linspace(0, len(rest) - 1, min(OTHERS, len(rest))).round().astype(int)
    groups = {
        "Worst": ranked[:WORST],
        "Median": ranked[middle : middle + MEDIAN],
        "Best": ranked[-BEST:],
        "Others, spread over the split": [rest[index] for index in spread],
    }
    return {name: [image for *_, image in group] for name, group in groups.items() if group}


def sheet_of(measured: Measured, counts: ImageCounts, max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS) -> Sheet:
    """Read the image and its target again, and draw them and the prediction that was kept, all of one size."""
    labels = measured.labels
    prediction = counts.unpacked()
    small, truth = _thumbs(measured.dataset, counts, max_in_memory_pixels)
    pictures = (
        small,
        tinted(small, truth, labels),
        tinted(small, prediction, labels),
        error_picture(small, truth, prediction, labels),
    )
    mean_iou = counts.mean_iou
    assert mean_iou is not None
    wrong = 1 - float(counts.hit.sum() / counts.true.sum())
    shown, true, predicted, errors = map(jpeg_uri, pictures)
    names = _names(truth, labels), _names(prediction, labels)
    return Sheet(counts.sample.name, percent(mean_iou), percent(wrong), shown, true, predicted, errors, *names)


def _thumbs(dataset: DataSet, counts: ImageCounts, max_in_memory_pixels: int) -> tuple[UInt8, UInt8]:
    """Return the image, h x w x 3, and its target, h x w, small; a large image is read strip by strip."""
    step = thumb_step(counts.shape)
    height, width = (-(-length // step) for length in counts.shape)
    if counts.shape[0] * counts.shape[1] <= max_in_memory_pixels:
        image, target = dataset.read(counts.sample)
        small = Image.fromarray(rgb_view(image)).resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(small), thumb_of(target)
    pictures, truths = [], []
    with open_sample(dataset, counts.sample) as reader:
        for top in range(0, height, STRIP):
            rows = range(top * step, min((top + STRIP) * step, counts.shape[0]))
            image, target, _ = reader.read(rows, range(counts.shape[1]))
            truths.append(target[::step, ::step].copy())  # a view would keep the strip
            part = Image.fromarray(np.ascontiguousarray(rgb_view(image)))
            pictures.append(np.asarray(part.resize((width, len(truths[-1])), Image.Resampling.BOX)))
    return np.concatenate(pictures), np.concatenate(truths)


def _names(label_map: UInt8, labels: LabelSet) -> tuple[str, ...]:
    return tuple(labels.class_names[label] for label in distinct_labels(label_map) if label < labels.num_classes)


def tinted(image: UInt8, label_map: UInt8, labels: LabelSet) -> UInt8:
    """H x W x 3: the image in the colours of its classes but black ones, with `outlines`; ignored pixels are hatched.

    Lines and lightness tell classes apart where hues do not.
    """
    black = [label for label, color in enumerate(labels.palette) if color == (0, 0, 0)]
    shown = np.where(np.isin(label_map, black), labels.ignore_index, label_map).astype(np.uint8)
    picture = overlay(image, shown, labels, 0.6)
    _hatch(picture, label_map == labels.ignore_index)
    lines = outlines(label_map)
    light = picture[lines].mean(-1, keepdims=True) > 110
    picture[lines] = np.where(light, 0, 255)
    return picture


def outlines(label_map: UInt8) -> npt.NDArray[np.bool_]:
    """H x W: pixels next to a label that has fewer pixels, so that small regions are framed and not covered."""
    pixels = np.bincount(label_map.ravel(), minlength=256)
    rank = np.argsort(np.argsort(pixels, kind="stable"))[label_map]
    found = np.zeros(label_map.shape, bool)
    found[:, 1:] |= rank[:, 1:] > rank[:, :-1]
    found[:, :-1] |= rank[:, :-1] > rank[:, 1:]
    found[1:] |= rank[1:] > rank[:-1]
    found[:-1] |= rank[:-1] > rank[1:]
    return found


def error_picture(image: UInt8, truth: UInt8, prediction: UInt8, labels: LabelSet) -> UInt8:
    """H x W x 3: the image in light grey, wrong pixels in `WRONG`, ignored ones hatched; the label maps are H x W."""
    grey = (np.asarray(Image.fromarray(image).convert("L")).astype(np.uint16) * 135 // 255 + 120).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    ignored = truth == labels.ignore_index
    picture[(truth != prediction) & ~ignored] = WRONG
    _hatch(picture, ignored)
    return picture


def _hatch(picture: UInt8, where: npt.NDArray[np.bool_]) -> None:
    rows, columns = np.indices(where.shape)
    picture[where & ((rows + columns) % 8 < 3)] = 90


def jpeg_uri(picture: UInt8) -> str:
    """An H x W x 3 uint8 picture as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
