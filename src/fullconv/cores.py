"""How many processor cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["usable_cores"]

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The cores that the process is bound to, or the quota of its container or service, whichever are fewer."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *_quotas()]))


def _quotas() -> Iterator[int]:
    """The quotas of control groups of version 2 or 1, of its own and of those around it, in whole cores, rounded up."""
    for folder in _folders():
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                quota, period = " ".join((folder / name).read_text() for name in names).split()
                if int(quota) > 0:
                    yield -(-int(quota) // int(period))
            except (OSError, ValueError):  # no such file, or "max": no limit
                continue


def _folders() -> Iterator[Path]:
    """The folders of the process's control groups, from each up to its root; a container sees its own as the root."""
    yield from (CGROUPS, CGROUPS / "cpu")
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, group = line.partition(":")
        controllers, _, path = group.partition(":")
        if controllers in ("", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
            root = CGROUPS / ("cpu" if controllers else "")
            inner = Path(path.lstrip("/"))
            yield from (root / part for part in (inner, *inner.parents))
