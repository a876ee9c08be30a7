"""Threads follow what the process may use, not what the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullconv import cores


@pytest.mark.parametrize(
    ("files", "own", "number"),
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
def test_the_narrowest_quota_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], own: str, number: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    if own:
        (tmp_path / "own").write_text(own + "\n")
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert cores.usable_cores() == number
