"""Draw the pictures of the report: image, truth, prediction and errors of the worst, median, best and other images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fullconv.arrays import Mask, UInt8
from fullconv.data.dataset import DataSet, distinct_labels
from fullconv.data.windows import open_sample
from fullconv.evaluation.measure import ImageCounts, Measurement, make_thumbnail, thumbnail_step
from fullconv.images import overlay, rgb_view
from fullconv.images.data_uri import encode_picture, jpeg_data_uri
from fullconv.labels import LabelSet
from fullconv.pages.parts import percent
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS

__all__ = ["PictureRow", "choose_images", "draw_errors", "draw_row", "find_outlines", "tint_classes"]

WORST, MEDIAN, BEST, OTHERS = 12, 4, 4, 6
"""The number of images in each group."""

STRIP = 8
"""The number of rows of the small picture that are computed at a time for a large image."""

WRONG = (178, 52, 0)
"""A dark orange, which differs from the light grey in lightness, and in hue for every kind of colour vision."""


@dataclass(frozen=True)
class PictureRow:
    """The pictures of one image as data URIs, with its mIoU and the share of its labelled pixels that are wrong.

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


def choose_images(images: Sequence[ImageCounts]) -> dict[str, list[ImageCounts]]:
    """Choose the images to show, each once, in groups by name; images without a labelled pixel are skipped.

    The images of a group go from the lowest mIoU to the highest. Only the last group is in the order of the split: its
    images are evenly spread over the rest.
    """
    scored = [(iou, index, image) for index, image in enumerate(images) if (iou := image.mean_iou) is not None]
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


def draw_row(
    measurement: Measurement, counts: ImageCounts, max_in_memory_pixels: int = MAX_IN_MEMORY_PIXELS
) -> PictureRow:
    """Read the image and its target again, and draw them and the stored prediction, all of one size."""
    labels = measurement.labels
    prediction = counts.unpack()
    small, truth = _read_thumbnails(measurement.dataset, counts, max_in_memory_pixels)
    pictures = (
        small,
        tint_classes(small, truth, labels),
        tint_classes(small, prediction, labels),
        draw_errors(small, truth, prediction, labels),
    )
    mean_iou = counts.mean_iou
    assert mean_iou is not None
    wrong = 1 - float(counts.hit.sum() / counts.true.sum())
    shown, true, predicted, errors = map(_encode, pictures)
    names = _names(truth, labels), _names(prediction, labels)
    return PictureRow(counts.sample.name, percent(mean_iou), percent(wrong), shown, true, predicted, errors, *names)


def _read_thumbnails(dataset: DataSet, counts: ImageCounts, max_in_memory_pixels: int) -> tuple[UInt8, UInt8]:
    """Return the image, h x w x 3, and its target, h x w, at a small size; a large image is read strip by strip."""
    step = thumbnail_step(counts.shape)
    height, width = (-(-length // step) for length in counts.shape)
    if counts.shape[0] * counts.shape[1] <= max_in_memory_pixels:
        image, target = dataset.read(counts.sample)
        small = Image.fromarray(rgb_view(image)).resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(small), make_thumbnail(target)
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


def tint_classes(image: UInt8, label_map: UInt8, labels: LabelSet) -> UInt8:
    """Return an H x W x 3 image in the colours of its classes, with outlines; ignored pixels are hatched.

    A class whose colour is black is not tinted. Outlines and lightness distinguish classes of similar hues.
    """
    black = [label for label, color in enumerate(labels.palette) if color == (0, 0, 0)]
    shown = np.where(np.isin(label_map, black), labels.ignore_index, label_map).astype(np.uint8)
    picture = overlay(image, shown, labels, 0.6)
    _hatch(picture, label_map == labels.ignore_index)
    lines = find_outlines(label_map)
    light = picture[lines].mean(-1, keepdims=True) > 110
    picture[lines] = np.where(light, 0, 255)
    return picture


def find_outlines(label_map: UInt8) -> Mask:
    """Return an H x W mask of the pixels next to a label with fewer pixels: small regions are framed, not covered."""
    pixels = np.bincount(label_map.ravel(), minlength=256)
    rank = np.argsort(np.argsort(pixels, kind="stable"))[label_map]
    lines = np.zeros(label_map.shape, bool)
    lines[:, 1:] |= rank[:, 1:] > rank[:, :-1]
    lines[:, :-1] |= rank[:, :-1] > rank[:, 1:]
    lines[1:] |= rank[1:] > rank[:-1]
    lines[:-1] |= rank[:-1] > rank[1:]
    return lines


def draw_errors(image: UInt8, truth: UInt8, prediction: UInt8, labels: LabelSet) -> UInt8:
    """Return an H x W x 3 image in light grey with wrong pixels in `WRONG` and ignored pixels hatched."""
    grey = (np.asarray(Image.fromarray(image).convert("L")).astype(np.uint16) * 135 // 255 + 120).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    ignored = truth == labels.ignore_index
    picture[(truth != prediction) & ~ignored] = WRONG
    _hatch(picture, ignored)
    return picture


def _hatch(picture: UInt8, where: Mask) -> None:
    rows, columns = np.indices(where.shape)
    picture[where & ((rows + columns) % 8 < 3)] = 90


def _encode(picture: UInt8) -> str:
    return jpeg_data_uri(encode_picture(picture, "JPEG", quality=82, optimize=True))
