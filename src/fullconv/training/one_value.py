"""Batch norm where a batch has one value per channel, which has no variance."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from fullconv.errors import UsageError

__all__ = ["allow_one_value", "explain_one_value"]

logger = logging.getLogger(__name__)

NORMS = nn.modules.batchnorm._BatchNorm


def allow_one_value(net: nn.Module) -> None:
    """Let the batch norms of `net` use their running mean and variance where a batch has one value per channel.

    That is so for single crops of 32 pixels, whose maps at stride 32 have one cell. Copies of `net` do the same. The
    first such batch is logged.
    """
    logged: list[str] = []

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        values = inputs[0].numel() // max(1, inputs[0].shape[1])
        if values == 1 and module.training and module.running_mean is not None:
            module.eval()
            module.resumes_training = True  # type: ignore[assignment]
            if not logged:
                logged.append("")
                logger.warning(
                    "warning: some batch norms get one value per channel from a batch. They use their running mean and "
                    "variance for it. Larger crops (--crop) or batches (--batch) avoid this."
                )

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        if getattr(module, "resumes_training", False):
            module.resumes_training = False  # type: ignore[assignment]
            module.train()

    for module in net.modules():
        if isinstance(module, NORMS):
            module.register_forward_pre_hook(before)
            module.register_forward_hook(after, always_call=True)


@contextmanager
def explain_one_value(size: tuple[int, ...]) -> Iterator[None]:
    """Turn torch's error about one value per channel into UsageError. `size` is batch, height, width."""
    try:
        yield
    except ValueError as error:
        if "Expected more than 1" not in str(error):
            raise
        count, height, width = size
        message = (
            f"a normalization layer gets one value per channel from a batch of {count} image{'s' * (count > 1)} of "
            f"{height}x{width} pixels; use larger crops (--crop) or batches (--batch)"
        )
        raise UsageError(message, code="one-value-per-channel") from error
