"""Turn a classifier into a network that is convolutional throughout, with the same weights.

A fully connected layer over a C x h x w map is a convolution whose kernel covers the whole map (the paper,
section 3.1): VGG16's 7 x 7 x 512 -> 4096 becomes F = 7, K = 4096, and the layers after it become 1 x 1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, fx, nn

from fullconv.errors import ModelError
from fullconv.net.surgery.head_rewriter import POSITION_PRESERVING, HeadRewriter
from fullconv.net.trace.nodes import Node, geometry_of, trace
from fullconv.net.trace.tracer import trace_fx
from fullconv.net.trace.values import FeatureGeometry

__all__ = ["Surgery", "convolutionalize", "transplant"]


@dataclass
class Surgery:
    """A dense network, and a report of what was changed to get it.

    `size` is the classifier's image size (height, width), and `nodes` the trace of `module` on such an image.
    `features` names the node with the map that the head starts from; `linears` the fully connected modules, first to
    last: linear layers and the 1 x 1 convolutions among them. `pools` names the nodes that pool in windows where the
    classifier pooled the whole map. `end` is what the classifier does to its logits and this network does not.
    `copied` modules keep their parameters unchanged, `coerced` ones got another shape or became another layer, and
    `dropped` ones were removed; the entries of the last two are "module: what happened".
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

    def apply_end(self, logits: Tensor) -> Tensor:
        """Return the classifier's output for these logits, N x K or N x K x h x w: logits or (log) probabilities."""
        return {"": logits, "softmax": logits.softmax(1), "log_softmax": logits.log_softmax(1)}[self.end]

    @property
    def geometry(self) -> FeatureGeometry:
        """The geometry of the map of logits."""
        return _output_geometry(self.nodes)

    @property
    def context(self) -> tuple[str, ...]:
        """The operations at which values of the whole image enter the map: squeeze-and-excitation, group norm, ..."""
        return tuple(sorted(list(self.nodes.values())[-1].info.context))

    @property
    def fidelity(self) -> Literal["exact", "padding", "global context"]:
        """How a cell of the dense map compares with the classifier on the crop that starts at the cell's position.

        `exact`: equal. `padding`: the classifier pads the crop's border, where the dense network sees the image.
        `global context`: cells depend on the whole image (with circular padding, on its opposite border), so tiles
        differ from the whole image, too.
        """
        if self.context:
            return "global context"
        sizes = zip(self.geometry.fields, self.size, strict=True)
        inside = all(field.first(0) >= 0 and field.last(0) < n for field, n in sizes)
        return "exact" if inside else "padding"

    @property
    def multiple(self) -> int:
        """The number of pixels by multiples of which images may be larger than `size`; 1 in most networks.

        It is more than 1 where branches meet whose sizes agree for some image sizes only: "same" padding, upsampling.
        """
        if not list(self.nodes.values())[-1].info.needs_multiple:
            return 1
        return max(int(tap.field.stride) for node in self.nodes.values() for tap in node.info.geometry or ())


def convolutionalize(model: nn.Module, size: tuple[int, int] = (224, 224), channels: int = 3) -> Surgery:
    """Turn a classifier for images of `size` (height, width) into a network for images of that size or larger.

    The classifier itself stays unchanged. For N x C x size images, it returns N x K logits and the dense network
    returns the same numbers as N x K x 1 x 1. On a larger image, cell (i, j) of the dense network is the classifier
    on the crop that starts at (i, j) times the stride; `Surgery.fidelity` says how exactly. Global pooling before the
    head becomes pooling in a window of the same size; inside the network (squeeze-and-excitation) it stays global.
    "same" padding that depends on the image size becomes that of `size`. A softmax or log-softmax of the logits is
    dropped (`Surgery.end`). State dict keys stay; modules for training only (auxiliary heads) are dropped.

    Raises ModelError where the classifier cannot be traced, does not end in linear layers or 1 x 1 convolutions on
    pooled or flattened features, or mixes positions in a way that has no geometry, as attention does.
    """
    model = model.module if isinstance(model, nn.DataParallel) else model
    name = type(model).__name__
    graph = copy.deepcopy(trace_fx(model, size, channels))
    head = HeadRewriter(graph, trace(graph, size, channels), name)
    head.rewrite()
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    nodes = trace(graph, size, channels)
    features, linears = _find_linears(graph, nodes, head)
    remaining = dict(graph.named_modules())
    coerced = {entry.split(":")[0] for entry in head.coerced}
    owners = dict.fromkeys(key.rpartition(".")[0] for key in graph.state_dict())
    unused = [key for key, module in model.named_modules() if key not in remaining and _has_parameters(module)]
    dropped = [*head.dropped, *(f"{key}: not used in evaluation" for key in unused)]
    copied = [owner for owner in owners if owner not in coerced]
    dense = Surgery(graph, size, features, linears, tuple(head.pools), copied, head.coerced, dropped, nodes, head.end)
    _check_larger_image(dense, channels)
    return dense


