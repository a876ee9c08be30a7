"""The processes of a training on several devices, as torchrun, SLURM or fullconv number them."""

from __future__ import annotations

import os

__all__ = ["is_main_process", "is_started_by_others"]


def is_main_process() -> bool:
    """Return whether this process writes and prints: the first one of a training, or the only one."""
    return _rank() == 0


def is_started_by_others() -> bool:
    """Return whether torchrun or SLURM has started this process as one of several."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS") or 1) > 1


def _rank() -> int:
    """Return the rank of this process: torchrun's, or that of SLURM in a job step of several tasks."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ.get("RANK", os.environ["LOCAL_RANK"]))
    return int(os.environ.get("SLURM_PROCID") or 0) if is_started_by_others() else 0
