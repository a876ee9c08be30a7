"""Changed files of every kind end in an error of fullconv: no other exception, no crash, no more than 2 GiB and 20 s.

FUZZ_CASES=N runs N cases for each reader; `make fuzz` runs 20,000. FUZZ_SEED=N runs others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CASES = int(os.environ.get("FUZZ_CASES", "200"))
FUZZER = Path(__file__).with_name("fuzz_data.py")
# fmt: off
READERS = (
    "png", "jpeg", "tiff", "geotiff", "npy", "npz", "mat", "bmp, gif, webp, pnm",
    "labelme", "coco", "panoptic", "datumaro", "label studio", "cvat images", "cvat masks", "yolo", "supervisely",
    "labelme xml", "class tables", "dataset.yaml",
)
# fmt: on


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    if not hasattr(os, "fork") or not Path("/proc/self/statm").exists():
        pytest.skip("the limits of memory need Linux")
    command = [sys.executable, str(FUZZER), str(CASES), os.environ.get("FUZZ_SEED", "0")]
    source = Path(__file__).parents[1] / "src"
    paths = os.pathsep.join([str(source), str(FUZZER.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    return {report["reader"]: report for report in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("reader", READERS)
def test_changed_files_end_in_an_error_of_fullconv(reports: dict[str, dict[str, Any]], reader: str) -> None:
    assert reports[reader]["faults"] == []
    assert reports[reader]["cases"] == CASES


def test_every_reader_is_listed(reports: dict[str, dict[str, Any]]) -> None:
    assert set(reports) == set(READERS)
