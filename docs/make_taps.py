"""Write src/fullconv/models/taps.onnx, the network on whose taps `fullconv label` fits its live model.

    python docs/make_taps.py [--out FILE]

The network has five taps, at strides 32 to 2. Each holds the narrow maps of the bundled MobileNetV2 at its stride;
those at strides 8, 4 and 2 also hold responses of fixed image filters, as programs for interactive segmentation have:
smoothed colours, gradient magnitudes, eigenvalues of Hessian and structure tensor, and the extremes of elongated line
filters over eight directions. Stride 2 also has random features of these responses, so that linear score layers can
follow curved borders between classes. There is nothing to train; the scales of the filter responses are measured on
pictures that scikit-image ships. Needs torch and scikit-image.
"""

from __future__ import annotations

import argparse
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from skimage import data
from torch import Tensor, nn
from torch.nn import functional

from fullconv.geometry import Field, Layer, SkipGeometry, Tap
from fullconv.geometry.tiles import Window
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.net.classifiers.backbones import IMAGENET_MEAN, IMAGENET_STD, PRETRAINED, build_classifier
from fullconv.onnx_graph.build import Graph, PadTable, add_padding
from fullconv.onnx_graph.compose import compose
from fullconv.onnx_graph.half import store_halves
from fullconv.onnx_graph.split import ScoreLayer, Split
from fullconv.runtime.metadata import ModelMetadata

ROOT = Path(__file__).parent.parent
OUT = ROOT / "src" / "fullconv" / "models" / "taps.onnx"

OPSET = 18

ENDS = {2: 1, 4: 3, 8: 6, 16: 13, 32: 17}
"""The last block of MobileNetV2 at each stride."""

SIGMAS = {2: (0.7, 1.0, 1.6), 4: (3.5, 5.0), 8: (10.0,)}
"""The scales of the filters at each stride, in pixels."""

LINES = {2: ((1.0, 3.0), (1.5, 5.0)), 4: ((2.5, 7.0),)}
"""The width and the length of the line filters at each stride, as standard deviations in pixels."""

DIRECTIONS, RANDOM = 8, 48

PICTURES = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")
"""Pictures of scikit-image for which it needs no network."""


