"""The demo's picture: image, heat map, FCN-32s, FCN-16s, FCN-8s and truth of one scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.patheffects import withStroke

from fullconv.data.digits import DIGIT_LABELS, digit_scenes
from fullconv.files import atomic_write
from fullconv.learn.demo_classifier import cell_fields, dense_map, framed
from fullconv.learn.ladder import Rung
from fullconv.net.backbones import build_classifier, input_size
from fullconv.net.runner import TorchRunner
from fullconv.net.surgery import convolutionalize
from fullconv.run.runner import label_maps

__all__ = ["draw_story"]

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float64]

SCENE = (224, 288)
SEED = 4
COLORS = np.array(DIGIT_LABELS.palette) / 255
INK, SOFT = "#1c1f26", "#69707d"


def draw_story(weights: Path, rungs: Sequence[Rung], path: Path) -> None:
    """Six panels of a held-out scene; `rungs` are those of `climb`, of which FCN-32s-fixed is left out."""
    (image,), (truth,) = digit_scenes(1, SCENE, SEED, "val")
    figure = Figure(figsize=(10, 6.15), dpi=104, facecolor="white")
    panels = _panels(figure)
    _show(panels[0], image, "Image", "digits unseen in training")
    _show_heat(panels[1], image, _heat(weights, image))
    for axes, rung in zip(panels[2:5], [rung for rung in rungs if not rung.name.endswith("-fixed")], strict=True):
        found = label_maps(TorchRunner.load(rung.folder), image[None])[0]
        _show(axes, _painted(image, found), rung.name, f"mean IU {100 * rung.result.scores.mean_iou:.1f} %")
    _show(panels[5], _painted(image, truth), "Truth", "")
    _legend(figure)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=figure.dpi, pil_kwargs={"optimize": True})


def _heat(weights: Path, image: UInt8) -> Float:
    """The classifier's probabilities, K x h x w, for the square of 32 pixels that each cell stands for."""
    dense = convolutionalize(build_classifier("digits", weights)[0].eval(), input_size("digits"))
    logits = dense_map(dense, framed(image, cell_fields(dense)))
    result: Float = torch.softmax(logits.double(), 0).numpy()
    return result


def _panels(figure: Figure) -> list[Axes]:
    width, gap, top = 0.313, 0.0155, 0.055
    height = width * SCENE[0] / SCENE[1] * figure.get_figwidth() / figure.get_figheight()
    panels = []
    for row in range(2):
        for column in range(3):
            left, bottom = gap + column * (width + gap), 1 - (row + 1) * (height + top) - row * 0.012
            panels.append(figure.add_axes((left, bottom, width, height)))
    return panels


def _show(axes: Axes, image: npt.NDArray[np.generic], title: str, note: str) -> None:
    axes.imshow(image, interpolation="nearest", extent=(0, SCENE[1], SCENE[0], 0))
    axes.set(xticks=[], yticks=[], xlim=(0, SCENE[1]), ylim=(SCENE[0], 0))
    for spine in axes.spines.values():
        spine.set(color="#c9ced6", linewidth=0.8)
    axes.text(0, 1.025, title, transform=axes.transAxes, fontsize=11.5, fontweight="bold", color=INK)
    axes.text(1, 1.025, note, transform=axes.transAxes, fontsize=9.5, color=SOFT, ha="right")


def _show_heat(axes: Axes, image: UInt8, probabilities: Float) -> None:
    """Each cell in the colour of its likeliest digit, the stronger the surer; the digit itself where it leads."""
    digits = probabilities[1:]
    best, sure = digits.argmax(0), digits.max(0)
    _show(axes, _dimmed(image), "Heat map", "the classifier, convolutional")
    cells = np.dstack([COLORS[best + 1], 0.9 * sure])
    axes.imshow(cells, interpolation="nearest", extent=(0, SCENE[1], SCENE[0], 0))
    side = SCENE[0] / best.shape[0]
    for (row, column), digit in np.ndenumerate(best):
        if sure[row, column] > probabilities[0, row, column]:
            x, y = (column + 0.5) * side, (row + 0.5) * side
            text = axes.text(x, y, str(digit), fontsize=11, fontweight="bold", color="white", ha="center", va="center")
            text.set_path_effects([withStroke(linewidth=2, foreground=INK)])


def _dimmed(image: UInt8) -> Float:
    """Dark grey, so that the colours of the classes are the only ones."""
    grey = np.round(image @ np.array([0.299, 0.587, 0.114]) / 16) / 16
    result: Float = np.array([0.09, 0.1, 0.12]) + 0.22 * grey[..., None]
    return result


def _painted(image: UInt8, label_map: UInt8) -> Float:
    result: Float = np.where((label_map > 0)[..., None], COLORS[label_map], _dimmed(image))
    return result


def _legend(figure: Figure) -> None:
    axes = figure.add_axes((0, 0, 1, 0.062))
    axes.set(xlim=(0, 10), ylim=(0, 0.38))
    axes.axis("off")
    for digit in range(10):
        x = 1.55 + 0.72 * digit
        box = FancyBboxPatch(
            (x, 0.11), 0.16, 0.14, boxstyle="round,pad=0,rounding_size=0.03", fc=COLORS[digit + 1], ec="none"
        )
        axes.add_patch(box)
        axes.text(x + 0.24, 0.175, str(digit), fontsize=10.5, color=INK, va="center")
