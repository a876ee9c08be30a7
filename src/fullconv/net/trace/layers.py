"""Kernel, stride and padding of torch's convolutions and poolings, as `Layer`s of geometry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx, nn
from torch.nn.modules.padding import _CircularPadNd

from fullconv.geometry import Layer
from fullconv.net.trace.values import Call

__all__ = ["layers_of_call", "layers_of_module", "pads_circularly", "pads_of", "pools_whole_map"]


def layers_of_module(module: nn.Module) -> tuple[Layer, Layer] | None:
    """Return the vertical and the horizontal `Layer` of a convolution or pooling module; None for other modules."""
    if isinstance(module, nn.PixelUnshuffle):
        return (Layer(module.downscale_factor, module.downscale_factor),) * 2
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.MaxPool2d | nn.AvgPool2d):
        return None
    return _make_layers(
        module.kernel_size,
        module.stride,
        getattr(module, "padding", 0),
        getattr(module, "dilation", 1),
        bool(getattr(module, "ceil_mode", False)),
        module.output_padding if isinstance(module, nn.ConvTranspose2d) else None,
    )


def layers_of_call(kind: str, call: Call) -> tuple[Layer, Layer]:
    """Return the same for a function of torch (one of `operations.LAYERS`), read from its arguments."""
    arg = call.arg
    if kind == "pixel_unshuffle":
        return (Layer(int(arg(1, "downscale_factor")), int(arg(1, "downscale_factor"))),) * 2
    if kind == "conv2d":
        kernel = tuple(arg(1, "weight").shape[2:])
        return _make_layers(kernel, arg(3, "stride", 1), arg(4, "padding", 0), arg(5, "dilation", 1))
    if kind == "conv_transpose2d":
        kernel, extra = tuple(arg(1, "weight").shape[2:]), arg(5, "output_padding", 0)
        return _make_layers(kernel, arg(3, "stride", 1), arg(4, "padding", 0), arg(7, "dilation", 1), extra=extra)
    kernel = arg(1, "kernel_size")
    stride = arg(2, "stride") or kernel
    if kind == "max_pool2d":
        ceil = bool(arg(5, "ceil_mode", False))
        return _make_layers(kernel, stride, arg(3, "padding", 0), arg(4, "dilation", 1), ceil)
    return _make_layers(kernel, stride, arg(3, "padding", 0), 1, bool(arg(4, "ceil_mode", False)))


def pools_whole_map(call: Call) -> bool:
    """Return whether the call pools to one cell with a window that the forward computes from the map's size."""
    if call.module is not None or call.kind not in ("avg_pool2d", "max_pool2d") or call.result.shape[-2:] != (1, 1):
        return False
    kernel = call.node.args[1] if len(call.node.args) > 1 else call.node.kwargs.get("kernel_size")
    return any(isinstance(n, fx.Node) for n in (kernel if isinstance(kernel, tuple | list) else [kernel]))


def pads_of(call: Call) -> Sequence[int]:
    """Return the padding of F.pad or a padding module: (before, after) for each dimension, from the last one back."""
    pads: Sequence[int] = getattr(call.module, "padding", None) or call.arg(1, "pad")
    return pads


def pads_circularly(call: Call) -> bool:
    """Return whether the call pads a map with the cells at its opposite border."""
    if call.kind == "pad":
        return isinstance(call.module, _CircularPadNd) or call.arg(2, "mode") == "circular"
    return getattr(call.module, "padding_mode", "") == "circular"


def _make_layers(
    kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False, extra: Any = None
) -> tuple[Layer, Layer]:
    """Return both layers from arguments that are a number, a pair or torch's words for padding.

    `extra` is the output padding of a transposed convolution, None for any other layer.
    """

    def make_layer(axis: int) -> Layer:
        def pick(value: Any) -> int:
            value = value[axis if len(value) > 1 else 0] if isinstance(value, Sequence) else value
            return int(value)

        cells, step = pick(kernel), pick(dilation)
        if padding == "same":
            both = step * (cells - 1)
            pads = (both // 2, both - both // 2)
        else:
            pads = (0, 0) if padding == "valid" else (pick(padding),) * 2
        more = 0 if extra is None else pick(extra)
        return Layer(cells, pick(stride), pads, step, ceil_mode, extra is not None, more)

    return make_layer(0), make_layer(1)
