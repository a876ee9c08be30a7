"""The stages of a backbone: its layers by the stride of their maps."""

from __future__ import annotations

from fullconv.net.fcn.network import FCN

__all__ = ["STRIDES", "count_stages_above"]

STRIDES = (2, 4, 8, 16, 32)
"""The strides that stages can have; layers of stride 1 are a stage, too."""


def count_stages_above(net: FCN) -> dict[str, int]:
    """Return how many coarser stages the backbone has above each of its modules, by the name of the module.

    A dilated backbone has fewer stages, because its later layers keep one stride.
    """
    finer = {stride: set(net.fine_modules(stride)) for stride in (*STRIDES, 2 * STRIDES[-1])}
    existing = [stride for stride in STRIDES if finer[2 * stride] - finer[stride]]
    return {name: sum(name in finer[stride] for stride in existing) for name in finer[2 * STRIDES[-1]]}
