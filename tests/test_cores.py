"""The number of cores is limited by the process's binding and by the quotas of its control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullconv.cores import usable_cores


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
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    if groups:
        (tmp_path / "groups").write_text(groups + "\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert usable_cores(tmp_path, tmp_path / "groups") == number
