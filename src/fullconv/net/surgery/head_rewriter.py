"""Rewrite a classifier's head, from the last feature map to the logits, so that it works at every position of a map.

The head consists of the operations on pooled or flattened values that the logits depend on, back to the maps from
which these values come. Pooling inside the network does not belong to it: its result meets a map again.
"""

from __future__ import annotations

import operator
from math import prod
from typing import Literal

from torch import fx, nn

from fullconv.errors import ModelError
from fullconv.net.surgery.linear_as_conv import as_convolution
from fullconv.net.trace.nodes import Node, modules_outside
from fullconv.net.trace.operations import ATTENTION, CELLWISE, CHANNELWISE, POOLS, RESHAPES
from fullconv.net.trace.values import ValueInfo

__all__ = ["POSITION_PRESERVING", "HeadRewriter"]

POSITION_PRESERVING = CELLWISE | CHANNELWISE
"""The operations that leave every value at its position."""

_CONSTANT = ValueInfo()


class HeadRewriter:
    """One pass over the head's nodes, in order.

    In the head, values of N x C become maps of N x C x h x w. Results, after `rewrite`: `sources` are the nodes whose
    maps the head starts from, `pools` the new window poolings, `coerced` and `dropped` what was changed and removed,
    and `end` what the classifier does to its logits and the dense network does not.
    """

    def __init__(self, graph: fx.GraphModule, nodes: dict[str, Node], name: str) -> None:
        """Take a graph, its trace, and the name of the classifier for messages."""
        self.graph, self.nodes, self.name = graph, nodes, name
        self.sources: list[fx.Node] = []
        self.pools: list[str] = []
        self.coerced: list[str] = []
        self.dropped: list[str] = []
        self.end: Literal["", "softmax", "log_softmax"] = ""
        self._rewritten: dict[fx.Node, fx.Node] = {}
        self._map_shapes: dict[fx.Node, tuple[int, ...]] = {}  # the C x h x w that a vector was flattened from
        self._maps_of_rows: dict[fx.Node, fx.Node] = {}  # N x C x (h * w) values, and the maps that they come from
        self._channels_last: set[fx.Node] = set()
        self._channels_first: dict[fx.Node, fx.Node] = {}  # maps with channels last, and their permuted copies
        self._inside: set[str] = set()  # the modules that also work inside the network
        (self._output,) = (node for node in graph.graph.nodes if node.op == "output")

    def rewrite(self) -> None:
        """Rewrite the head in place.

        Raises ModelError for an operation that is not known to work at every position of a map.
        """
        self._drop_idle_pools()
        logits = self._find_logits()
        head = self._find_head(logits)
        self._inside = modules_outside(self.graph, set(head))
        for node in head:
            op = self.nodes[node.name]
            if op.kind in ATTENTION:
                raise ModelError(f"{self._label(op)} mixes positions (attention): not supported", code="attention")
        for node in head:
            op = self.nodes[node.name]
            inputs = [n for n in node.all_input_nodes if self._info(n).kind in ("spatial", "global")]
            enters = any(self._info(n).kind == "spatial" for n in inputs)
            rewrite = self._rewrite_entrance if enters else self._rewrite_vector
            self._rewritten[node] = rewrite(node, op, inputs)
        if logits in self._channels_last:
            self._rewritten[logits] = self._permute(self._rewritten[logits], (0, 3, 1, 2))
        unused = [node for node in self._output.all_input_nodes if node is not logits]
        self._output.args = (self._rewritten[logits],)
        for node in unused:
            self.graph.graph.erase_node(node)
        for node in reversed(head):
            if not node.users:
                self.graph.graph.erase_node(node)

    def _info(self, node: fx.Node) -> ValueInfo:
        return self.nodes[node.name].info if node.name in self.nodes else _CONSTANT

    def _drop_idle_pools(self) -> None:
        """Remove adaptive pooling to the size that the map already has; it would pool larger maps."""
        for node in list(self.graph.graph.nodes):
            op = self.nodes.get(node.name)
            if op is not None and op.kind in POOLS and op.is_map and op.kind.startswith("adaptive"):
                size = "x".join(str(n) for n in op.shape[1:])
                self.dropped.append(f"{op.target}: pooling {size} to its own size")
                node.replace_all_uses_with(node.all_input_nodes[0])
                self.graph.graph.erase_node(node)

    def _find_logits(self) -> fx.Node:
        result = self._output.args[0]
        if not isinstance(result, fx.Node):
            message = f"{self.name} returns several results; one tensor of logits is needed"
            raise ModelError(message, code="several-results")
        result = self._skip_softmax(result)
        op = self.nodes[result.name]
        if op.info.kind == "unsupported":
            raise ModelError(op.info.reason, code=op.info.code)
        for part in [self.nodes[node.name] for node in self._find_head(result)]:
            if part.shape == ():
                hint = "squeeze() also removes the batch dimension of a single image; use flatten(1)"
                raise self._refusal(f"{self._label(part)} does not return a vector for each image ({hint})")
        if op.info.kind != "global" or prod(op.shape) != op.shape[0]:
            shape = " x ".join(str(n) for n in op.shape)
            raise ModelError(
                f"{self.name} has no linear layer after pooling or flatten, so there is nothing to convolutionalize: "
                f"it returns N x {shape}",
                code="no-linear-layer",
            )
        return result

    def _skip_softmax(self, result: fx.Node) -> fx.Node:
        """Return the node before a softmax or its logarithm; the loss needs logits, and their order is the same."""
        op = self.nodes[result.name]
        if op.kind not in ("softmax", "log_softmax") or len(op.shape) != 1:
            return result
        self.end = "softmax" if op.kind == "softmax" else "log_softmax"
        self.dropped.append(f"{op.target}: {op.kind} of the logits")
        return result.all_input_nodes[0]

    def _find_head(self, logits: fx.Node) -> list[fx.Node]:
        """Return the nodes with global values that the logits need, in order."""
        head, todo = {logits}, [logits]
        while todo:
            for node in todo.pop().all_input_nodes:
                if self._info(node).kind == "global" and node not in head:
                    head.add(node)
                    todo.append(node)
        return [node for node in self.graph.graph.nodes if node in head]

    def _rewrite_entrance(self, node: fx.Node, op: Node, inputs: list[fx.Node]) -> fx.Node:
        """Rewrite an operation that turns a map into a vector: pooling or flatten."""
        source = inputs[0]
        if len(inputs) != 1 or (op.kind not in POOLS and op.kind not in RESHAPES and op.kind != "getitem"):
            raise self._refusal(f"{self._label(op)} turns a map into a vector without pooling or flatten")
        axes, shape = self._info(source).axes, self.nodes[source.name].shape
        if len(shape) != 3 or axes not in ((-2, -1), (-3, -2)):
            raise self._refusal(f"{self._label(op)} works on a value of {shape}, which is not a map")
        if op.kind in POOLS:
            return self._pool(node, source, shape, axes == (-3, -2))
        rows = axes == (-2, -1) and op.kind in RESHAPES and op.shape == (shape[0], prod(shape[1:]))
        if rows and len(op.shape) == 2:
            self._maps_of_rows[node] = source
            return self._rewritten.get(source, source)
        if axes != (-2, -1) or len(op.shape) not in (1, 3) or op.shape[0] not in (shape[0], prod(shape)):
            raise self._refusal(f"{node.name} flattens {shape} to {op.shape}, which is not a vector")
        self._map_shapes[node] = shape
        self.sources.append(source)
        self.dropped.append(f"{node.name}: flatten of {'x'.join(str(n) for n in shape)}")
        return source

    def _pool(self, node: fx.Node, source: fx.Node, shape: tuple[int, ...], channels_last: bool) -> fx.Node:
        """Replace pooling of the whole map by pooling in a window of the size that the map has here."""
        op = self.nodes[node.name]
        before = shape[:2] if channels_last else shape[1:]
        after = (1, 1) if op.kind in ("mean", "amax", "sum") or len(op.shape) == 1 else op.shape[1:]
        if any(b % a for b, a in zip(before, after, strict=True)):
            raise ModelError(
                f"{self._label(op)} pools {list(before)} cells to {list(after)}: windows of unequal size are not "
                "supported",
                code="unequal-windows",
            )
        window = (before[0] // after[0], before[1] // after[1])
        step = window if after != (1, 1) else (1, 1)
        uses = [n for n in self.graph.graph.nodes if n.op == "call_module" and n.target == node.target]
        name = str(node.target) if uses == [node] else f"{node.name}_window"
        takes_maximum = op.kind in ("amax", "adaptive_max_pool2d", "max_pool2d")
        divisor = 1 if op.kind == "sum" else None
        pool = nn.MaxPool2d(window, step) if takes_maximum else nn.AvgPool2d(window, step, divisor_override=divisor)
        self.graph.add_submodule(name, pool)
        start = self._rewritten.get(source, source)
        if channels_last:
            start = self._channels_first.get(source) or self._permute(start, (0, 3, 1, 2), node)
            self._channels_first[source] = start
        if source not in self._map_shapes:
            self.sources.append(start)
        with self.graph.graph.inserting_before(node):
            pooled = self.graph.graph.call_module(name, (start,))
        self.pools.append(pooled.name)
        self.coerced.append(f"{name}: pooling became a {window[0]}x{window[1]} window")
        self._map_shapes[node] = (shape[-1] if channels_last else shape[0], *after)
        if channels_last and len(op.shape) == 3:
            self._channels_last.add(node)
            return self._permute(pooled, (0, 2, 3, 1), node)
        return pooled

    def _rewrite_vector(self, node: fx.Node, op: Node, inputs: list[fx.Node]) -> fx.Node:
        """Rewrite an operation that turns a vector into another one."""
        source = inputs[0]
        before = self.nodes[source.name]
        if not self._maps_of_rows.keys().isdisjoint(inputs):
            if op.kind not in ("mean", "amax", "sum") or node.args[1:2] not in ((-1,), (2,)):
                raise self._refusal(f"{self._label(op)} works on the positions of a flattened map")
            map_node = self._maps_of_rows[source]
            return self._pool(node, map_node, self.nodes[map_node.name].shape, False)
        if op.kind in RESHAPES or (op.kind == "getitem" and prod(op.shape) == prod(before.shape)):
            return self._reshape(node, op, source)
        if op.kind == "permute" and len(op.shape) == 3:
            return self._permute_dimensions(node, op, source)
        if op.kind in ("adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax") and len(before.shape) == 3:
            return self._pool_again(node, op, source)
        if op.kind == "linear" and len(before.shape) == 1:
            return self._convert_linear(node, op, source)
        if op.kind == "conv2d" or (op.kind in ("linear", "layer_norm") and len(before.shape) == 3):
            return self._copy(node, inputs)
        if op.kind == "layer_norm" and len(before.shape) == 1:
            return self._convert_layer_norm(node, source)
        if isinstance(op.module, nn.BatchNorm1d):
            return self._convert_batch_norm(node, op.module, source)
        one_cell = {self._map_shapes[n][1:] for n in inputs} == {(1, 1)}
        if op.kind == "cat" and op.shape[0] == prod(op.shape) and one_cell:
            joined = self._copy(node, inputs)
            joined.args, joined.kwargs = (joined.args[0], 1), {}
            self._map_shapes[node] = (sum(self._map_shapes[n][0] for n in inputs), 1, 1)
            return joined
        if op.kind in POSITION_PRESERVING:
            return self._copy_cellwise(node, op, inputs)
        raise self._refusal(f"{self._label(op)} cannot be applied at every position")

    def _copy(self, node: fx.Node, inputs: list[fx.Node]) -> fx.Node:
        """Apply the same operation to the rewritten inputs."""
        with self.graph.graph.inserting_before(node):
            copied = self.graph.graph.node_copy(node, lambda n: self._rewritten.get(n, n))
        shape = self.nodes[node.name].shape
        self._map_shapes[node] = shape if len(shape) == 3 else self._map_shapes[inputs[0]]
        if inputs[0] in self._channels_last:
            self._channels_last.add(node)
            self._map_shapes[node] = (shape[2], *shape[:2])
        return copied

    def _copy_cellwise(self, node: fx.Node, op: Node, inputs: list[fx.Node]) -> fx.Node:
        first = inputs[0]
        same = all(self._map_shapes[n] == self._map_shapes[first] for n in inputs)
        same = same and len({n in self._channels_last for n in inputs}) == 1
        tables = [n for n in node.all_input_nodes if prod(self.nodes[n.name].constant) > 1]
        tables = tables if op.kind in CELLWISE and len(op.shape) < 3 else []
        if not same or (tables and (len(op.shape), *self._map_shapes[first][1:]) != (1, 1, 1)):
            raise self._refusal(f"{self._label(op)} combines values of different shapes")
        copied = self._copy(node, inputs)
        for table in tables:  # a value for each channel
            with self.graph.graph.inserting_before(copied):
                column = self.graph.graph.call_function(operator.getitem, (table, (..., None, None)))  # type: ignore[arg-type]
            copied.replace_input_with(table, column)
        return copied

    def _reshape(self, node: fx.Node, op: Node, source: fx.Node) -> fx.Node:
        shape = self._map_shapes[source]
        channels = shape[0] if len(op.shape) == 3 else op.shape[0]
        known = op.shape[0] == channels and (len(op.shape) == 3 or prod(op.shape) == channels)
        if not known or channels not in (shape[0], prod(shape)):
            raise self._refusal(f"{node.name} reshapes to {op.shape}")
        self._map_shapes[node] = shape
        self.dropped.append(f"{node.name}: {op.kind} of {'x'.join(str(n) for n in shape)}")
        copied = self._rewritten[source]
        return self._permute(copied, (0, 3, 1, 2), node) if source in self._channels_last else copied

    def _permute_dimensions(self, node: fx.Node, op: Node, source: fx.Node) -> fx.Node:
        copied = self._copy(node, [source])
        order = node.args[1:] if len(node.args) > 2 else node.args[1]
        self._channels_last.discard(node)
        if tuple(order) not in ((0, 2, 3, 1), (0, 3, 1, 2)):  # type: ignore[arg-type]
            raise self._refusal(f"{self._label(op)} permutes the dimensions to {tuple(order)}")  # type: ignore[arg-type]
        if tuple(order) == (0, 2, 3, 1):  # type: ignore[arg-type]
            self._channels_last.add(node)
        self._map_shapes[node] = self._map_shapes[source]
        return copied

    def _pool_again(self, node: fx.Node, op: Node, source: fx.Node) -> fx.Node:
        """Rewrite pooling of a value that is already pooled."""
        shape = self._map_shapes[source]
        if shape[1:] != (1, 1):
            if source in self._channels_last or self._rewritten[source] is source:
                raise self._refusal(f"{self._label(op)} pools a second time")
            return self._pool(node, source, shape, False)
        self._map_shapes[node] = shape
        self.dropped.append(f"{node.name}: pooling of one cell")
        if source in self._channels_last and len(op.shape) == 3:
            self._channels_last.add(node)
        if source in self._channels_last and len(op.shape) == 1:
            return self._permute(self._rewritten[source], (0, 3, 1, 2), node)
        return self._rewritten[source]

    def _convert_linear(self, node: fx.Node, op: Node, source: fx.Node) -> fx.Node:
        """Replace a linear layer, a module or a function with parameters, by a convolution of the same name."""
        channels, height, width = self._map_shapes[source]
        name = str(node.target) if op.module is not None else self._find_owner(node)
        self._check_inside(name)
        linear = self.graph.get_submodule(name)
        assert isinstance(linear.weight, nn.Parameter)
        if linear.weight.shape[1] != channels * height * width:
            raise self._refusal(f"{name} is a linear layer whose input was not flattened from a map")
        self.graph.add_submodule(name, conv := as_convolution(linear, (channels, height, width)))
        self.coerced.append(f"{name}: linear became a {height}x{width} convolution to {conv.out_channels}")
        self._map_shapes[node] = (conv.out_channels, 1, 1)
        with self.graph.graph.inserting_before(node):
            return self.graph.graph.call_module(name, (self._rewritten[source],))

    def _check_inside(self, name: str) -> None:
        if name in self._inside:
            raise self._refusal(f"{name} is used inside the network, too")

    def _find_owner(self, node: fx.Node) -> str:
        """Return the name of the module whose `weight` and `bias`, and nothing else, functional.linear uses."""
        names = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
        owners = {name.rpartition(".")[0] for name in names}
        if len(node.all_input_nodes) != 1 + len(names) or len(owners) != 1 or not names[0].endswith(".weight"):
            raise self._refusal(f"{node.name} computes its own weights")
        (owner,) = owners
        module = self.graph.get_submodule(owner)
        if not hasattr(module, "bias"):
            module.register_parameter("bias", None)
        if {name for name, _ in module.named_parameters()} != {name.rpartition(".")[2] for name in names}:
            raise self._refusal(f"{owner} is not a plain linear layer")
        return owner

    def _convert_batch_norm(self, node: fx.Node, norm: nn.BatchNorm1d, source: fx.Node) -> fx.Node:
        if self._map_shapes[source][1:] != (1, 1):
            raise self._refusal(f"{node.target} (BatchNorm1d) works on a flattened map")
        self._check_inside(str(node.target))
        new = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, "meta")
        new._parameters, new._buffers = norm._parameters, norm._buffers
        self.graph.add_submodule(str(node.target), new.train(norm.training))
        self.coerced.append(f"{node.target}: batch norm of vectors became one of maps")
        return self._copy(node, [source])

    def _convert_layer_norm(self, node: fx.Node, source: fx.Node) -> fx.Node:
        """Apply layer norm, which works along the last dimension, with the channels moved there and back."""
        if self._map_shapes[source][1:] != (1, 1):
            raise self._refusal(f"{node.target} (layer norm) works on a flattened map")
        before = self._rewritten[source]
        self._rewritten[source] = self._permute(before, (0, 2, 3, 1), node)
        copied = self._permute(self._copy(node, [source]), (0, 3, 1, 2), node)
        self._rewritten[source] = before
        return copied

    def _permute(self, node: fx.Node, order: tuple[int, ...], before: fx.Node | None = None) -> fx.Node:
        with self.graph.graph.inserting_before(before or self._output):
            return self.graph.graph.call_method("permute", (node, *order))

    def _label(self, op: Node) -> str:
        return f"{op.target} ({type(op.module).__name__})" if op.module is not None else op.name

    def _refusal(self, problem: str) -> ModelError:
        return ModelError(f"the classifier's head is not supported: {problem}", code="unsupported-head")
