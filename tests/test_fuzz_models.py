"""Damaged model files are read or refused in one sentence: no other exception, crash, hang or flood of memory.

FUZZ_CASES sets the number of cases for each reader; `make fuzz` runs 20,000.
"""

from __future__ import annotations

import os
import sys

import pytest

from fuzz_models import READERS, find

CASES = int(os.environ.get("FUZZ_CASES", "200"))

NEEDS = {
    "onnx": ["onnx"],
    "safetensors": ["torch", "torchvision", "safetensors"],
    "npz": ["torch", "torchvision", "safetensors"],
    "pth": ["torch", "torchvision", "safetensors"],
    "caffemodel": ["torch", "torchvision", "safetensors"],
    "ckpt": ["torch", "lightning"],
}


@pytest.mark.fuzz
@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of the memory")
@pytest.mark.parametrize("reader", READERS)
def test_damaged_model_files_end_in_a_sentence(reader):
    for package in NEEDS.get(reader, []):
        pytest.importorskip(package)
    findings = find(reader, CASES)
    assert not findings, "\n".join(findings[:20])