def transplant(source: nn.Module, target: nn.Module) -> tuple[list[str], list[str]]:
    """Copy the parameters and buffers of `source` that `target` has under the same name and shape.

    Returns the names that were copied, and the names in `target` that were not and keep their values.
    """
    old, new = source.state_dict(), target.state_dict()
    copied = [name for name, value in new.items() if name in old and old[name].shape == value.shape]
    new.update({name: old[name] for name in copied})
    target.load_state_dict(new, strict=False)
    return copied, [name for name in new if name not in set(copied)]


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _output_geometry(nodes: dict[str, Node]) -> FeatureGeometry:
    last = list(nodes.values())[-1]
    if last.info.kind == "unsupported":
        raise ModelError(last.info.reason, code=last.info.code)
    return geometry_of(last)


def _check_larger_image(dense: Surgery, channels: int) -> None:
    """Trace a larger image, too: this shows layers of a fixed size, and would show a wrong geometry."""
    steps = [max(int(tap.field.stride), dense.multiple) for tap in dense.geometry]
    larger = dense.size[0] + steps[0], dense.size[1] + 2 * steps[1]
    try:
        nodes = trace(dense.module, larger, channels)
    except ModelError as error:
        cause = str(error).partition(": ")[2]
        message = f"the classifier works only on images of {dense.size[0]}x{dense.size[1]}: {cause}"
        raise ModelError(message, code="fixed-image-size") from error
    for name, node in dense.nodes.items():
        if node.geometry is not None:
            expected = tuple(tap.size(n) for tap, n in zip(node.geometry, larger, strict=True))
            cells = nodes[name].shape[1:]
            if expected != cells:
                message = f"{name} returns {cells} cells for a {larger[0]}x{larger[1]} image, expected {expected}"
                raise ModelError(f"{message}: its size does not follow from its layers", code="unexpected-map-size")


def _find_linears(graph: fx.GraphModule, nodes: dict[str, Node], head: HeadRewriter) -> tuple[str, tuple[str, ...]]:
    """Return the node that the head starts from, and the fully connected modules on the way to the logits.

    Where the head has no such module, as in SqueezeNet, the last 1 x 1 convolution before the pooling takes its place.
    """
    sources = {source.name for source in head.sources}
    if len(sources) != 1:
        message = f"the head of {head.name} starts from {len(sources)} feature maps; only one is supported"
        raise ModelError(message, code="several-feature-maps")
    _output_geometry(nodes)  # raises ModelError where the logits cannot be traced to image positions
    (features,) = sources
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    linears: list[str] = []
    node = _previous_map(output, nodes)
    while node.name != features:
        if isinstance(nodes[node.name].module, nn.Conv2d):
            linears.append(str(node.target))
        node = _previous_map(node, nodes)
    if linears:
        return features, tuple(reversed(linears))
    while not isinstance(nodes[node.name].module, nn.Conv2d):
        if node.op == "placeholder" or nodes[node.name].kind not in POSITION_PRESERVING:
            raise _no_linear_layer(head.name)
        node = _previous_map(node, nodes)
    if any(layer.reach for layer in nodes[node.name].layers or ()):
        raise _no_linear_layer(head.name)
    return _previous_map(node, nodes).name, (str(node.target),)


def _no_linear_layer(name: str) -> ModelError:
    message = f"{name} has no linear layer after pooling or flatten, so there is nothing to convolutionalize"
    return ModelError(message, code="no-linear-layer")


def _previous_map(node: fx.Node, nodes: dict[str, Node]) -> fx.Node:
    """Return the first map among the inputs of a node."""
    return next(n for n in node.all_input_nodes if nodes[n.name].is_map)
