"""What to label next: the images, and the places in an image, of which a label would teach most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fullconv.arrays import Float32
from fullconv.errors import FullconvError
from fullconv.label.live.model import Model, Scale
from fullconv.label.live.samples import Painted
from fullconv.label.live.tap_store import Summary, TapStore

__all__ = ["Place", "Ranked", "find_places", "margin", "rank_images", "read_summary"]

BLOCKS = 16
"""An image's longer side is divided into so many blocks, at least; the places are blocks."""

STEPS = 8
"""Each side of a block is judged at so many pixels."""


@dataclass(frozen=True)
class Ranked:
    """An image in the order of what to label next: `score` is 0 to 1, `reason` a sentence."""

    image: Path
    score: float
    reason: str


@dataclass(frozen=True)
class Place:
    """A box of an image in pixels, and how uncertain the model is there, 0 to 1."""

    x: int
    y: int
    width: int
    height: int
    score: float


def margin(logits: Float32) -> Float32:
    """Map K x ... logits to the difference between the largest and the second largest probability, 0 to 1."""
    shares = np.exp(logits - logits.max(0))
    shares /= shares.sum(0)
    if len(shares) == 1:
        return np.ones(shares.shape[1:], np.float32)
    two = np.partition(shares, len(shares) - 2, 0)[-2:]
    difference: Float32 = (two[1] - two[0]).astype(np.float32)
    return difference


def find_places(
    judge: Callable[[int], Float32], size: tuple[int, int], painted: Painted | None, most: int
) -> list[Place]:
    """Return the blocks of an image that are most uncertain, without those that are painted, the worst one first.

    `judge(step)` returns the uncertainty of every `step`th row and column.
    """
    height, width = size
    side = max(STEPS, -(-max(size) // BLOCKS // STEPS) * STEPS)
    step = side // STEPS
    values = judge(step)
    rows, columns = -(-height // side), -(-width // side)
    padded = np.full((rows * STEPS, columns * STEPS), np.nan, np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    scores = np.nanmean(padded.reshape(rows, STEPS, columns, STEPS).transpose(0, 2, 1, 3).reshape(rows, columns, -1), 2)
    if painted is not None:
        scores[painted.rows // side, painted.columns // side] = -1
    order = np.argsort(-scores, axis=None, kind="stable")[:most]
    places = []
    for row, column in zip(*np.unravel_index(order, scores.shape), strict=True):
        score, y, x = float(scores[row, column]), int(row) * side, int(column) * side
        if score > 0:
            places.append(Place(x, y, min(side, width - x), min(side, height - y), min(1.0, score)))
    return places


def rank_images(
    images: Sequence[Path],
    store: TapStore,
    model: Model,
    painted: Mapping[Path, Painted],
    scale: Scale | None,
) -> list[Ranked]:
    """Return the images by what a label would teach: uncertainty, and unlikeness to the images that have paint."""
    summaries: dict[Path, Summary] = {}
    for image in images:
        summary = read_summary(store, image)
        if summary is not None:
            summaries[image] = summary
    if scale is None and summaries:
        scale = Scale.of(list(summaries.values()), store.network.channels)
    unlike = _unlikeness(summaries, painted, scale)
    typical = max(1.0, float(np.mean([len(one.rows) for one in painted.values()] or [0])))
    ranked = []
    for image in images:
        if image not in summaries:
            ranked.append(Ranked(image, 0.0, "This image was not looked at yet."))
            continue
        doubt = _doubt(summaries[image], model)
        share = len(painted[image].rows) / typical if image in painted else 0.0
        ranked.append(_judge(image, doubt, unlike[image], share, bool(painted)))
    return sorted(ranked, key=lambda one: -one.score)


def read_summary(store: TapStore, image: Path) -> Summary | None:
    """Return the summary of an image; None if its taps were not computed, or the image cannot be read."""
    try:
        return store.summary(image)
    except (OSError, FullconvError):
        return None


def _doubt(summary: Summary, model: Model) -> float:
    """Return the mean uncertainty of the pixels of a summary."""
    if not model.usable:
        return 0.0
    weight = np.concatenate([layer.weight for layer in model.layers], 1)
    bias = np.stack([layer.bias for layer in model.layers], 1)
    logits = weight @ summary.probes.values.astype(np.float32).T + bias @ summary.probes.mass.T
    return float(1 - margin(logits).mean())


def _unlikeness(
    summaries: Mapping[Path, Summary], painted: Mapping[Path, Painted], scale: Scale | None
) -> dict[Path, float]:
    """Return the distance of each image's mean features to those of the nearest painted image, 0 to 1.

    Without any paint, it is the nearness to the mean of all: a typical image is the best one to begin with.
    """
    if scale is None or not summaries:
        return {}
    names = list(summaries)
    means = np.stack([(summaries[name].mean - scale.mean) * scale.factor for name in names])
    with_paint = [index for index, name in enumerate(names) if name in painted]
    if not with_paint:
        far = np.linalg.norm(means - np.median(means, 0), axis=1)
        return dict(zip(names, (1 - far / max(1e-9, far.max())).tolist(), strict=True))
    far = np.min([np.linalg.norm(means - means[index], axis=1) for index in with_paint], 0)
    return dict(zip(names, (far / max(1e-9, far.max())).tolist(), strict=True))


def _judge(image: Path, doubt: float, unlike: float, share: float, any_paint: bool) -> Ranked:
    """Return the score and its reason; the more paint an image has, in typical amounts, the less it has to teach."""
    if not any_paint:
        return Ranked(image, unlike, "It is typical of all images, so a good one to begin with.")
    score = 0.5 * doubt + 0.5 * unlike
    if share:
        return Ranked(image, score / (1 + share), f"It has paint; the model is unsure about {doubt:.0%} of it.")
    if unlike > doubt:
        return Ranked(image, score, "It looks unlike the images that have paint.")
    return Ranked(image, score, f"The model is unsure about {doubt:.0%} of it.")
