"""The description of a network in the metadata of an ONNX file that fullconv wrote."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from math import isfinite
from typing import Any

import numpy as np

from fullconv.arrays import Float32
from fullconv.documents import parse_json
from fullconv.errors import ModelError
from fullconv.files import StrPath
from fullconv.forks import lazy_property
from fullconv.geometry import Upsampling, bilinear_kernel
from fullconv.geometry.tiles import Window
from fullconv.images.input_format import InputFormat
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo

__all__ = ["FORMAT_VERSION", "NOTES", "ModelMetadata"]

FORMAT_VERSION = 1

MAX_NUMBER, MAX_FACTOR, MAX_PADDING = 10**6, 1024, 1024
"""The largest number of a description, factor of its last upsampling, and padding before the image."""

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
    "value_range",
    "upsamplings",
    "lead",
    "kernel",
)


@dataclass(frozen=True)
class ModelMetadata:
    """The description of a network in an ONNX file; every value of `to_metadata` is JSON.

    `stride` is the prediction stride. `upsamplings` (vertical, horizontal) map the file's `logits` to pixels, and
    `lead` is the padding before the image: pixel p is cell `crop + lead + p` of the transposed convolution. `kernel` is
    its learned kernel, K x K x rows x columns float32, from classes to classes; None means the bilinear kernel.
    `notes`, under the names in `NOTES`, are for people: the recipe, the scores and the data of their measurement, the
    source of the weights.

    Raises ValueError for values that describe no network.
    """

    info: ModelInfo
    stride: int
    upsamplings: tuple[Upsampling, Upsampling]
    lead: tuple[int, int] = (0, 0)
    kernel: Float32 | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values."""
        if self.stride < 1 or self.info.input.channels < 1 or min(self.lead) < 0:
            raise ValueError(f"stride {self.stride}, {self.info.input.channels} channels, lead {self.lead}")
        for window in self.info.windows:
            if min(window.before, window.after) < 0 or window.period < 1:
                raise ValueError(f"a pixel cannot depend on {window}")
        for upsampling in self.upsamplings:
            if not 1 <= upsampling.factor <= MAX_FACTOR:
                raise ValueError(f"the factor of an upsampling is {upsampling.factor}")
            if not 1 <= upsampling.kernel <= 2 * upsampling.factor:
                raise ValueError(
                    f"an upsampling by {upsampling.factor} has a kernel of 1 to {2 * upsampling.factor} cells"
                )
        for start, upsampling in zip(self.start, self.upsamplings, strict=True):
            if not 0 <= start <= 4 * upsampling.factor + MAX_PADDING:
                raise ValueError(f"the first pixel is at {start} of the upsampled logits")

    def to_metadata(self) -> dict[str, str]:
        """Return names and JSON values, for the file's metadata_props."""
        info = self.info
        values: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            **info.labels.to_dict(),
            "stride": self.stride,
            "windows": [asdict(window) for window in info.windows],
            "exact": info.exact,
            "channels": info.input.channels,
            "value_range": info.input.value_range,
            "upsamplings": [{**asdict(up), "peak": str(up.peak)} for up in self.upsamplings],
            "lead": self.lead,
            **self.notes,
        }
        if self.kernel is not None:
            values["kernel"] = base64.b64encode(self.kernel.astype("<f4").tobytes()).decode()
        return {name: json.dumps(value) for name, value in values.items()}

    @classmethod
    def from_metadata(cls, path: StrPath, texts: Mapping[str, str]) -> ModelMetadata:
        """Read the names and values that `to_metadata` wrote; other names are ignored.

        Older files of format 1 have no `value_range`: it is None. Raises ModelError, which names the file `path`, for
        values that fullconv did not write.
        """
        if "format_version" not in texts:
            raise ModelError(
                f"{path} was not written by fullconv export: it does not describe its network; export the model again",
                code="foreign-onnx",
            )
        try:
            values = {name: parse_json(text) for name, text in texts.items() if name in _NAMES + NOTES}
            if _whole(values["format_version"]) != FORMAT_VERSION:
                raise ModelError(
                    f"{path} has format {values['format_version']}, but this version of fullconv reads format "
                    f"{FORMAT_VERSION}; export the model again with this version",
                    code="onnx-format-version",
                )
            return cls._read(values)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ModelError(
                f"{path} has a description that cannot be read ({reason}); export the model again",
                code="damaged-metadata",
            ) from error

    @classmethod
    def _read(cls, values: dict[str, Any]) -> ModelMetadata:
        labels = LabelSet.from_dict(values)
        rows, columns = (_read_upsampling(entry) for entry in values["upsamplings"])
        vertical, horizontal = (Window(**_whole_numbers(entry)) for entry in values["windows"])
        top, left = values["lead"]
        bounds, exact = values.get("value_range"), values["exact"]
        if not isinstance(exact, bool):
            raise ValueError("exact is neither true nor false")
        value_range = None if bounds is None else _read_range(bounds)
        kernel = None
        if "kernel" in values:
            shape = (labels.num_classes, labels.num_classes, rows.kernel, columns.kernel)
            kernel = np.frombuffer(base64.b64decode(values["kernel"]), "<f4").reshape(shape).astype(np.float32)
        return cls(
            ModelInfo(labels, (vertical, horizontal), exact, InputFormat(_whole(values["channels"]), value_range)),
            _whole(values["stride"]),
            (rows, columns),
            (_whole(top), _whole(left)),
            kernel,
            {name: values[name] for name in NOTES if name in values},
        )

    @property
    def start(self) -> tuple[int, int]:
        """Row and column of pixel (0, 0) in the transposed convolution of the file's logits."""
        vertical, horizontal = (up.crop + lead for up, lead in zip(self.upsamplings, self.lead, strict=True))
        return vertical, horizontal

    @lazy_property
    def blocks(self) -> Float32:
        """The weights from four cells to the block of rows x columns pixels between them.

        `rows` and `columns` are the factors of `upsamplings`. The shape is (rows * columns) x 4 for the bilinear
        kernel, which is the same for each class, and (4 * K) x (rows * columns * K) for a learned kernel. The cells are
        (q - 1, r - 1), (q - 1, r), (q, r - 1) and (q, r), in that order, for the block whose first pixel is
        (q * rows, r * columns) of the transposed convolution.
        """
        rows, columns = self.upsamplings
        kernel = self.kernel
        if kernel is None:
            kernel = np.outer(bilinear_kernel(rows), bilinear_kernel(columns)).astype(np.float32)[None, None]
        padding = [(0, 2 * up.factor - up.kernel) for up in self.upsamplings]
        kernel = np.pad(kernel, ((0, 0), (0, 0), *padding))
        taps = kernel[:, :, np.array(rows.phases)][:, :, :, :, np.array(columns.phases)]
        sources, targets = kernel.shape[:2]  # now sources, targets, row, 2, column, 2
        if self.kernel is None:
            return np.ascontiguousarray(taps[0, 0].transpose(0, 2, 1, 3).reshape(-1, 4))
        ordered = taps.transpose(3, 5, 0, 2, 4, 1)
        return np.ascontiguousarray(ordered.reshape(4 * sources, rows.factor * columns.factor * targets))


