"""ilastik's way of learning from strokes: a random forest on hand-made features, for `label.py`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from label_sets import GRID, Task, mean_iou
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from fullconv.arrays import Float32, Int64, UInt8
from fullconv.images import read_image

Samples = tuple[Int64, Int64, UInt8]
"""Rows, columns and classes of the painted pixels of an image."""

SIGMAS = (0.3, 0.7, 1.0, 1.6, 3.5, 5.0, 10.0)
"""ilastik's scales."""


def hand_made(path: Path) -> Float32:
    """Return ilastik's features of an image, H x W x features."""
    pixels = read_image(path).pixels.astype(np.float32)
    grey = bool((pixels == pixels[:, :, :1]).all())
    maps = []
    for channel in range(1 if grey else 3):
        image = pixels[:, :, channel]
        for sigma in SIGMAS:
            smooth = ndimage.gaussian_filter(image, sigma)
            maps += [smooth, ndimage.gaussian_laplace(image, sigma), ndimage.gaussian_gradient_magnitude(image, sigma)]
            maps.append(smooth - ndimage.gaussian_filter(image, 0.66 * sigma))
            dy, dx = (ndimage.gaussian_filter(image, sigma, order) for order in ((1, 0), (0, 1)))
            tensor = [ndimage.gaussian_filter(product, 0.5 * sigma) for product in (dy * dy, dy * dx, dx * dx)]
            second = [ndimage.gaussian_filter(image, sigma, order) for order in ((2, 0), (1, 1), (0, 2))]
            maps += [*_eigenvalues(tensor), *_eigenvalues(second)]
    return np.stack(maps, 2).astype(np.float32)


def _eigenvalues(parts: Sequence[Float32]) -> tuple[Float32, Float32]:
    """Return the eigenvalues of the symmetric matrices with the entries yy, yx and xx."""
    yy, yx, xx = parts
    mean = (yy + xx) / 2
    root = np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    return (mean + root).astype(np.float32), (mean - root).astype(np.float32)


class Forest:
    """A random forest on the features of the images."""

    def __init__(self, task: Task) -> None:
        """Compute the features of all images once."""
        self.task = task
        self.label = {one.path: hand_made(one.path) for one in task.label}
        self.held_out = [hand_made(one.path)[::GRID, ::GRID] for one in task.score]

    def score(self, painted: Sequence[tuple[Path, Samples]]) -> tuple[float, float]:
        """Return the mIoU of a forest that is trained on the strokes, and the seconds of the training."""
        inputs = np.concatenate([self.label[path][rows, columns] for path, (rows, columns, _) in painted])
        targets = np.concatenate([keys for _, (_, _, keys) in painted])
        started = time.perf_counter()
        forest = RandomForestClassifier(100, n_jobs=-1, random_state=0).fit(inputs, targets)
        seconds = time.perf_counter() - started
        predicted = [
            forest.classes_[forest.predict_proba(one.reshape(-1, one.shape[2])).argmax(1)].reshape(one.shape[:2])
            for one in self.held_out
        ]
        truths = [one.truth[::GRID, ::GRID] for one in self.task.score]
        return mean_iou(truths, predicted, len(self.task.classes)), seconds
