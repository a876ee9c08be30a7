"""The description of a network, in plain values for a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Annotated, Any, Literal, Required, cast

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from fullconv.choices import ActivationName, DecoderName, Dilation, LateLayers, PaddingMode, Stride, UpsampleMode
from fullconv.documents import describe_errors
from fullconv.errors import UsageError
from fullconv.images.input_format import InputFormat

__all__ = ["NetSpec"]


@dataclass(frozen=True)
class NetSpec:
    """All values that are needed to build a network again before its weights are loaded.

    `head_width` replaces the width of the classifier's hidden layers; None keeps it (VGG16: fc6 and fc7 with 4096
    channels). `norm` adds batch norm before the score layers of the skips, and `head_norm` after the head's layers,
    which layers that start from random weights need. `fixed` marks FCN-32s-fixed, where only the score layer is
    trained. `at_once` scales the skips as the published at-once training does, instead of batch norm. `padding` is
    minimal (the output just covers the image), or that of the published nets (`reference_padding`). `dilate` is the
    stride at which the backbone's maps stay (`dilate.dilate`), no finer than the prediction stride; None keeps the
    classifier's strides. `channels` is the number of image channels, 3 for RGB (`input_channels`). `value_range` are
    the numbers in files that became 0 and 255; None where files hold bytes or the rules of `read_image` apply.
    `decoder` is the paper's, or `refined` (see `refined.RefinedDecoder`) with `decoder_width` channels and, with
    `context`, dilated convolutions on the coarsest map. `late` decides whether the last 1 x 1 convolution before the
    classifier's pooling stays (`late.py`). `activation` relu means that ReLU6 became ReLU (`surgery/activations.py`).
    `code_sha256` is the hash of the file whose function builds the classifier; None for other classifiers.
    """

    model: str
    num_classes: int
    stride: int = 8
    head_width: int | None = None
    norm: bool = True
    head_norm: bool = False
    upsample: UpsampleMode = "fixed"
    fixed: bool = False
    at_once: bool = False
    padding: PaddingMode = "minimal"
    dilate: int | None = None
    channels: int = 3
    value_range: tuple[float, float] | None = None
    code_sha256: str | None = None
    decoder: DecoderName = "paper"
    decoder_width: int = 64
    context: bool = False
    late: LateLayers = "keep"
    activation: ActivationName = "keep"

    @property
    def name(self) -> str:
        """The name as in the paper's tables, such as FCN-32s-fixed or FCN-8s; FCN-8s-dilated-16 if dilated."""
        refined = "-refined" if self.decoder == "refined" else ""
        dilated = f"-dilated-{self.dilate}" if self.dilate else ""
        return f"FCN-{self.stride}s{refined}{dilated}{'-fixed' if self.fixed else ''}"

    @property
    def input(self) -> InputFormat:
        """The format of the images."""
        return InputFormat(self.channels, self.value_range)

    def check(self) -> None:
        """Raise UsageError for values that exclude each other, and for another number of classes than 1 to 255."""
        if not isinstance(self.num_classes, Integral) or not 1 <= self.num_classes <= 255:
            message = f"num_classes is {self.num_classes!r}; it must be a whole number from 1 to 255"
            raise UsageError(message, code="invalid-class-count")
        if self.decoder == "refined" and (self.upsample != "fixed" or self.at_once):
            other = "--recipe paper" if self.at_once else f"--upsample {self.upsample}"
            message = f"the refined decoder is trained without {other}; leave out one of the two"
            raise UsageError(message, code="refined-decoder-differs")
        if self.decoder == "paper" and self.context:
            message = "--context belongs to the refined decoder; add --decoder refined"
            raise UsageError(message, code="context-needs-refined")
        if self.late != "keep" and self.head_width is not None:
            message = f"--late {self.late} leaves no hidden layer, whose width --head-width sets; leave out one"
            raise UsageError(message, code="no-hidden-layer")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and YAML."""
        values = {**asdict(self), "value_range": None if self.value_range is None else list(self.value_range)}
        return {name: value for name, value in values.items() if name != "code_sha256" or value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetSpec:
        """Return the description that `to_dict` wrote, also after JSON; values that older files lack get their default.

        Raises ValueError for unknown names and for values that describe no network.
        """
        try:
            checked = _FILE.validate_python(values)
        except ValidationError as error:
            raise ValueError(describe_errors(error, "spec")) from None
        bounds = checked.get("value_range")
        if bounds is not None and bounds[0] >= bounds[1]:
            raise ValueError("value_range: the first number must be less than the second")
        return cls(**cast("dict[str, Any]", checked))


class _SpecFile(TypedDict, total=False):
    """The values of a `NetSpec` in a file."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]

    model: Required[Annotated[str, Field(min_length=1, max_length=4096)]]
    num_classes: Required[Annotated[int, Field(ge=1, le=255)]]
    stride: Stride
    head_width: Annotated[int, Field(ge=1, le=2**17)] | None
    norm: bool
    head_norm: bool
    upsample: UpsampleMode
    fixed: bool
    at_once: bool
    padding: PaddingMode
    dilate: Literal[32] | Dilation | None
    channels: Annotated[int, Field(ge=1, le=2**16)]
    value_range: Annotated[tuple[FiniteFloat, FiniteFloat], Field(strict=False)] | None
    code_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    decoder: DecoderName
    decoder_width: Annotated[int, Field(ge=1, le=2**12)]
    context: bool
    late: LateLayers
    activation: ActivationName


_FILE = TypeAdapter(_SpecFile)
