"""The published nets in plain torch, random weights for them, and a writer of their files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from nets import NARROW

Layers = dict[str, tuple[Tensor, ...]]
"""Layer names to weight and, if there is one, bias."""

HIDDEN, CLASSES = 12, 5
WIDTHS = (4, 6, 8, 10, 6)


# The published nets, from net.py of voc-fcn32s, -16s, -8s, -8s-atonce and -alexnet, and from voc_layers.py.


def conv(w: Layers, name: str, x: Tensor, pad: int = 0, stride: int = 1, groups: int = 1) -> Tensor:
    return functional.conv2d(x, *w[name], stride=stride, padding=pad, groups=groups)


def pool(x: Tensor, kernel: int = 2) -> Tensor:
    return functional.max_pool2d(x, kernel, 2, ceil_mode=True)


def crop(x: Tensor, offset: int, like: Tensor) -> Tensor:
    height, width = like.shape[2:]
    cropped = x[:, :, offset : offset + height, offset : offset + width]
    assert cropped.shape[2:] == like.shape[2:], "Caffe refuses a crop beyond the map"
    return cropped


def deconv(w: Layers, name: str, x: Tensor, stride: int) -> Tensor:
    return functional.conv_transpose2d(x, *w[name], stride=stride)


def lrn(x: Tensor) -> Tensor:
    """Caffe's local response norm over 5 channels, alpha 1e-4, beta 0.75."""
    square = functional.pad(x * x, (0, 0, 0, 0, 2, 2))
    total = sum(square[:, n : n + x.shape[1]] for n in range(5))
    return x / (1 + 1e-4 / 5 * total) ** 0.75


def caffe_input(rgb: np.ndarray) -> Tensor:
    bgr = rgb[:, :, ::-1].astype(np.float32) - np.array((104.00699, 116.66877, 122.67892), np.float32)
    return torch.from_numpy(bgr.transpose(2, 0, 1).copy())[None]


def vgg_maps(w: Layers, x: Tensor) -> dict[str, Tensor]:
    maps = {}
    for stage, count in enumerate((2, 2, 3, 3, 3), 1):
        for n in range(1, count + 1):
            x = conv(w, f"conv{stage}_{n}", x, pad=100 if (stage, n) == (1, 1) else 1).relu()
        maps[f"pool{stage}"] = x = pool(x)
    return maps


def scored(w: Layers, x: Tensor) -> Tensor:
    return conv(w, "score_fr", conv(w, "fc7", conv(w, "fc6", x).relu()).relu())


def fcn32s(w: Layers, data: Tensor) -> Tensor:
    return crop(deconv(w, "upscore", scored(w, vgg_maps(w, data)["pool5"]), 32), 19, data)


def fcn16s(w: Layers, data: Tensor) -> Tensor:
    maps = vgg_maps(w, data)
    up = deconv(w, "upscore2", scored(w, maps["pool5"]), 2)
    fuse = up + crop(conv(w, "score_pool4", maps["pool4"]), 5, up)
    return crop(deconv(w, "upscore16", fuse, 16), 27, data)


def fcn8s(w: Layers, data: Tensor, scale4: float = 1, scale3: float = 1) -> Tensor:
    maps = vgg_maps(w, data)
    up = deconv(w, "upscore2", scored(w, maps["pool5"]), 2)
    fuse = up + crop(conv(w, "score_pool4", maps["pool4"] * scale4), 5, up)
    up = deconv(w, "upscore_pool4", fuse, 2)
    fuse = up + crop(conv(w, "score_pool3", maps["pool3"] * scale3), 9, up)
    return crop(deconv(w, "upscore8", fuse, 8), 31, data)


def alexnet(w: Layers, data: Tensor) -> Tensor:
    x = lrn(pool(conv(w, "conv1", data, pad=100, stride=4).relu(), 3))
    x = lrn(pool(conv(w, "conv2", x, pad=2, groups=2).relu(), 3))
    x = conv(w, "conv3", x, pad=1).relu()
    x = conv(w, "conv4", x, pad=1, groups=2).relu()
    x = pool(conv(w, "conv5", x, pad=1, groups=2).relu(), 3)
    return crop(deconv(w, "upscore", scored(w, x), 32), 18, data)


PUBLISHED: dict[str, Callable[[Layers, Tensor], Tensor]] = {
    "fcn32s": fcn32s,
    "fcn16s": fcn16s,
    "fcn8s": fcn8s,
    "fcn8s-atonce": lambda w, data: fcn8s(w, data, 0.01, 0.0001),
    "alexnet": alexnet,
}


# Random weights for them, in few channels.


