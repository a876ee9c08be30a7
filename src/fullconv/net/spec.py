"""What a network is, in plain values that a file can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fullconv.choices import PaddingMode, UpsampleMode

__all__ = ["NetSpec"]


@dataclass(frozen=True)
class NetSpec:
    """All it takes to build a network again before its weights are loaded.

    `head_width` None keeps the classifier's own hidden layers (VGG16: fc6 and fc7 with 4096 channels). `norm`
    puts batch norm on the taps, `head_norm` on the head's layers: layers that start from scratch need it.
    `fixed` marks FCN-32s-fixed, where only the score layer learns. `at_once` scales the taps as the published
    at-once training does, in place of batch norm. `padding` is the least with which the output covers the image,
    or that of the published nets (see `padding.reference_padding`). `dilate` is the stride at which the backbone's
    maps stay (`dilate.dilate`), no finer than the prediction stride; None keeps the classifier's own strides.
    `channels` are those of the image, 3 being RGB (`widen.widened`); `value_range` the numbers in files that became
    0 and 255, None where they are bytes or the rules of `read_image` were enough.
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

    @property
    def name(self) -> str:
        """As in the paper's table: FCN-32s-fixed, FCN-32s, FCN-16s, FCN-8s; FCN-8s-dilated-16 and the like."""
        dilated = f"-dilated-{self.dilate}" if self.dilate else ""
        return f"FCN-{self.stride}s{dilated}{'-fixed' if self.fixed else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        return {**asdict(self), "value_range": None if self.value_range is None else list(self.value_range)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetSpec:
        """The inverse of `to_dict`, also behind JSON; what older files lack had no other value then than the default.

        TypeError for names that it does not have.
        """
        bounds = values.get("value_range")
        return cls(**{**values, "value_range": None if bounds is None else (float(bounds[0]), float(bounds[1]))})
