"""The values that flow through a traced network, and what is known of the positions in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import fx, nn

from fullconv.geometry import Field, Layer, Tap

__all__ = ["Call", "FeatureGeometry", "ValueInfo"]


class FeatureGeometry(NamedTuple):
    """The geometry of a feature map along both axes: stride, receptive field and offset of its cells."""

    vertical: Tap
    horizontal: Tap

    @property
    def fields(self) -> tuple[Field, Field]:
        """The receptive fields of the cells: vertical, horizontal."""
        return self.vertical.field, self.horizontal.field

    def after(self, layers: tuple[Layer, Layer]) -> FeatureGeometry:
        """Return the geometry of the output of `layers` (vertical, horizontal) on this map."""
        return FeatureGeometry(self.vertical.after(layers[0]), self.horizontal.after(layers[1]))


@dataclass(frozen=True)
class ValueInfo:
    """What is known of one value.

    A `constant` value does not depend on the image. A `spatial` value has rows and columns: `axes` are their
    dimensions, counted from the last (-1), and `geometry` is that of its cells. A `global` value depends on the image
    but has no positions, such as the result of global pooling. An `unsupported` value cannot be traced to image
    positions: `reason` says why, and `code` is the code of the error.

    `context` names the operations at which global values, or cells at the opposite border, entered a map.
    `needs_multiple` is true where branches met whose sizes agree for some image sizes only.
    """

    kind: Literal["constant", "spatial", "global", "unsupported"] = "constant"
    geometry: FeatureGeometry | None = None
    axes: tuple[int, int] = (-2, -1)
    context: frozenset[str] = frozenset()
    needs_multiple: bool = False
    reason: str = ""
    code: str = ""


@dataclass(frozen=True)
class Call:
    """One operation with its inputs and its result.

    `args` and `kwargs` are the node's arguments with each node replaced by its value; `infos` and `values` hold what
    is known of all nodes so far, and their values on the meta device.
    """

    node: fx.Node
    kind: str
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    infos: dict[fx.Node, ValueInfo]
    values: dict[fx.Node, Any]

    def arg(self, index: int, name: str, default: Any = None) -> Any:
        """Return an argument by its position or name."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)

    @property
    def first(self) -> fx.Node:
        """The node that the operation works on."""
        return self.node.all_input_nodes[0]

    @property
    def source(self) -> Any:
        """The value that the operation works on."""
        return self.values[self.first]

    @property
    def info(self) -> ValueInfo:
        """What is known of the value that the operation works on."""
        return self.infos[self.first]

    @property
    def label(self) -> str:
        """The name of the operation for messages."""
        module = f" ({type(self.module).__name__})" if self.module is not None else ""
        return f"{self.node.target if self.module is not None else self.node.name}{module}"
