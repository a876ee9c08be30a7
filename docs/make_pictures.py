"""Draw the pictures of docs/slides.md, with the numbers that the code itself computes.

python docs/make_pictures.py
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional

from fullconv.files import atomic_write
from fullconv.geometry import Field, aligned_crop, bilinear_kernel
from fullconv.net.fcn.upsample import Upsample

IMAGES = Path(__file__).with_name("images")
INK, SOFT, LINE = "#1c1f26", "#69707d", "#c9ced6"
HUES = ("#2a78d6", "#d9722b", "#2f9e6e", "#8a5bc7")

Float = npt.NDArray[np.float64]

RESNET_LIKE = aligned_crop(Field(2, ((0, 0),), Fraction(0)), Field())
"""Upsampling by 2 where coarse cells lie on fine ones: a kernel of 3."""


def main() -> None:
    """Write every picture."""
    for name, figure in (("slides-flow", flow()), ("slides-ways", ways())):
        with atomic_write(IMAGES / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=110, facecolor="white", pil_kwargs={"optimize": True})


def flow() -> Figure:
    """Data and error of a transposed convolution, kernel 3, stride 2: each cell's share, and the sum."""
    taps = torch.tensor(bilinear_kernel(RESNET_LIKE), dtype=torch.float64)
    kernel = torch.outer(taps, taps)[None, None]
    coarse = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)[None, None].requires_grad_()
    out = functional.conv_transpose2d(coarse, kernel, stride=2)
    error = torch.arange(25, dtype=torch.float64).remainder(4).view(1, 1, 5, 5)
    (back,) = torch.autograd.grad(out, coarse, error)
    assert torch.equal(back, functional.conv2d(error, kernel, stride=2))
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    axes = figure.subplots(2, 6, width_ratios=[3, 5, 5, 5, 5, 5])
    _cells(axes[0, 0], _plain(coarse), "input 2 x 2", fills=dict(zip(_corners(1), HUES, strict=True)))
    for panel, hue, (row, column) in zip(axes[0, 1:5], HUES, _corners(1), strict=True):
        share = torch.zeros_like(out)
        share[..., 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] = coarse[0, 0, row, column] * kernel[0, 0]
        _cells(panel, _plain(share), f"{coarse[0, 0, row, column]:.0f} x kernel", window=(2 * row, 2 * column, hue))
    _cells(axes[0, 5], _plain(out), "their sum: output 5 x 5")
    _cells(axes[1, 0], _plain(back), "error of the input", fills=dict(zip(_corners(1), HUES, strict=True)))
    for panel, hue, (row, column) in zip(axes[1, 1:5], HUES, _corners(1), strict=True):
        seen = torch.zeros_like(error)
        rows, columns = slice(2 * row, 2 * row + 3), slice(2 * column, 2 * column + 3)
        seen[..., rows, columns] = error[..., rows, columns] * kernel[0, 0]
        title = f"error x kernel, sum {seen.sum():g}"
        _cells(panel, _plain(seen), title, window=(2 * row, 2 * column, hue))
    _cells(axes[1, 5], _plain(error), "error of the output")
    figure.suptitle(
        "Data: each input cell puts a kernel, 2 cells from the next one's, into the output.   "
        "Error: the same kernel slides over the output's error with stride 2.",
        fontsize=10.5, color=INK, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def ways() -> Figure:
    """One score map of 4 x 4 brought to 16 x 16 in four ways."""
    torch.manual_seed(3)
    image = torch.rand(1, 1, 16, 16)
    score = functional.avg_pool2d(functional.interpolate(torch.rand(1, 1, 3, 3), (16, 16), mode="bicubic"), 4)
    places = functional.max_pool2d(image, 4, return_indices=True)[1]
    axis = aligned_crop(Field(4, ((0, 0),), Fraction(3, 2)), Field())
    learned = Upsample(1, axis, axis, "learned")
    with torch.no_grad():
        learned.weight.add_(torch.randn_like(learned.weight), alpha=0.12)
    found = {
        "score map 4 x 4": score,
        "fixed: bilinear kernel": Upsample(1, axis, axis)(score, (16, 16)),
        "learned: any kernel": learned(score, (16, 16)).detach(),
        "unpool: to the maxima's places": functional.max_unpool2d(score, places, [4, 4]),
        "resize: borders repeated": Upsample(1, axis, axis, "resize")(score, (16, 16)),
    }
    figure = Figure(figsize=(11, 2.7), layout="constrained")
    low, high = 0.0, float(score.max())
    for panel, (title, values) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        panel.imshow(values[0, 0].numpy(), cmap="Blues", vmin=low, vmax=high, interpolation="nearest")
        _bare(panel, title)
    return figure


def _corners(last: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(last + 1) for column in range(last + 1)]


def _cells(
    axes: Axes,
    values: Float,
    title: str,
    fills: dict[tuple[int, int], str] | None = None,
    window: tuple[int, int, str] | None = None,
) -> None:
    """A grid of numbers; a `window` of 3 x 3 is framed and all else left empty."""
    rows, columns = values.shape
    for row, column in np.ndindex(rows, columns):
        inside = window is None or (0 <= row - window[0] < 3 and 0 <= column - window[1] < 3)
        hue = (fills or {}).get((row, column)) or (window[2] if window and inside else None)
        face = (*_rgb(hue), 0.16) if hue else "white"
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor=LINE, linewidth=0.8))
        if inside:
            text = f"{values[row, column]:g}"
            axes.text(column + 0.5, row + 0.52, text, ha="center", va="center", fontsize=7.5, color=INK)
    if window:
        frame = Rectangle((window[1], window[0]), 3, 3, fill=False, edgecolor=window[2], linewidth=1.8)
        axes.add_patch(frame)
    axes.set_xlim(-0.05, columns + 0.05)
    axes.set_ylim(rows + 0.05, -0.05)
    axes.set_aspect("equal")
    _bare(axes, title)


def _bare(axes: Axes, title: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=8.5, color=SOFT)


def _rgb(hue: str) -> tuple[float, float, float]:
    red, green, blue = (int(hue[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _plain(values: Tensor) -> Float:
    result: Float = values.detach()[0, 0].numpy()
    return result


if __name__ == "__main__":
    main()
