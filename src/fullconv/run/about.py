"""What an ONNX file of fullconv says about itself, in its metadata."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError, ModelError
from fullconv.geometry import Upsampling, bilinear_kernel
from fullconv.labels import LabelSet
from fullconv.tiling import Window

__all__ = ["FORMAT_VERSION", "NOTES", "About", "Float32"]

FORMAT_VERSION = 1

NOTES: tuple[str, ...] = ("network", "recipe", "scores", "weights", "licence", "quantized")

_NAMES: tuple[str, ...] = (
    "format_version",
    "class_names",
    "palette",
    "ignore_index",
    "stride",
    "windows",
    "exact",
    "channels",
)
_NAMES += ("value_range", "upsamplings", "lead", "kernel")

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class About:
    """The description of a network in an ONNX file; every value of `to_metadata` is JSON.

    `upsamplings` (vertical, horizontal) put the file's `logits` onto pixels, and `lead` is what the image is padded by
    before it: pixel p is cell `crop + lead + p` of the transposed convolution. `kernel` is its learned one, K x K x
    rows x columns float32, from classes to classes; None is the bilinear one. `notes`, under names of `NOTES`,
    are for people: the recipe, scores with the data they were measured on, where the weights come from. The image has
    `channels`, 3 being RGB; `value_range` are the numbers in files that became 0 and 255 in training, if any were said.
    """

    labels: LabelSet
    windows: tuple[Window, Window]
    exact: bool
    stride: int
    upsamplings: tuple[Upsampling, Upsampling]
    lead: tuple[int, int] = (0, 0)
    channels: int = 3
    kernel: Float32 | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    value_range: tuple[float, float] | None = None

    def to_metadata(self) -> dict[str, str]:
        """Names and JSON values, for the file's metadata_props."""
        values: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            **self.labels.to_dict(),
            "stride": self.stride,
            "windows": [asdict(window) for window in self.windows],
            "exact": self.exact,
            "channels": self.channels,
            "value_range": self.value_range,
            "upsamplings": [{**asdict(up), "peak": str(up.peak)} for up in self.upsamplings],
            "lead": self.lead,
            **self.notes,
        }
        if self.kernel is not None:
            values["kernel"] = base64.b64encode(self.kernel.astype("<f4").tobytes()).decode()
        return {name: json.dumps(value) for name, value in values.items()}

    @classmethod
    def from_metadata(cls, texts: Mapping[str, str]) -> About:
        """The inverse of `to_metadata`; ModelError, without the file's name, for what is none."""
        if "format_version" not in texts:
            raise ModelError("it was not written by fullconv export: it does not describe its network")
        try:
            values = {name: json.loads(text) for name, text in texts.items() if name in _NAMES + NOTES}
            if values["format_version"] != FORMAT_VERSION:
                raise ModelError(f"its format is {values['format_version']}, this fullconv reads {FORMAT_VERSION}")
            return cls._read(values)
        except (ValueError, KeyError, TypeError, AttributeError, DataError) as error:
            raise ModelError(f"its description cannot be read: {error!r}") from error

    @classmethod
    def _read(cls, values: dict[str, Any]) -> About:
        labels = LabelSet.from_dict(values)
        first, second = (Upsampling(**{**up, "peak": Fraction(up["peak"])}) for up in values["upsamplings"])
        vertical, horizontal = (Window(**window) for window in values["windows"])
        kernel = None
        if "kernel" in values:
            shape = (labels.num_classes, labels.num_classes, first.kernel, second.kernel)
            kernel = np.frombuffer(base64.b64decode(values["kernel"]), "<f4").reshape(shape).astype(np.float32)
        top, left = values["lead"]
        bounds = values.get("value_range")
        return cls(
            labels,
            (vertical, horizontal),
            bool(values["exact"]),
            int(values["stride"]),
            (first, second),
            (int(top), int(left)),
            int(values["channels"]),
            kernel,
            {name: values[name] for name in NOTES if name in values},
            None if bounds is None else (float(bounds[0]), float(bounds[1])),
        )

    @property
    def start(self) -> tuple[int, int]:
        """Row and column of pixel (0, 0) in the transposed convolution of the file's logits."""
        vertical, horizontal = (up.crop + lead for up, lead in zip(self.upsamplings, self.lead, strict=True))
        return vertical, horizontal

    @cached_property
    def blocks(self) -> Float32:
        """What four cells give to a block of rows x columns pixels between them, rows and columns being the factors.

        Of the bilinear kernel, (rows * columns) x 4, the same for each class; of a learned one, (4 * K) x (rows *
        columns * K). The cells are (q - 1, r - 1), (q - 1, r), (q, r - 1) and (q, r), in that order, for the block
        whose first pixel is (q * rows, r * columns) of the transposed convolution.
        """
        rows, columns = self.upsamplings
        kernel = self.kernel
        if kernel is None:
            kernel = np.outer(bilinear_kernel(rows), bilinear_kernel(columns)).astype(np.float32)[None, None]
        room = [(0, 2 * up.factor - up.kernel) for up in self.upsamplings]
        kernel = np.pad(kernel, ((0, 0), (0, 0), *room))
        taps = kernel[:, :, np.array(rows.phases)][:, :, :, :, np.array(columns.phases)]
        sources, targets = kernel.shape[:2]  # now sources, targets, row, 2, column, 2
        if self.kernel is None:
            return np.ascontiguousarray(taps[0, 0].transpose(0, 2, 1, 3).reshape(-1, 4))
        ordered = taps.transpose(3, 5, 0, 2, 4, 1)
        return np.ascontiguousarray(ordered.reshape(4 * sources, rows.factor * columns.factor * targets))
