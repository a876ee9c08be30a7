"""The script for a GPU runs on the CPU with tiny sizes: every part has its rows, and ratios are to one network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

pytestmark = [
    pytest.mark.filterwarnings("ignore::Warning"),
    pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmarks are not in the sdist"),
]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    yield gpu
    sys.modules.pop("gpu")


def test_every_part_is_measured(gpu, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, file = ("FCN-8s on mobilenet_v2", gpu.REFERENCE), tmp_path / "rows.json"
    small = ["--device=cpu", "--size=64", "--batch=2", "--rounds=1", f"--json={file}"]
    gpu.main([*small, "--parts", "gpu", "onnx", "cpu", "--nets", *few])
    rows = json.loads(file.read_text())
    assert not [row["problem"] for row in rows if row["problem"] and row["device"] == "cpu"]
    measured = {(row["part"], row["net"]) for row in rows if row["milliseconds"]}
    nets = {(part, net) for part in ("training step", "prediction") for net in few}
    assert measured == nets | {("ONNX Runtime, one image", "street")}
    text = capsys.readouterr().out
    assert f"| {gpu.REFERENCE} | cpu | eager | " in text
    assert [line.split(" | ")[4] for line in text.splitlines() if gpu.REFERENCE in line] == ["1.00", "1.00"]


def test_a_row_that_fails_or_has_no_time_says_why(gpu, monkeypatch) -> None:
    def broken() -> torch.nn.Module:
        raise RuntimeError("no kernel\nfor this device")

    monkeypatch.setattr(gpu, "nets", lambda: {"broken": broken})
    device = torch.device("cpu")
    for deadline, problem in ((float("inf"), "RuntimeError: no kernel"), (0.0, "no time was left")):
        (row,) = gpu.measure_nets("prediction", gpu.Setting(device, 32, 1, 1, deadline), device, [""])
        assert (row.milliseconds, row.problem) == (None, problem)
        assert problem in gpu.make_table("prediction", [row])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_machine_without_a_gpu_is_one_sentence(gpu) -> None:
    with pytest.raises(SystemExit, match="torch finds no GPU here"):
        gpu.main([])
