"""Replace ReLU6 by ReLU, which ONNX Runtime computes inside its convolutions; ReLU6 is a pass of its own."""

from __future__ import annotations

from torch import nn

from fullconv.errors import UsageError

__all__ = ["unclip"]


def unclip(net: nn.Module, model: str) -> None:
    """Replace every ReLU6 of `net` by a ReLU, in place. Raises UsageError, which names `model`, if it has none."""
    clipped = [name for name, module in net.named_modules() if isinstance(module, nn.ReLU6)]
    if not clipped:
        message = f"{model} has no ReLU6; leave out --activation"
        raise UsageError(message, code="no-relu6")
    for name in clipped:
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, nn.ReLU(inplace=True))
