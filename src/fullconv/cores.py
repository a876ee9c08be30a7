"""The processor cores and the memory that this process may use, and its number among the processes of a training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["free_memory", "is_main_process", "is_started_by_others", "usable_cores"]

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROCESS_CGROUPS = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")


def usable_cores(root: Path = CGROUP_ROOT, groups: Path = PROCESS_CGROUPS) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the smaller of two numbers: the cores that the process is bound to, and the CPU quota of its container or
    service. `root` is the folder of all control groups; `groups` is the file that lists those of the process.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *_read_quotas(root, groups)]))


def _read_quotas(root: Path, groups: Path) -> Iterator[int]:
    """Yield the CPU quotas of the process's control groups and their parents, in cores, rounded up.

    Both versions of control groups are read.
    """
    for folder in _list_group_folders(root, groups, "cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                quota, period = " ".join((folder / name).read_text() for name in names).split()
                if int(quota) > 0:
                    yield -(-int(quota) // int(period))
            except (OSError, ValueError):  # the file does not exist, or it says "max" (no limit)
                continue


def free_memory(root: Path = CGROUP_ROOT, groups: Path = PROCESS_CGROUPS, meminfo: Path = MEMINFO) -> int:
    """Return the bytes of memory that this process may still use; 4 GiB if the system does not report it.

    It is the smaller of two numbers: the memory of the machine that is free or holds cached files, and the rest of the
    memory of its container or service. `root` and `groups` are as in `usable_cores`; `meminfo` is the system's file.
    """
    return max(0, min([_read_available(meminfo), *_read_free_memory(root, groups)]))


def _read_available(meminfo: Path) -> int:
    """Return MemAvailable. SC_AVPHYS_PAGES, which leaves out cached files, takes its place where there is none."""
    with suppress(OSError, ValueError, KeyError):
        values = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(values["MemAvailable"].split()[0]) << 10
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return 4 << 30


def _read_free_memory(root: Path, groups: Path) -> Iterator[int]:
    """Yield the bytes that the process's control groups and their parents may still use.

    Cached files count as free, because the system drops them when memory is needed.
    """
    versions = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for folder in _list_group_folders(root, groups, "memory"):
        for limit, usage, cached in versions:
            try:
                most, used = (int((folder / name).read_text()) for name in (limit, usage))
                numbers = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                yield most - used + int(numbers.get(cached, 0))
            except (OSError, ValueError):  # the file does not exist, or it says "max" (no limit)
                continue


def _list_group_folders(root: Path, groups: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the process's control groups that have this controller, each followed by its parents.

    Inside a container the root folder is the container's control group.
    """
    yield from (root, root / controller)
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, group = line.partition(":")
        controllers, _, path = group.partition(":")
        if not controllers or controller in controllers.split(","):
            base = root / (controller if controllers else "")
            inner = Path(path.lstrip("/"))
            yield from (base / part for part in (inner, *inner.parents))


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
