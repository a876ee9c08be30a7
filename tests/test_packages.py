"""Files for publication name no folder of the computer that trained the network, and licences are those of SPDX."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("onnx")

from fullconv.onnx_graph.exported import read_exported, write_exported
from fullconv.packages import page
from fullconv.packages.bioimage import _find_licence
from fullconv.packages.export import export_profile, export_web
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled
from fullconv.runtime.onnx_bytes.scan import scan_onnx
from refusals import refuses

NOTES = {
    "network": {"model": "/home/ada/secret/net.py:make", "num_classes": 11},
    "scores": {"mean_iou": 0.5, "data": "/home/ada/secret/scans/"},
    "weights": {
        "file": r"C:\Users\ada\secret\run",
        "from": "/home/ada/secret/vgg.pth",
        "start": "secret/first",
        "step": 7,
    },
    "licence": "CC-BY",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "private.onnx"
    model, metadata = read_exported(bundled("street"))
    write_exported(path, model, replace(metadata, notes=NOTES))
    return path


def test_bioimage_package_names_no_folder_and_no_unlisted_licence(source: Path, tmp_path: Path) -> None:
    written = export_profile(source, tmp_path / "package.ZIP", profile="bioimage", author="A Person")
    assert [note.split(":")[0] for note in written.notes] == ["the package names no licence"]
    with zipfile.ZipFile(written.path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert not any(b"secret" in content for content in contents.values())
    values = yaml.safe_load(contents["rdf.yaml"])
    notes = values["config"]["fullconv"]
    assert (notes["network"]["model"], notes["scores"]["data"]) == ("net.py:make", "scans")
    assert notes["weights"] == {"file": "run", "from": "vgg.pth", "start": "first", "step": 7}
    assert "license" not in values


def test_deepness_file_names_no_folder(source: Path, tmp_path: Path) -> None:
    written = export_profile(source, tmp_path / "map.ONNX", profile="deepness")
    assert b"secret" not in written.path.read_bytes()
    assert "net.py:make" in scan_onnx(written.path)["fullconv"]


def test_page_names_no_folder(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "find_archive", lambda runtime: runtime)
    monkeypatch.setattr(page, "read_archive", lambda archive: {})
    export_web(source, tmp_path / "page")
    model = tmp_path / "page" / "model.onnx"
    assert b"secret" not in model.read_bytes()
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3), np.uint8)
    runner, original = load_runner(model), load_runner(source)
    np.testing.assert_array_equal(runner.logits(image), original.logits(image))
    assert runner.info == original.info


def test_a_licence_must_be_in_the_list_of_spdx(tmp_path: Path) -> None:
    for licence in ("CC-BY", "MIT OR Apache-2.0", "LicenseRef-mine", "MIT+"):
        with refuses("licence-not-spdx", licence):
            export_profile("street", tmp_path / "out", profile="bioimage", licence=licence)
    assert [_find_licence(text) for text in ("mit", "cc-by-4.0", "None")] == ["MIT", "CC-BY-4.0", None]
