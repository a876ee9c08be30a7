"""The picture of the demo: image, heat map, FCN-32s, FCN-16s, FCN-8s and ground truth of one scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from fullconv.arrays import Float64, UInt8
from fullconv.demo.classifier import add_frame, compute_dense_map, find_cell_fields
from fullconv.demo.digits import DIGIT_LABELS, make_digit_scenes
from fullconv.files import atomic_write
from fullconv.net.classifiers.backbones import build_classifier, input_size
from fullconv.net.surgery.convolutionalize import convolutionalize
from fullconv.net.torch_runner import TorchRunner
from fullconv.runtime.runner import label_maps
from fullconv.training.ladder import Rung

__all__ = ["draw_story"]

SCENE = (224, 288)
SEED = 4
COLORS = np.array(DIGIT_LABELS.palette) / 255
INK, SOFT, LINE = "#1c1f26", "#69707d", "#c9ced6"

SIZE, PANEL = (1040, 639), (324, 252)
GAP, TITLE, ROW = 17, 34, 296
"""Pixels between panels, above the first row for titles, and between the tops of rows."""

FINE = 4
"""The picture is drawn this many times larger and then reduced, which smooths text and edges."""


def draw_story(weights: Path, rungs: Sequence[Rung], path: Path) -> None:
    """Draw six panels of a held-out scene. `weights` are the classifier's; FCN-32s-fixed of the `rungs` is omitted."""
    (image,), (truth,) = make_digit_scenes(1, SCENE, SEED, "val")
    story = _Story()
    story.panel(0, image, "Image", "digits not used in training")
    story.heat_map(1, image, _compute_heat(weights, image))
    for number, rung in enumerate((rung for rung in rungs if not rung.name.endswith("-fixed")), start=2):
        prediction = label_maps(TorchRunner.load(rung.folder), image[None])[0]
        score = f"mIoU {100 * rung.result.scores.mean_iou:.1f} %"
        story.panel(number, _paint_labels(image, prediction), rung.name, score)
    story.panel(5, _paint_labels(image, truth), "Ground truth", "")
    story.legend()
    with atomic_write(path) as temporary:
        story.canvas.resize(SIZE, Image.Resampling.LANCZOS).save(temporary, optimize=True)


def _compute_heat(weights: Path, image: UInt8) -> Float64:
    """Return the probabilities of the classifier, K x h x w, one cell per square of 32 pixels."""
    dense = convolutionalize(build_classifier("digits", weights)[0].eval(), input_size("digits"))
    logits = compute_dense_map(dense, add_frame(image, find_cell_fields(dense)))
    result: Float64 = torch.softmax(logits.double(), 0).numpy()
    return result


class _Story:
    """The canvas, `FINE` times as large as the picture. All arguments of the methods are in pixels of the picture."""

    def __init__(self) -> None:
        self.canvas = Image.new("RGB", (SIZE[0] * FINE, SIZE[1] * FINE), "white")
        self.draw = ImageDraw.Draw(self.canvas)

    def panel(self, number: int, image: UInt8, title: str, note: str) -> tuple[int, int]:
        """Draw an image with its title on the left and a note on the right; return its upper left corner."""
        left, top = GAP + number % 3 * (PANEL[0] + GAP), TITLE + number // 3 * ROW
        large = Image.fromarray(image).resize((PANEL[0] * FINE, PANEL[1] * FINE), Image.Resampling.NEAREST)
        self.canvas.paste(large, (left * FINE, top * FINE))
        box = (left - 1, top - 1, left + PANEL[0] + 1, top + PANEL[1] + 1)
        self.draw.rectangle([edge * FINE for edge in box], outline=LINE, width=FINE)
        self.text(left, top - 9, title, 17, INK, "ls", bold=1)
        self.text(left + PANEL[0], top - 9, note, 14, SOFT, "rs")
        return left, top

    def heat_map(self, number: int, image: UInt8, probabilities: Float64) -> None:
        """Draw each cell in the colour of its most likely digit, blended by its probability.

        Write the digit if it is more likely than the background.
        """
        digits = probabilities[1:]
        best, probability = digits.argmax(0), digits.max(0)
        cells = np.stack([COLORS[best + 1], np.broadcast_to(0.9 * probability[..., None], (*probability.shape, 3))])
        side = SCENE[0] // best.shape[0]
        color, share = cells.repeat(side, 1).repeat(side, 2)[:, : SCENE[0], : SCENE[1]]
        blended = share * color + (1 - share) * (_dim(image) / 255)
        left, top = self.panel(number, _to_bytes(blended), "Heat map", "the classifier, convolutional")
        pitch = side * PANEL[0] / SCENE[1]
        for (row, column), digit in np.ndenumerate(best):
            if probability[row, column] > probabilities[0, row, column]:
                x, y = left + (column + 0.5) * pitch, top + (row + 0.5) * pitch
                self.text(x, y, str(digit), 17, INK, "mm", bold=7)
                self.text(x, y, str(digit), 17, "white", "mm", bold=2)

    def legend(self) -> None:
        """Draw the ten colours with their digits along the lower edge."""
        step, side, y = 75, 15, SIZE[1] - 19
        first = (SIZE[0] - 9 * step - 30) // 2
        for digit in range(10):
            x = first + digit * step
            box = [edge * FINE for edge in (x, y - side // 2, x + side, y - side // 2 + side)]
            self.draw.rounded_rectangle(box, 3 * FINE, fill=DIGIT_LABELS.palette[digit + 1])
            self.text(x + side + 8, y, str(digit), 15, INK, "lm")

    def text(self, x: float, y: float, text: str, size: int, color: str, anchor: str, bold: int = 0) -> None:
        """Write text at (x, y), relative to it as Pillow's `anchor` says. `bold` is in pixels of the canvas."""
        font = ImageFont.load_default(size * FINE)
        self.draw.text((x * FINE, y * FINE), text, color, font, anchor, stroke_width=bold, stroke_fill=color)


def _dim(image: UInt8) -> UInt8:
    """Return the image in dark grey, so only the classes have colours."""
    grey = np.round(image @ np.array([0.299, 0.587, 0.114]) / 16) / 16
    return _to_bytes(np.array([0.09, 0.1, 0.12]) + 0.22 * grey[..., None])


def _paint_labels(image: UInt8, label_map: UInt8) -> UInt8:
    colors = np.array(DIGIT_LABELS.palette, np.uint8)[label_map]
    return np.where((label_map > 0)[..., None], colors, _dim(image)).astype(np.uint8)


def _to_bytes(shares: Float64) -> UInt8:
    return np.round(255 * shares.clip(0, 1)).astype(np.uint8)