def conv_shapes(net: str) -> dict[str, tuple[int, ...]]:
    if net == "alexnet":
        one, two, three, four, five = WIDTHS
        return {
            "conv1": (one, 3, 11, 11),
            "conv2": (two, one // 2, 5, 5),
            "conv3": (three, two, 3, 3),
            "conv4": (four, three // 2, 3, 3),
            "conv5": (five, four // 2, 3, 3),
            "fc6": (HIDDEN, five, 6, 6),
        }
    widths = [width for width in NARROW if isinstance(width, int)]
    names = [f"conv{s}_{n}" for s, last in enumerate((2, 2, 3, 3, 3), 1) for n in range(1, last + 1)]
    shapes = {name: (out, into, 3, 3) for name, out, into in zip(names, widths, [3, *widths], strict=False)}
    return {**shapes, "fc6": (HIDDEN, widths[-1], 7, 7)}


def upscores(net: str) -> dict[str, tuple[int, int]]:
    """Return the kernel and stride of the published upsampling layers."""
    if net in ("fcn32s", "alexnet"):
        return {"upscore": (64 if net == "fcn32s" else 63, 32)}
    if net == "fcn16s":
        return {"upscore2": (4, 2), "upscore16": (32, 16)}
    return {"upscore2": (4, 2), "upscore_pool4": (4, 2), "upscore8": (16, 8)}


def bilinear(kernel: int, classes: int = CLASSES) -> Tensor:
    factor = (kernel + 1) // 2
    ramp = 1 - (torch.arange(kernel) - (factor - 1 if kernel % 2 else factor - 0.5)).abs() / factor
    return torch.eye(classes)[:, :, None, None] * torch.outer(ramp, ramp)


def random_layers(net: str, seed: int = 0, learned: bool = False) -> Layers:
    """Return random layers in He's scale, so that the logits depend on every layer."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    shapes = conv_shapes(net) | {"fc7": (HIDDEN, HIDDEN, 1, 1), "score_fr": (CLASSES, HIDDEN, 1, 1)}
    for stage, pooled in ((4, "pool4"), (3, "pool3")):
        if f"upscore_{pooled}" in upscores(net) or (pooled, net) == ("pool4", "fcn16s") or "8s" in net:
            shapes[f"score_{pooled}"] = (CLASSES, conv_shapes(net)[f"conv{stage}_3"][0], 1, 1)
    layers: Layers = {}
    for name, shape in shapes.items():
        layers[name] = normal(*shape) * (2 / np.prod(shape[1:])) ** 0.5, normal(shape[0]) * 3
    if net == "fcn8s-atonce":
        for name, factor in (("score_pool4", 1e2), ("score_pool3", 1e4)):
            layers[name] = layers[name][0] * factor, layers[name][1]
    for name, (kernel, _) in upscores(net).items():
        weight = bilinear(kernel)
        layers[name] = (weight + 0.05 * normal(*weight.shape) if learned else weight,)
    return layers


def named(layers: Layers) -> dict[str, Tensor]:
    kinds = ("weight", "bias")
    pairs = ((name, zip(kinds, values, strict=False)) for name, values in layers.items())
    return {f"{name}.{kind}": value for name, parameters in pairs for kind, value in parameters}


# A writer of .caffemodel files, by the wire format and caffe.proto.


def varint(number: int) -> bytes:
    head, rest = number & 0x7F, number >> 7
    return bytes([head | 0x80]) + varint(rest) if rest else bytes([head])


def entry(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(value: Tensor, legacy: bool, packed: bool, double: bool) -> bytes:
    if legacy:
        shape = (1,) * (4 - value.ndim) + tuple(value.shape)
        head = b"".join(entry(number, length) for number, length in enumerate(shape, 1))
    elif packed:
        head = entry(7, entry(1, b"".join(map(varint, value.shape))))
    else:
        head = entry(7, b"".join(entry(1, length) for length in value.shape))
    number, wire, size = (8, 1, 8) if double else (5, 5, 4)
    data = value.numpy().astype("<f8" if double else "<f4").tobytes()
    if packed:
        return head + entry(number, data)
    key = varint(number << 3 | wire)
    return head + b"".join(key + data[at : at + size] for at in range(0, len(data), size))


def caffemodel(
    layers: Mapping[str, tuple[Tensor, ...]], old: bool = False, packed: bool = True, double: bool = False
) -> bytes:
    """Return a NetParameter, with a layer without blobs and fields that a reader must skip."""
    name, kind, blobs, layer = (4, 5, 6, 2) if old else (1, 2, 7, 100)
    type_name: int | str = 4 if old else "Convolution"
    ratio = varint(5 << 3 | 5) + struct.pack("<f", 1.0)  # loss_weight, when a layer is new
    parts = [entry(1, "FCN"), entry(layer, entry(name, "data") + entry(kind, 5 if old else "Python"))]
    for layer_name, values in layers.items():
        body = (
            entry(name, layer_name) + entry(kind, type_name) + (b"" if old else ratio + entry(6, entry(3, b"\0\0\0\0")))
        )
        body += b"".join(entry(blobs, blob(value, old, packed, double)) for value in values)
        parts.append(entry(layer, body))
    return b"".join(parts)


def as_written(suffix: str, layers: Layers, path: Path) -> Path:
    if suffix == "caffemodel":
        path.write_bytes(caffemodel(layers))
    elif suffix == "npz":
        np.savez(path, **{name.replace(".", "/"): value.numpy() for name, value in named(layers).items()})
    elif suffix == "pth":
        torch.save(named(layers), path)
    else:
        save_file(named(layers), path)
    return path
