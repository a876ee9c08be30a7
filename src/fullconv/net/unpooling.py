"""Which poolings of a classifier can be undone on the way back to pixels, and how their indices are kept."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import fx, nn

from fullconv.errors import ModelError
from fullconv.geometry import SkipGeometry, Unpooling
from fullconv.net.surgery import Surgery
from fullconv.net.trace import Taps, layers_of

__all__ = ["Pool", "keep_indices", "poolings", "skip_geometry"]


@dataclass(frozen=True)
class Pool:
    """One max pooling of the backbone: its node, the module, its channels, and its input and output by axis."""

    node: str
    module: nn.MaxPool2d
    channels: int
    fine: Taps
    coarse: Taps

    def unpooling(self, axis: int) -> Unpooling:
        """Its inverse along one axis."""
        layers = layers_of(self.module)
        assert layers is not None
        return Unpooling(layers[axis], self.coarse[axis], self.fine[axis])


def poolings(dense: Surgery, taps: Sequence[Taps]) -> tuple[tuple[Pool, ...], ...]:
    """For each tap, the max poolings that lead from its stride towards the next tap's, or to pixels: coarse to fine.

    Where the network halves its maps by a convolution instead, the way ends there, and bilinear upsampling does the
    rest. Raises ModelError where there is not a single pooling to undo.
    """
    found = _by_stride(dense)
    strides = [tap[0].field.stride for tap in taps]
    goals = [*strides[1:], Fraction(1)]
    ways = []
    for stride, goal in zip(strides, goals, strict=True):
        way: list[Pool] = []
        while stride in found and found[stride].fine[0].field.stride >= goal:
            way.append(found[stride])
            stride = found[stride].fine[0].field.stride
        ways.append(tuple(way))
    if not any(ways):
        raise ModelError(
            f"the network has no max pooling at stride {' or '.join(str(stride) for stride in strides)} that unpooling "
            "could undo: take --upsample fixed, or a network with poolings, such as vgg16"
        )
    return tuple(ways)


def skip_geometry(taps: Sequence[Taps], pools: Sequence[Sequence[Pool]], axis: int) -> SkipGeometry:
    """The skip network along one axis."""
    unpoolings = tuple(tuple(pool.unpooling(axis) for pool in own) for own in pools)
    return SkipGeometry(tuple(tap[axis] for tap in taps), unpoolings)


def keep_indices(graph: fx.GraphModule, pools: Sequence[Pool]) -> dict[str, tuple[fx.Node, fx.Node]]:
    """Let these poolings give their indices too; for each, by name, the nodes of its map and of its indices."""
    kept = {}
    for pool in pools:
        (node,) = (node for node in graph.graph.nodes if node.name == pool.node)
        pool.module.return_indices = True
        with graph.graph.inserting_after(node):
            places = graph.graph.call_function(operator.getitem, (node, 1))
            values = graph.graph.call_function(operator.getitem, (node, 0))
        node.replace_all_uses_with(values, lambda user, own=(values, places): user not in own)
        kept[pool.node] = (values, places)
    return kept


def _by_stride(dense: Surgery) -> dict[Fraction, Pool]:
    """The last max pooling before the features that ends at each stride."""
    found: dict[Fraction, Pool] = {}
    for node in dense.module.graph.nodes:
        own = dense.nodes.get(node.name)
        if own is not None and isinstance(own.module, nn.MaxPool2d) and own.taps:
            before = dense.nodes[node.all_input_nodes[0].name].taps
            if before and own.module.dilation in (1, (1, 1)) and own.taps[0].field.stride > before[0].field.stride:
                found[own.taps[0].field.stride] = Pool(node.name, own.module, own.shape[0], before, own.taps)
        if node.name == dense.features:
            break
    return found