def _read_upsampling(entry: dict[str, Any]) -> Upsampling:
    numbers = dict(entry)
    peak = _read_peak(numbers.pop("peak"))
    return Upsampling(peak=peak, **_whole_numbers(numbers))


def _read_peak(text: object) -> Fraction:
    """Return the number in "7" or "7/2"; no other form is written, and some would take for ever to compute."""
    match = re.fullmatch(r"(-?\d{1,6})(?:/(\d{1,6}))?", text) if isinstance(text, str) else None
    if match is None or (match[2] is not None and int(match[2]) == 0):
        raise ValueError("peak is not a number such as 7/2")
    return Fraction(int(match[1]), int(match[2] or 1))


def _read_range(bounds: object) -> tuple[float, float]:
    if isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(n, int | float) for n in bounds):
        low, high = map(float, bounds)
        if isfinite(low) and isfinite(high) and low < high:
            return low, high
    raise ValueError("value_range is not two numbers, the smaller one first")


def _whole_numbers(entry: dict[str, Any]) -> dict[str, int]:
    return {name: _whole(value) for name, value in entry.items()}


def _whole(value: object) -> int:
    """Return a JSON number without a fraction; ValueError for anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("a number is not whole")
    if abs(value) > MAX_NUMBER:
        raise ValueError("a number is too large")
    return value