class Filters(nn.Module):
    """The filter responses at one stride, of N x 3 x H x W normalised and padded colours."""

    def __init__(self, stride: int) -> None:
        """Build the kernels."""
        super().__init__()
        self.stride, self.sigmas, self.lines = stride, SIGMAS[stride], LINES.get(stride, ())
        for index, sigma in enumerate(self.sigmas):
            self.register_buffer(f"derivatives_{index}", derivatives(sigma))
            self.register_buffer(f"smooth_{index}", gaussian(sigma).expand(3, 1, -1, -1).clone())
            self.register_buffer(f"around_{index}", gaussian(2 * sigma / stride).expand(3, 1, -1, -1).clone())
        for index, (width, length) in enumerate(self.lines):
            self.register_buffer(f"lines_{index}", lines(width, length))

    @property
    def layers(self) -> list[list[Layer]]:
        """The layers of each branch, along one axis."""
        branches = []
        for index in range(len(self.sigmas)):
            first = same(self.get_buffer(f"smooth_{index}").shape[-1], self.stride)
            branches += [[first, same(self.get_buffer(f"around_{index}").shape[-1])]]
        branches += [[same(self.get_buffer(f"lines_{i}").shape[-1], self.stride)] for i in range(len(self.lines))]
        return branches

    def forward(self, colours: Tensor) -> Tensor:
        """Return the responses, N x C x h x w."""
        grey = colours.mean(1, keepdim=True)
        maps = []
        for index, sigma in enumerate(self.sigmas):
            maps.append(self._convolve(colours, f"smooth_{index}", groups=3))
            dy, dx, yy, xx, xy = torch.split(self._convolve(grey, f"derivatives_{index}"), 1, 1)
            maps.append(torch.sqrt(dx * dx + dy * dy + 1e-8) * sigma)
            maps += [value * sigma**2 for value in eigenvalues(yy, xx, xy)]
            kernel = self.get_buffer(f"around_{index}")
            tensor = functional.conv2d(
                torch.cat([dy * dy, dx * dx, dx * dy], 1), kernel, padding=kernel.shape[-1] // 2, groups=3
            )
            maps += [torch.sqrt(torch.relu(value) + 1e-8) * sigma for value in eigenvalues(*torch.split(tensor, 1, 1))]
        for index in range(len(self.lines)):
            responses = self._convolve(grey, f"lines_{index}")
            highest, lowest = responses.amax(1, keepdim=True), responses.amin(1, keepdim=True)
            mean = responses.mean(1, keepdim=True)
            spread = torch.sqrt(((responses - mean) ** 2).mean(1, keepdim=True) + 1e-8)
            maps += [highest, lowest, mean, spread, torch.relu(highest) - torch.relu(-lowest)]
        return torch.cat(maps, 1)

    def _convolve(self, image: Tensor, name: str, groups: int = 1) -> Tensor:
        kernel = self.get_buffer(name)
        return functional.conv2d(image, kernel, stride=self.stride, padding=kernel.shape[-1] // 2, groups=groups)


class Taps(nn.Module):
    """The five taps of normalised and padded images, coarse to fine."""

    def __init__(self) -> None:
        """Build them; the scales of the filters and of the random features are set by `measure`."""
        super().__init__()
        classifier, _ = build_classifier("mobilenet_v2", PRETRAINED)
        self.features = nn.Sequential(*list(classifier.get_submodule("features").children())[: max(ENDS.values()) + 1])
        self.filters = nn.ModuleDict({str(stride): Filters(stride) for stride in SIGMAS})
        self.random = nn.Conv2d(1, RANDOM, 1)
        self.register_buffer("color_std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, padded: Tensor) -> tuple[Tensor, ...]:
        """Return N x C x h x w for each tap."""
        maps = {}
        value = padded
        for index, block in enumerate(self.features):
            value = block(value)
            maps.update({stride: value for stride, end in ENDS.items() if end == index})
        colours = padded * self.get_buffer("color_std")
        for stride in SIGMAS:
            responses = (self._filters(stride)(colours) - self.get_buffer(f"mean_{stride}")) * self.get_buffer(
                f"gain_{stride}"
            )
            maps[stride] = torch.cat([maps[stride], responses], 1)
            if stride == min(SIGMAS):
                curved = torch.relu(self.random(torch.clamp(responses, -4, 4)))
                maps[stride] = torch.cat([maps[stride], curved], 1)
        return tuple(maps[stride] for stride in sorted(maps, reverse=True))

    def measure(self, images: Sequence[Tensor]) -> None:
        """Set the scales so that the responses on these images have mean 0 and variance 1."""
        for stride in SIGMAS:
            values = torch.cat(
                [self._filters(stride)(x * self.get_buffer("color_std"))[0].flatten(1) for x in images], 1
            )
            self.register_buffer(f"mean_{stride}", values.mean(1).view(-1, 1, 1))
            self.register_buffer(f"gain_{stride}", 1 / (values.std(1).view(-1, 1, 1) + 1e-6))
            if stride == min(SIGMAS):
                generator = torch.Generator().manual_seed(0)
                weight = torch.randn(RANDOM, len(values), 1, 1, generator=generator) * 1.5 / math.sqrt(len(values))
                self.random = nn.Conv2d(len(values), RANDOM, 1)
                self.random.weight.data = weight
                assert self.random.bias is not None
                self.random.bias.data = torch.randn(RANDOM, generator=generator) * 0.5

    def _filters(self, stride: int) -> Filters:
        filters = self.filters[str(stride)]
        assert isinstance(filters, Filters)
        return filters

    def taps(self) -> tuple[Tap, ...]:
        """The geometry of the taps along one axis, coarse to fine; both axes are the same."""
        layers: list[Layer] = []
        taps = {}
        for index, block in enumerate(self.features):
            for conv in block.modules():
                if isinstance(conv, nn.Conv2d) and conv.kernel_size[0] > 1:
                    padding = int(conv.padding[0])
                    layers.append(Layer(conv.kernel_size[0], conv.stride[0], (padding, padding)))
            for stride in (stride for stride, end in ENDS.items() if end == index):
                branches = self._filters(stride).layers if stride in SIGMAS else []
                fields = [Field().through(branch) for branch in branches]
                taps[stride] = Tap(reduce(Field.join, fields, Field().through(layers)), tuple(layers))
        return tuple(taps[stride] for stride in sorted(taps, reverse=True))


def same(kernel: int, stride: int = 1) -> Layer:
    """Return the layer of a centred filter."""
    return Layer(kernel, stride, (kernel // 2, kernel // 2))


def grid(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the y and x coordinates of a kernel."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    return y, x


def gaussian(sigma: float) -> Tensor:
    """Return a smoothing kernel, 1 x 1 x k x k, with the sum 1."""
    y, x = grid(max(1, round(3 * sigma)))
    kernel = np.exp(-(x * x + y * y) / (2 * sigma**2))
    return as_tensor((kernel / kernel.sum())[None, None])


def derivatives(sigma: float) -> Tensor:
    """Return the derivatives of a Gaussian by y, x, yy, xx and xy: 5 x 1 x k x k, each with the sum 0."""
    y, x = grid(max(1, round(3 * sigma)))
    g = np.exp(-(x * x + y * y) / (2 * sigma**2))
    g /= g.sum()
    second = [(v * v / sigma**4 - 1 / sigma**2) * g for v in (y, x)]
    kernels = [-y / sigma**2 * g, -x / sigma**2 * g, *(k - k.mean() for k in second), x * y / sigma**4 * g]
    return as_tensor(np.stack(kernels)[:, None])


def lines(width: float, length: float) -> Tensor:
    """Return second derivatives across elongated Gaussians in all directions: n x 1 x k x k, with the sum 0."""
    y, x = grid(round(2.5 * length))
    kernels = []
    for index in range(DIRECTIONS):
        angle = math.pi * index / DIRECTIONS
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        kernel = (across**2 / width**4 - 1 / width**2) * np.exp(
            -((along / length) ** 2) / 2 - (across / width) ** 2 / 2
        )
        kernel -= kernel.mean()
        kernels.append(kernel / np.abs(kernel).sum())
    return as_tensor(np.stack(kernels)[:, None])


def as_tensor(array: np.ndarray) -> Tensor:
    """Return a float32 tensor."""
    return torch.from_numpy(array.astype(np.float32))


def eigenvalues(yy: Tensor, xx: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Return the larger and the smaller eigenvalue of the symmetric matrices [[yy, xy], [xy, xx]]."""
    mean, half = (yy + xx) / 2, (yy - xx) / 2
    root = torch.sqrt(half * half + xy * xy + 1e-12)
    return mean + root, mean - root


@dataclass(frozen=True)
class Axis:
    """The padding along one axis."""

    geometry: SkipGeometry
    window: Window

    def table(self) -> PadTable:
        """Return the padding after the image, by its size."""
        most = sum(self.geometry.padding(1)) + 1 + 6 * self.window.period
        values = [self.geometry.padding(max(1, size))[1] for size in range(most)]
        table = PadTable(values, self.window.period)
        assert all(table(size) == values[size] for size in range(1, most))
        return table


def export_body(net: Taps, names: Sequence[str]) -> onnx.ModelProto:
    """Export the taps of `padded`, with large constants as float16."""
    file = io.BytesIO()
    free = {name: {0: "n", 2: f"{name}_h", 3: f"{name}_w"} for name in ("padded", *names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(2, 3, 160, 192),),
            file,  # type: ignore[arg-type]  # the tracing exporter takes a buffer, its stub does not say so
            input_names=["padded"],
            output_names=list(names),
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )
    return store_halves(onnx.load_from_string(file.getvalue()))


def assemble(net: Taps) -> onnx.ModelProto:
    """Return the file: padding, taps, and one score layer of zeros on each tap."""
    taps = net.taps()
    geometry = SkipGeometry(taps)
    window = Window.of(geometry.field)
    names = [f"tap_{index}" for index in range(len(taps))]
    body, before, axis = export_body(net, names), Graph("before_"), Axis(geometry, window)
    before.rename(add_padding(before, (IMAGENET_MEAN, IMAGENET_STD), [geometry.lead] * 2, [axis.table()] * 2), "padded")
    metadata = ModelMetadata(
        ModelInfo(LabelSet.named(["nothing"]), (window, window), exact=True),
        min(ENDS),
        (geometry.upsamplings[-1],) * 2,
        (geometry.lead,) * 2,
        None,
        {"weights": {"from": "mobilenet_v2.safetensors of fullconv"}, "licence": "MIT"},
    )
    image = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", 3])
    graph = helper.make_graph(
        [*before.nodes, *body.graph.node], "fullconv", [image], list(body.graph.output),
        [*before.constants.values(), *body.graph.initializer],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="fullconv")
    model.ir_version = 10
    with torch.no_grad():
        channels = [tap.shape[1] for tap in net(torch.zeros(1, 3, 64, 64))]
    zeros = tuple(ScoreLayer(np.zeros((1, c), np.float32), np.zeros(1, np.float32)) for c in channels)
    split = Split(model, tuple(names), zeros, tuple((up, up) for up in geometry.upsamplings[:-1]), metadata)
    print("channels:", *channels, "halo:", window.before, window.after)
    return compose(split, zeros, metadata)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    net = Taps().eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    pictures = [getattr(data, name)()[:400, :400] for name in PICTURES]
    pictures = [np.stack([picture] * 3, 2) if picture.ndim == 2 else picture for picture in pictures]
    images = [torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] for picture in pictures]
    with torch.no_grad():
        net.measure([(image / 255 - mean) / std for image in images])
    onnx.save(assemble(net), args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
