"""Cores and memory are limited by the machine, the process's binding and its control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullconv.cores import free_memory, usable_cores


def put_groups(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("files", "groups", "number"),
    [
        ({}, "", 6),
        ({"cpu.max": "max 100000"}, "0::/", 6),
        ({"cpu.max": "150000 100000"}, "0::/", 2),
        ({"cpu.max": "50000 100000"}, "", 1),
        ({"cpu.max": "900000 100000"}, "0::/", 6),
        ({"system.slice/x.service/cpu.max": "200000 100000"}, "0::/system.slice/x.service", 2),
        ({"user.slice/cpu.max": "100000 100000", "user.slice/a/cpu.max": "max 100000"}, "0::/user.slice/a", 1),
        ({"system.slice/other.service/cpu.max": "100000 100000"}, "0::/system.slice/x.service", 6),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/", 6),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, "", 3),
        ({"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, "7:memory:/a\n3:cpu:/a", 4),
    ],
)
def test_usable_cores_is_the_smallest_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], groups: str, number: int
) -> None:
    put_groups(tmp_path, files)
    if groups:
        (tmp_path / "groups").write_text(groups + "\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert usable_cores(tmp_path, tmp_path / "groups") == number


@pytest.mark.parametrize(
    ("files", "groups", "number"),
    [
        ({}, "", 6000),
        ({"memory.max": "max", "memory.current": "70", "memory.stat": "inactive_file 20"}, "0::/", 6000),
        ({"memory.max": "100", "memory.current": "70", "memory.stat": "anon 50\ninactive_file 20"}, "0::/", 50),
        ({"memory.max": "100", "memory.current": "170", "memory.stat": "inactive_file 20"}, "0::/", 0),
        ({f"a/memory.{n}": t for n, t in (("max", "90"), ("current", "50"), ("stat", "x 1"))}, "0::/a/b", 40),
        (
            {
                "memory/a/memory.limit_in_bytes": "100",
                "memory/a/memory.usage_in_bytes": "70",
                "memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 20",
            },
            "4:memory:/a\n3:cpu:/b",
            50,
        ),
    ],
)
def test_free_memory_is_that_of_the_machine_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], groups: str, number: int
) -> None:
    put_groups(tmp_path, files)
    (tmp_path / "groups").write_text(groups + "\n")
    pages = {"SC_PAGE_SIZE": 1000, "SC_AVPHYS_PAGES": 6}
    monkeypatch.setattr("os.sysconf", pages.__getitem__, raising=False)
    meminfo = tmp_path / "meminfo"
    assert free_memory(tmp_path, tmp_path / "groups", meminfo) == number
    meminfo.write_text("MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:       7 kB\n")  # with cached files
    assert free_memory(tmp_path, tmp_path / "groups", meminfo) == (7 << 10 if number == 6000 else number)
