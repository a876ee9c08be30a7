"""Find the poolings of a classifier that unpooling can undo, and make them return their indices."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import fx, nn

from fullconv.errors import ModelError
from fullconv.geometry import Layer, SkipGeometry, Unpooling
from fullconv.net.surgery.convolutionalize import Surgery
from fullconv.net.trace.layers import layers_of_module
from fullconv.net.trace.values import FeatureGeometry

__all__ = ["Pool", "find_poolings", "make_skip_geometry", "return_indices"]


@dataclass(frozen=True)
class Pool:
    """One max pooling of the backbone: its node, module and channels, and the geometry of its input and output."""

    node: str
    module: nn.MaxPool2d
    channels: int
    fine: FeatureGeometry
    coarse: FeatureGeometry

    def unpooling(self, axis: int) -> Unpooling:
        """Return the inverse along one axis."""
        layers = layers_of_module(self.module)
        assert layers is not None
        return Unpooling(layers[axis], self.coarse[axis], self.fine[axis])


def find_poolings(dense: Surgery, maps: Sequence[FeatureGeometry]) -> tuple[tuple[Pool, ...], ...]:
    """Return, for each map that is scored, the max poolings from its stride down to the next map's, or to pixels.

    `maps` are from coarse to fine, and so are the poolings. Where the network halves its maps by a convolution
    instead, the list ends there, and bilinear upsampling does the rest. Raises ModelError where there is no pooling
    at all.
    """
    pools = _last_pools_by_stride(dense)
    strides = [geometry.vertical.field.stride for geometry in maps]
    goals = [*strides[1:], Fraction(1)]
    by_map = []
    for stride, goal in zip(strides, goals, strict=True):
        undone: list[Pool] = []
        while stride in pools and pools[stride].fine.vertical.field.stride >= goal:
            undone.append(pools[stride])
            stride = pools[stride].fine.vertical.field.stride
        by_map.append(tuple(undone))
    if not any(by_map):
        raise ModelError(
            f"unpooling needs max pooling, and the network has none at stride "
            f"{' or '.join(str(stride) for stride in strides)}; use --upsample fixed or a network such as vgg16",
            code="no-max-pooling",
        )
    return tuple(by_map)


def make_skip_geometry(
    maps: Sequence[FeatureGeometry], pools: Sequence[Sequence[Pool]], axis: int, refinement: Layer | None = None
) -> SkipGeometry:
    """Return the geometry of the skip network along one axis."""
    unpoolings = tuple(tuple(pool.unpooling(axis) for pool in undone) for undone in pools)
    return SkipGeometry(tuple(geometry[axis] for geometry in maps), unpoolings, refinement)


def return_indices(graph: fx.GraphModule, pools: Sequence[Pool]) -> dict[str, tuple[fx.Node, fx.Node]]:
    """Make these poolings return their indices, too; for each, by name, return the nodes of its map and indices."""
    outputs = {}
    for pool in pools:
        (node,) = (node for node in graph.graph.nodes if node.name == pool.node)
        pool.module.return_indices = True
        with graph.graph.inserting_after(node):
            indices = graph.graph.call_function(operator.getitem, (node, 1))
            values = graph.graph.call_function(operator.getitem, (node, 0))
        node.replace_all_uses_with(values, lambda user, both=(values, indices): user not in both)
        outputs[pool.node] = (values, indices)
    return outputs


def _last_pools_by_stride(dense: Surgery) -> dict[Fraction, Pool]:
    """Return the last max pooling before the features that ends at each stride."""
    pools: dict[Fraction, Pool] = {}
    for node in dense.module.graph.nodes:
        op = dense.nodes.get(node.name)
        if op is not None and isinstance(op.module, nn.MaxPool2d) and op.geometry:
            before, stride = dense.nodes[node.all_input_nodes[0].name].geometry, op.geometry.vertical.field.stride
            if before and op.module.dilation in (1, (1, 1)) and stride > before.vertical.field.stride:
                pools[stride] = Pool(node.name, op.module, op.shape[0], before, op.geometry)
        if node.name == dense.features:
            break
    return pools
