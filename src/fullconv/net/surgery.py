"""From a classifier to a network that is convolutional throughout, with the same weights.

A fully connected layer over a C x h x w map is a convolution whose kernel covers the whole map (the paper,
section 3.1): VGG16's 7 x 7 x 512 -> 4096 becomes F = 7, K = 4096, and the layers after it become 1 x 1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.net.tail import KEPT, Tail
from fullconv.net.trace import Node, Taps, trace, traced

__all__ = ["Surgery", "convolutionalize", "transplant"]


@dataclass
class Surgery:
    """A dense network and what was done to get it.

    `features` names the node whose map the classifier's head starts from; `linears` the modules that are fully
    connected, first to last: linear layers and the 1 x 1 convolutions among them. `pools` names the nodes that pool
    in windows where the classifier pooled everything; `end` is what the classifier does to its logits, and this network
    does not. `copied` keeps its parameters as they were, `coerced` got another shape or became another layer, `dropped`
    is gone; each entry is a module's name and what happened.
    `nodes` is the trace of `module` on an image of `size`.
    """

    module: fx.GraphModule
    size: tuple[int, int]
    features: str
    linears: tuple[str, ...]
    pools: tuple[str, ...] = ()
    copied: list[str] = field(default_factory=list)
    coerced: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict, repr=False)
    end: Literal["", "softmax", "log_softmax"] = ""

    def as_given(self, logits: Tensor) -> Tensor:
        """What the classifier gives where these are its logits, N x K or N x K x h x w."""
        return {"": logits, "softmax": logits.softmax(1), "log_softmax": logits.log_softmax(1)}[self.end]

    @property
    def taps(self) -> Taps:
        """The geometry of the logits, by axis."""
        return _output(self.nodes)

    @property
    def context(self) -> tuple[str, ...]:
        """Where pooled values of the whole image come back into the map: squeeze-and-excitation, group norm, ..."""
        return tuple(sorted(list(self.nodes.values())[-1].seen.context))

    @property
    def fidelity(self) -> Literal["exact", "padding", "global context"]:
        """How a cell of the dense map compares with the classifier on the crop that starts at the cell's place.

        `exact`: equal. `padding`: the classifier pads the crop's border, where the dense network sees the image.
        `global context`: every cell depends on the whole image; neither are tiles equal to the whole.
        """
        if self.context:
            return "global context"
        fields = [tap.field for tap in self.taps]
        inside = all(f.first(0) >= 0 and f.last(0) < n for f, n in zip(fields, self.size, strict=True))
        return "exact" if inside else "padding"

    @property
    def multiple(self) -> int:
        """Images may be larger than `size` by multiples of this only, 1 in most networks.

        More where branches meet that have one size for some sizes of the image alone: "same" padding, upsampling.
        """
        if not list(self.nodes.values())[-1].seen.strict:
            return 1
        return max(int(tap.field.stride) for node in self.nodes.values() for tap in node.seen.taps or ())


def convolutionalize(model: nn.Module, size: tuple[int, int] = (224, 224), channels: int = 3) -> Surgery:
    """Turn a classifier for images of `size` into one for images of that size or larger.

    The classifier itself is left alone. Where it gives N x K logits for N x C x size images, the dense network
    gives N x K x 1 x 1 with the same numbers; on a larger image, its cell (i, j) is what the classifier gives
    on the crop that starts at (i, j) times the stride: see `Surgery.fidelity` for how exactly. Global pooling before
    the head becomes a window of the size that it had; inside of the network (squeeze-and-excitation) it stays
    global. "same" padding that depends on the size becomes that of `size`. A softmax behind the logits, or its
    logarithm, is dropped (`Surgery.end`). State dict keys stay; what only training uses (auxiliary heads) is dropped.

    Raises ModelError where the classifier cannot be traced, does not end in linear layers or 1 x 1 convolutions on
    pooled or flattened features, or mixes places in a way that has no geometry, as attention does.
    """
    model = model.module if isinstance(model, nn.DataParallel) else model
    name = type(model).__name__
    graph = copy.deepcopy(traced(model, size, channels))
    tail = Tail(graph, trace(graph, size, channels), name)
    tail.treat()
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    nodes = trace(graph, size, channels)
    features, linears = _last_layer(graph, nodes, tail)
    kept = dict(graph.named_modules())
    touched = {entry.split(":")[0] for entry in tail.coerced}
    owners = dict.fromkeys(key.rpartition(".")[0] for key in graph.state_dict())
    gone = [key for key, module in model.named_modules() if key not in kept and _owns(module)]
    dropped = [*tail.dropped, *(f"{key}: not used in evaluation" for key in gone)]
    copied = [owner for owner in owners if owner not in touched]
    result = Surgery(graph, size, features, linears, tuple(tail.pools), copied, tail.coerced, dropped, nodes, tail.end)
    _check_larger(result, channels)
    return result


def transplant(source: nn.Module, target: nn.Module) -> tuple[list[str], list[str]]:
    """Copy every parameter and buffer that `target` has too, by name and shape.

    Gives the names that were copied and those of `target` that were not, which keep their values.
    """
    theirs, ours = source.state_dict(), target.state_dict()
    copied = [name for name, value in ours.items() if name in theirs and theirs[name].shape == value.shape]
    target.load_state_dict({name: theirs[name] for name in copied}, strict=False)
    return copied, [name for name in ours if name not in set(copied)]


def _owns(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _output(nodes: dict[str, Node]) -> Taps:
    last = list(nodes.values())[-1]
    if last.seen.kind == "lost":
        raise ModelError(last.seen.reason)
    if last.taps is None:
        raise ModelError(f"what {last.target} gives is no map of logits: not supported")
    return last.taps


def _check_larger(dense: Surgery, channels: int) -> None:
    """Run on a larger image too: what is fixed to one size shows there, and so would a wrong geometry."""
    steps = [max(int(tap.field.stride), dense.multiple) for tap in dense.taps]
    larger = dense.size[0] + steps[0], dense.size[1] + 2 * steps[1]
    try:
        nodes = trace(dense.module, larger, channels)
    except ModelError as error:
        cause = str(error).partition(": ")[2]
        raise ModelError(f"it is fixed to images of {dense.size[0]}x{dense.size[1]}: {cause}") from error
    for name, node in dense.nodes.items():
        if node.taps is not None:
            expected = tuple(tap.size(n) for tap, n in zip(node.taps, larger, strict=True))
            if expected != nodes[name].shape[1:]:
                raise ModelError(f"{name} gives {nodes[name].shape[1:]} cells where its geometry says {expected}")


def _last_layer(graph: fx.GraphModule, nodes: dict[str, Node], tail: Tail) -> tuple[str, tuple[str, ...]]:
    """The node that the head starts from, and the fully connected modules on the way to the logits.

    Where the head has none, as in SqueezeNet, the 1 x 1 convolution before its pooling is the last layer.
    """
    sources = {source.name for source in tail.sources}
    if len(sources) != 1:
        raise ModelError(f"the head of {tail.name} starts from {len(sources)} maps: not supported")
    (features,) = sources
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    linears: list[str] = []
    node = _before(output, nodes)
    while node.name != features:
        if isinstance(nodes[node.name].module, nn.Conv2d):
            linears.append(str(node.target))
        node = _before(node, nodes)
    if linears:
        return features, tuple(reversed(linears))
    while not isinstance(nodes[node.name].module, nn.Conv2d):
        if node.op == "placeholder" or nodes[node.name].kind not in KEPT:
            raise ModelError(f"{tail.name} has no linear layer after a flatten: nothing to convolutionalize")
        node = _before(node, nodes)
    if any(layer.reach for layer in nodes[node.name].layers or ()):
        raise ModelError(f"{tail.name} has no linear layer after a flatten: nothing to convolutionalize")
    return _before(node, nodes).name, (str(node.target),)


def _before(node: fx.Node, nodes: dict[str, Node]) -> fx.Node:
    """The first map that goes into a node."""
    return next(n for n in node.all_input_nodes if nodes[n.name].is_map)
