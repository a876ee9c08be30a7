"""`fullconv export --profile bioimage`: the fields of the specification, and a network that gives its test output."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from fullconv.geometry.tiles import Window
from fullconv.onnx_graph.exported import read_exported, write_exported
from fullconv.packages.bioimage import choose_blocks
from fullconv.packages.export import export_profile
from fullconv.runtime.load import load_runner
from fullconv.runtime.models import bundled
from refusals import refuses

REQUIRED = ("format_version", "type", "name", "description", "authors", "cite", "license", "documentation")
"""The fields of a model of specification 0.5 that bioimage.io asks for, aside from inputs, outputs and weights."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bioimage") / "street"
    assert export_profile("street", folder, profile="bioimage", licence="MIT", author="A Person").notes == ()
    return folder


def read(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((folder / "rdf.yaml").read_text(encoding="utf-8"))
    return values


def test_the_package_has_the_fields_of_the_specification(package: Path) -> None:
    values = read(package)
    assert set(REQUIRED) <= set(values)
    assert values["type"] == "model"
    assert re.fullmatch(r"0\.5\.\d+", values["format_version"])
    assert re.fullmatch(r"[\w+() -]{5,128}", values["name"], re.ASCII)
    assert (values["license"], values["authors"]) == ("MIT", [{"name": "A Person"}])
    assert all({"text", "doi"} <= set(entry) for entry in values["cite"])
    (given,), (made,) = values["inputs"], values["outputs"]
    for tensor in (given, made):
        assert [axis["type"] for axis in tensor["axes"]] == ["batch", "channel", "space", "space"]
        assert [axis.get("id") for axis in tensor["axes"][2:]] == ["y", "x"]
        assert tensor["data"]["type"] == "float32"
    assert made["axes"][1]["channel_names"] == list(load_runner(bundled("street")).info.labels.class_names)
    page = (package / "README.md").read_text(encoding="utf-8")
    assert "## Validation\n\nThis file has no scores." in page


def test_scores_are_on_the_page(tmp_path: Path) -> None:
    model, metadata = read_exported(bundled("street"))
    scores = {"mean_iou": 0.72, "per_class_iou": {"sky": 0.935, "a|b": None}}
    write_exported(tmp_path / "scored.onnx", model, replace(metadata, notes={**metadata.notes, "scores": scores}))
    export_profile(tmp_path / "scored.onnx", tmp_path / "out", profile="bioimage", licence="MIT", author="A Person")
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "a mean IoU of 72.0 %." in page
    assert "| sky | 93.5 % |\n| a\\|b | absent |" in page


def test_every_file_is_named_with_its_hash(package: Path) -> None:
    text = (package / "rdf.yaml").read_text(encoding="utf-8")
    named = re.findall(r"source: (\S+)\s+sha256: (\w+)", text)
    assert {name for name, _ in named} == {path.name for path in package.iterdir()} - {"rdf.yaml"}
    for name, sha256 in named:
        assert hashlib.sha256((package / name).read_bytes()).hexdigest() == sha256


def test_the_network_gives_the_test_output_and_our_labels(package: Path) -> None:
    import onnxruntime

    values = read(package)
    session = onnxruntime.InferenceSession(str(package / "weights.onnx"), providers=["CPUExecutionProvider"])
    given, expected = (np.load(package / f"test_{name}.npy") for name in ("input", "output"))
    (output,) = session.run([values["outputs"][0]["id"]], {values["inputs"][0]["id"]: given})
    np.testing.assert_allclose(output, expected, atol=1e-5)
    np.testing.assert_allclose(expected.sum(1), 1, atol=1e-5)
    (opset,) = {entry.version for entry in onnx.load(package / "weights.onnx").opset_import}
    assert values["weights"]["onnx"]["opset_version"] == opset
    labels = load_runner(bundled("street")).label_maps(given.transpose(0, 2, 3, 1).astype(np.uint8))
    np.testing.assert_array_equal(expected.argmax(1), labels)
    assert len(np.unique(labels)) > 1
    for axis, size in zip(values["inputs"][0]["axes"][2:], given.shape[2:], strict=True):
        assert (size - axis["size"]["min"]) % axis["size"]["step"] == 0
        assert size >= axis["size"]["min"]


def test_blocks_of_the_allowed_sizes_start_on_the_grid_and_cover_the_halo(package: Path) -> None:
    window = load_runner(bundled("street")).info.windows[0]
    size = read(package)["inputs"][0]["axes"][2]["size"]
    halo = read(package)["outputs"][0]["axes"][2]["halo"]
    assert halo >= max(window.before, window.after)
    for n in range(4):
        block = size["min"] + n * size["step"]
        assert block > 2 * halo
        assert (block - 2 * halo) % window.period == halo % window.period == 0
    assert choose_blocks((Window(0, 0, 1), Window(0, 0, 1))) == (1, 1)
    assert choose_blocks((Window(5, 9, 4), Window(1, 1, 6))) == (12, 12)


def test_other_values_are_scaled_by_the_preprocessing(tmp_path: Path) -> None:
    model, metadata = read_exported(bundled("street"))
    given = replace(metadata.info.input, value_range=(100.0, 3000.0))
    info = replace(metadata.info, exact=False, input=given)
    write_exported(tmp_path / "16.onnx", model, replace(metadata, info=info))
    written = export_profile(tmp_path / "16.onnx", tmp_path / "out.zip", profile="bioimage")
    assert [note.split(":")[0].split(",")[0] for note in written.notes] == [
        "the network has global context",
        "the package names no author",
        "the package names no licence",
    ]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        values = yaml.safe_load(archive.read("rdf.yaml"))
        image, expected = (np.load(io.BytesIO(archive.read(f"test_{name}.npy"))) for name in ("input", "output"))
    assert values["name"] == "fullconv 16"
    assert "license" not in values
    assert all("halo" not in axis for axis in values["outputs"][0]["axes"])
    assert values["inputs"][0]["data"]["range"] == [100, 3000]
    (scale,) = values["inputs"][0]["preprocessing"]
    pixels = np.round(image * scale["kwargs"]["gain"] + scale["kwargs"]["offset"]).astype(np.uint8)
    assert (image.min() >= 100, image.max() > 255) == (True, True)
    labels = load_runner(bundled("street")).label_maps(pixels.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(expected.argmax(1), labels)


def test_arguments_that_the_profile_does_not_know_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    with refuses("licence-not-spdx", "do what you want"):
        export_profile("street", out, profile="bioimage", licence="do what you want")
    with refuses("author-not-a-name", "a/b"):
        export_profile("street", out, profile="bioimage", author="a/b")
    with refuses("argument-of-other-profile", "resolution"):
        export_profile("street", out, profile="bioimage", resolution=10)
    with refuses("argument-of-other-profile", "author"):
        export_profile("street", profile="deepness", author="A Person")
    with refuses("impossible-resolution", "-1"):
        export_profile("street", profile="deepness", resolution=-1)
    with refuses("not-onnx", out):
        export_profile("street", out, profile="deepness")
    with refuses("unknown-profile", "coreml", "deepness, bioimage"):
        export_profile("street", out, profile="coreml")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
