"""The pictures of a run: curves, and a sheet of images with truth and prediction."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from fullconv.data.dataset import DataSet
from fullconv.files import atomic_write
from fullconv.images import overlay, rgb_view, write_image
from fullconv.labels import LabelSet
from fullconv.run.runner import Runner, label_maps

__all__ = ["draw_curves", "draw_ladder", "draw_sheet"]

UInt8 = npt.NDArray[np.uint8]


def draw_curves(table: Path, path: Path) -> None:
    """Loss and the four scores over epochs, from metrics.csv."""
    rows = _rows(table)
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, score = figure.subplots(1, 2)
    loss.plot(epochs, [row["train_loss"] for row in rows], marker=".")
    loss.set(xlabel="epoch", ylabel="training loss")
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou"):
        score.plot(epochs, [100 * row[name] for row in rows], marker=".", label=name.replace("_", " "))
    score.set(xlabel="epoch", ylabel="validation, %")
    score.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, fontsize="small", frameon=False)
    for axes in (loss, score):
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save(figure, path)


def draw_ladder(tables: Mapping[str, Path], path: Path) -> None:
    """Mean IU over the epochs of runs that follow each other, from their metrics.csv by name."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    start = 0.0
    for name, table in tables.items():
        rows = _rows(table)
        axes.plot(
            [start + row["epoch"] for row in rows], [100 * row["mean_iou"] for row in rows], marker=".", label=name
        )
        start += rows[-1]["epoch"]
        axes.axvline(start, color="0.85", lw=0.8, zorder=0)
    axes.set(xlabel="epoch", ylabel="mean IU on the validation images, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", fontsize="small")
    axes.grid(alpha=0.3, axis="y")
    _save(figure, path)


def _rows(table: Path) -> list[dict[str, float]]:
    with table.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def draw_sheet(runner: Runner, dataset: DataSet, split: str, path: Path, rows: int = 6, height: int = 180) -> None:
    """Image, truth and prediction side by side for `rows` images spread over the split, colours named below."""
    samples = dataset.split(split)
    picks = np.linspace(0, len(samples) - 1, min(rows, len(samples))).round().astype(int)
    strips = []
    for index in picks:
        image, target = dataset.read(samples[index])
        prediction, image = label_maps(runner, image[None])[0], rgb_view(image)
        truth = overlay(image, target, dataset.labels, 0.75)
        strips.append(_strip([image, truth, overlay(image, prediction, dataset.labels, 0.75)], height))
    width = max(strip.shape[1] for strip in strips)
    write_image(path, _stack([_header(width), *strips, _legend(dataset.labels, width)]))


def _strip(images: Sequence[UInt8], height: int) -> UInt8:
    scaled = []
    for image in images:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        scaled.append(np.pad(np.asarray(picture), ((0, 4), (0, 4), (0, 0)), constant_values=255))
    return np.concatenate(scaled, axis=1)


def _stack(strips: Sequence[UInt8]) -> UInt8:
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    return np.concatenate(padded)


def _header(width: int) -> UInt8:
    """The names of the three columns."""
    figure, axes = _blank(width, 0.28, (3, 1))
    for column, name in enumerate(("image", "truth", "prediction")):
        axes.text(column + 0.5, 0.5, name, fontsize=9, ha="center", va="center")
    return _pixels(figure)


def _legend(labels: LabelSet, width: int) -> UInt8:
    """Rows of colour patches with their names."""
    columns = max(1, width // 110)
    rows = -(-labels.num_classes // columns)
    figure, axes = _blank(width, 0.24 * rows + 0.1, (columns, rows))
    for index, (name, color) in enumerate(zip(labels.class_names, labels.palette, strict=True)):
        x, y = index % columns, index // columns
        axes.add_patch(Rectangle((x + 0.05, y + 0.25), 0.15, 0.6, fc=[c / 255 for c in color], ec="0.4", lw=0.5))
        axes.text(x + 0.24, y + 0.55, name, fontsize=8, va="center")
    return _pixels(figure)


def _blank(width: int, inches: float, cells: tuple[int, int]) -> tuple[Figure, Axes]:
    """An empty strip of `width` pixels whose coordinates run over `cells` (columns, rows) from the top left."""
    figure = Figure(figsize=(width / 100, inches), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, cells[0]), ylim=(cells[1], 0))
    axes.axis("off")
    return figure, axes


def _pixels(figure: Figure) -> UInt8:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
