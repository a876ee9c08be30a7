"""A classifier's head, from the last map to the logits, made to work at every place of a larger map.

The head is what the logits need of the pooled or flattened values, back to the maps that these come from. Pooling
inside of the network is not in it: its result meets a map again.
"""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import fx, nn

from fullconv.errors import ModelError
from fullconv.net.connected import Connected
from fullconv.net.operations import ATTENTION, CELLWISE, CHANNELWISE, POOLS, RESHAPES
from fullconv.net.rules import Seen
from fullconv.net.trace import Node

__all__ = ["KEPT", "Tail"]

_PLAIN = Seen()
KEPT = CELLWISE | CHANNELWISE
"""The operations that leave every value where it is."""


class Tail:
    """One pass over the head's nodes, in order.

    In the head, N x C values become N x C x h x w maps. `flat` remembers the C x h x w that a vector was flattened
    from, until a linear layer meets it; `last` the values whose channels come last; `places` the maps whose rows and
    columns became one dimension. `end` is what the classifier makes of its logits, which the dense network does not.
    """

    def __init__(self, graph: fx.GraphModule, nodes: dict[str, Node], name: str) -> None:
        self.graph, self.nodes, self.name = graph, nodes, name
        self.sources: list[fx.Node] = []
        self.pools: list[str] = []
        self.coerced: list[str] = []
        self.dropped: list[str] = []
        self.flat: dict[fx.Node, tuple[int, ...]] = {}
        self.places: dict[fx.Node, fx.Node] = {}
        self.last: set[fx.Node] = set()
        self.end: Literal["", "softmax", "log_softmax"] = ""
        self.new: dict[fx.Node, fx.Node] = {}
        self.turned: dict[fx.Node, fx.Node] = {}
        (output,) = (node for node in graph.graph.nodes if node.op == "output")
        self.output = output

    def treat(self) -> None:
        """Rewrite the head. Raises ModelError where it does something that is not known to work at every place."""
        self._drop_idle_pools()
        result = self._logits()
        head = self._head(result)
        for node in head:
            if self.nodes[node.name].kind in ATTENTION:
                raise ModelError(f"{self._label(self.nodes[node.name])} mixes places (attention): not supported")
        for node in head:
            found = self.nodes[node.name]
            above = [n for n in node.all_input_nodes if self._seen(n).kind in ("map", "pooled")]
            if any(self._seen(n).kind == "map" for n in above):
                self.new[node] = self._entered(node, found, above)
            else:
                self.new[node] = self._inside(node, found, above)
        if result in self.last:
            self.new[result] = self._moved(self.new[result], (0, 3, 1, 2))
        ends = [node for node in self.output.all_input_nodes if node is not result]
        self.output.args = (self.new[result],)
        for node in ends:
            self.graph.graph.erase_node(node)
        for node in reversed(head):
            if not node.users:
                self.graph.graph.erase_node(node)

    def _seen(self, node: fx.Node) -> Seen:
        return self.nodes[node.name].seen if node.name in self.nodes else _PLAIN

    def _drop_idle_pools(self) -> None:
        """Pooling of a map to the size that it has here would pool larger ones: it goes."""
        for node in list(self.graph.graph.nodes):
            found = self.nodes.get(node.name)
            if found is not None and found.kind in POOLS and found.is_map and found.kind.startswith("adaptive"):
                size = "x".join(str(n) for n in found.shape[1:])
                self.dropped.append(f"{found.target}: pooling {size} to its own size")
                node.replace_all_uses_with(node.all_input_nodes[0])
                self.graph.graph.erase_node(node)

    def _logits(self) -> fx.Node:
        result = self.output.args[0]
        if not isinstance(result, fx.Node):
            raise ModelError(f"{self.name} gives several results, not one tensor of logits")
        result = self._without_end(result)
        found = self.nodes[result.name]
        if found.seen.kind == "lost":
            raise ModelError(found.seen.reason)
        if found.seen.kind != "pooled" or prod(found.shape) != found.shape[0]:
            shape = " x ".join(str(n) for n in found.shape)
            raise ModelError(
                f"{self.name} has no linear layer after a flatten: nothing to convolutionalize (it gives N x {shape})"
            )
        return result

    def _without_end(self, result: fx.Node) -> fx.Node:
        """The node before a softmax or its logarithm: they keep the order of the classes, and losses want logits."""
        found = self.nodes[result.name]
        if found.kind not in ("softmax", "log_softmax") or len(found.shape) != 1:
            return result
        self.end = "softmax" if found.kind == "softmax" else "log_softmax"
        self.dropped.append(f"{found.target}: {found.kind} of the logits")
        return result.all_input_nodes[0]

    def _head(self, result: fx.Node) -> list[fx.Node]:
        """The nodes with pooled values that the result needs, in order."""
        wanted, todo = {result}, [result]
        while todo:
            for node in todo.pop().all_input_nodes:
                if self._seen(node).kind == "pooled" and node not in wanted:
                    wanted.add(node)
                    todo.append(node)
        return [node for node in self.graph.graph.nodes if node in wanted]

    def _entered(self, node: fx.Node, found: Node, above: list[fx.Node]) -> fx.Node:
        """A map becomes a vector here: by pooling or by flatten."""
        source = above[0]
        if len(above) != 1 or (found.kind not in POOLS and found.kind not in RESHAPES and found.kind != "getitem"):
            raise ModelError(f"{self._label(found)} makes a vector of a map in a way that is not supported")
        axes, shape = self._seen(source).axes, self.nodes[source.name].shape
        if len(shape) != 3 or axes not in ((-2, -1), (-3, -2)):
            raise ModelError(f"{self._label(found)} works on {shape}, not on a map")
        if found.kind in POOLS:
            return self._pooled(node, source, shape, axes == (-3, -2))
        if (
            axes == (-2, -1)
            and found.kind in RESHAPES
            and len(found.shape) == 2
            and found.shape == (shape[0], prod(shape[1:]))
        ):
            self.places[node] = source
            return self.new.get(source, source)
        if axes != (-2, -1) or len(found.shape) not in (1, 3) or found.shape[0] not in (shape[0], prod(shape)):
            raise ModelError(f"{node.name} flattens {shape} to {found.shape}, not a map to a vector")
        self.flat[node] = shape
        self.sources.append(source)
        self.dropped.append(f"{node.name}: flatten of {'x'.join(str(n) for n in shape)}")
        return source

    def _pooled(self, node: fx.Node, source: fx.Node, shape: tuple[int, ...], last: bool) -> fx.Node:
        """Pooling becomes a window of the size that it has here."""
        found = self.nodes[node.name]
        before = shape[:2] if last else shape[1:]
        after = (1, 1) if found.kind in ("mean", "amax", "sum") or len(found.shape) == 1 else found.shape[1:]
        if any(b % a for b, a in zip(before, after, strict=True)):
            raise ModelError(
                f"{self._label(found)} pools {list(before)} cells to {list(after)}: windows of unequal size"
            )
        window = (before[0] // after[0], before[1] // after[1])
        step = window if after != (1, 1) else (1, 1)
        name = str(node.target) if node.op == "call_module" else f"{node.name}_window"
        largest = found.kind in ("amax", "adaptive_max_pool2d", "max_pool2d")
        divisor = 1 if found.kind == "sum" else None
        pool = nn.MaxPool2d(window, step) if largest else nn.AvgPool2d(window, step, divisor_override=divisor)
        self.graph.add_submodule(name, pool)
        start = self.new.get(source, source)
        if last:
            start = self.turned.get(source) or self._moved(start, (0, 3, 1, 2), node)
            self.turned[source] = start
        if source not in self.flat:
            self.sources.append(start)
        with self.graph.graph.inserting_before(node):
            made = self.graph.graph.call_module(name, (start,))
        self.pools.append(made.name)
        self.coerced.append(f"{name}: pooling became a {window[0]}x{window[1]} window")
        self.flat[node] = (shape[-1] if last else shape[0], *after)
        if last and len(found.shape) == 3:
            self.last.add(node)
            return self._moved(made, (0, 2, 3, 1), node)
        return made

    def _inside(self, node: fx.Node, found: Node, above: list[fx.Node]) -> fx.Node:
        """A vector becomes another one."""
        source = above[0]
        old = self.nodes[source.name]
        if source in self.places:
            if found.kind not in ("mean", "amax", "sum") or node.args[1:2] not in ((-1,), (2,)):
                raise ModelError(f"{self._label(found)} works on the places of a flattened map: not supported")
            origin = self.places[source]
            return self._pooled(node, origin, self.nodes[origin.name].shape, False)
        if found.kind in RESHAPES or (found.kind == "getitem" and prod(found.shape) == prod(old.shape)):
            return self._reshaped(node, found, source)
        if found.kind == "permute" and len(found.shape) == 3:
            return self._permuted(node, found, source)
        if found.kind in ("adaptive_avg_pool2d", "adaptive_max_pool2d", "mean", "amax") and len(old.shape) == 3:
            return self._again(node, found, source)
        if found.kind == "linear" and len(old.shape) == 1:
            return self._linear(node, found, source)
        if found.kind == "conv2d" or (found.kind in ("linear", "layer_norm") and len(old.shape) == 3):
            return self._kept(node, above)
        if found.kind == "layer_norm" and len(old.shape) == 1:
            return self._normed(node, source)
        if isinstance(found.module, nn.BatchNorm1d):
            return self._batch_norm(node, found.module, source)
        if found.kind == "cat" and all(self.flat[n][1:] == (1, 1) for n in above):
            made = self._kept(node, above)
            made.args, made.kwargs = (made.args[0], 1), {}
            self.flat[node] = (sum(self.flat[n][0] for n in above), 1, 1)
            return made
        if found.kind in KEPT:
            return self._cellwise(node, found, above)
        raise ModelError(f"{self._label(found)} in the head cannot be followed from cell to cell: not supported")

    def _kept(self, node: fx.Node, above: list[fx.Node]) -> fx.Node:
        """The same operation on the new values."""
        with self.graph.graph.inserting_before(node):
            made = self.graph.graph.node_copy(node, lambda n: self.new.get(n, n))
        shape = self.nodes[node.name].shape
        self.flat[node] = shape if len(shape) == 3 else self.flat[above[0]]
        if above[0] in self.last:
            self.last.add(node)
            self.flat[node] = (shape[2], *shape[:2])
        return made

    def _cellwise(self, node: fx.Node, found: Node, above: list[fx.Node]) -> fx.Node:
        first = above[0]
        same = all(self.flat[n] == self.flat[first] and (n in self.last) == (first in self.last) for n in above)
        others = [n for n in node.all_input_nodes if n not in above and self.nodes[n.name].shape != ()]
        tables = len(found.shape) == 1 and found.kind in CELLWISE and any(n.op == "get_attr" for n in others)
        if not same or tables:
            raise ModelError(f"{self._label(found)} in the head joins values of different shapes: not supported")
        return self._kept(node, above)

    def _reshaped(self, node: fx.Node, found: Node, source: fx.Node) -> fx.Node:
        shape = self.flat[source]
        channels = shape[0] if len(found.shape) == 3 else found.shape[0]
        if len(found.shape) not in (1, 3) or channels not in (shape[0], prod(shape)) or found.shape[0] != channels:
            raise ModelError(f"{node.name} in the head reshapes to {found.shape}: not supported")
        self.flat[node] = shape
        self.dropped.append(f"{node.name}: {found.kind} of {'x'.join(str(n) for n in shape)}")
        made = self.new[source]
        return self._moved(made, (0, 3, 1, 2), node) if source in self.last else made

    def _permuted(self, node: fx.Node, found: Node, source: fx.Node) -> fx.Node:
        made = self._kept(node, [source])
        order = node.args[1:] if len(node.args) > 2 else node.args[1]
        self.last.discard(node)
        if tuple(order) not in ((0, 2, 3, 1), (0, 3, 1, 2)):  # type: ignore[arg-type]
            raise ModelError(f"{self._label(found)} in the head turns dimensions around: not supported")
        if tuple(order) == (0, 2, 3, 1):  # type: ignore[arg-type]
            self.last.add(node)
        self.flat[node] = self.flat[source]
        return made

    def _again(self, node: fx.Node, found: Node, source: fx.Node) -> fx.Node:
        """Pooling of what is pooled already."""
        shape = self.flat[source]
        if shape[1:] != (1, 1):
            if source in self.last or self.new[source] is source:
                raise ModelError(f"{self._label(found)} pools twice: not supported")
            return self._pooled(node, source, shape, False)
        self.flat[node] = shape
        self.dropped.append(f"{node.name}: pooling of one cell")
        if source in self.last and len(found.shape) == 3:
            self.last.add(node)
        if source in self.last and len(found.shape) == 1:
            return self._moved(self.new[source], (0, 3, 1, 2), node)
        return self.new[source]

    def _linear(self, node: fx.Node, found: Node, source: fx.Node) -> fx.Node:
        """A linear layer, be it a module or a function with parameters, becomes a convolution under its name."""
        channels, height, width = self.flat[source]
        name = str(node.target) if found.module is not None else self._owner(node)
        linear = self.graph.get_submodule(name)
        weight, bias = linear.weight, linear.bias
        assert isinstance(weight, nn.Parameter)
        if weight.shape[1] != channels * height * width:
            raise ModelError(f"{name} is linear but its input was not flattened from a map: not supported")
        conv = Connected(channels, len(weight), (height, width), bias=bias is not None, device="meta")
        conv.weight = nn.Parameter(weight.detach().view(conv.weight.shape), weight.requires_grad)
        conv.bias = bias  # type: ignore[assignment]
        self.graph.add_submodule(name, conv.train(linear.training))
        self.coerced.append(f"{name}: linear became a {height}x{width} convolution to {len(weight)}")
        self.flat[node] = (len(weight), 1, 1)
        with self.graph.graph.inserting_before(node):
            return self.graph.graph.call_module(name, (self.new[source],))

    def _owner(self, node: fx.Node) -> str:
        """The module whose `weight` and `bias`, and nothing else, functional.linear works with."""
        names = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
        owners = {name.rpartition(".")[0] for name in names}
        if len(node.all_input_nodes) != 1 + len(names) or len(owners) != 1 or not names[0].endswith(".weight"):
            raise ModelError(f"{node.name} in the head computes its own weights: not supported")
        (owner,) = owners
        module = self.graph.get_submodule(owner)
        if not hasattr(module, "bias"):
            module.register_parameter("bias", None)
        if {name for name, _ in module.named_parameters()} != {name.rpartition(".")[2] for name in names}:
            raise ModelError(f"{owner} in the head is not a plain linear layer: not supported")
        return owner

    def _batch_norm(self, node: fx.Node, norm: nn.BatchNorm1d, source: fx.Node) -> fx.Node:
        if self.flat[source][1:] != (1, 1):
            raise ModelError(f"{node.target} (BatchNorm1d) works on a flattened map: not supported")
        new = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, "meta")
        new._parameters, new._buffers = norm._parameters, norm._buffers
        self.graph.add_submodule(str(node.target), new.train(norm.training))
        self.coerced.append(f"{node.target}: batch norm of vectors became one of maps")
        return self._kept(node, [source])

    def _normed(self, node: fx.Node, source: fx.Node) -> fx.Node:
        """Layer norm works along the last dimension: channels go there and back."""
        if self.flat[source][1:] != (1, 1):
            raise ModelError(f"{node.target} (layer norm) works on a flattened map: not supported")
        self.new[source], before = self._moved(self.new[source], (0, 2, 3, 1), node), self.new[source]
        made = self._moved(self._kept(node, [source]), (0, 3, 1, 2), node)
        self.new[source] = before
        return made

    def _moved(self, node: fx.Node, order: tuple[int, ...], before: fx.Node | None = None) -> fx.Node:
        with self.graph.graph.inserting_before(before or self.output):
            return self.graph.graph.call_method("permute", (node, *order))

    def _label(self, found: Node) -> str:
        return f"{found.target} ({type(found.module).__name__})" if found.module is not None else found.name
