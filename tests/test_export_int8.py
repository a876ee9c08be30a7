"""`fullconv export` reads the data as the training did, calibrates on small parts, and keeps the exact model.onnx."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

pytest.importorskip("torch")

import nets
from fullconv import api
from fullconv.data.dataset import Sample
from fullconv.data.layouts import find_dataset
from fullconv.data.reading import ReadingOptions
from fullconv.images import write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.spec import NetSpec
from fullconv.onnx_export import quantize as quantize_module
from fullconv.onnx_export.quantize import MAX_SIDE, Quantized, quantize
from fullconv.runtime.models import bundled
from refusals import refuses

LABELS = LabelSet.named(["a", "b"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that held out the images whose names begin with b."""
    spec = NetSpec("digits", 2, 8)
    folder = tmp_path / "run"
    folder.mkdir()
    state = nets.lively(nets.make(spec)).state_dict()
    save_net(folder / "best.safetensors", state, Saved(spec, LABELS))
    options = {"val_by": "images/(.)", "val_share": 0.4}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"reading": {"options": options}}))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for index in range(10):
        name = f"{'b' if index < 4 else 'a'}{index}.png"
        write_image(tmp_path / "data" / "images" / name, random.integers(0, 256, (48, 64, 3), np.uint8))
        write_label_map(tmp_path / "data" / "masks" / name, random.integers(0, 2, (48, 64), np.uint8), LABELS)
    (tmp_path / "data" / "classes.txt").write_text("a\nb\n")
    return tmp_path / "data"


def test_int8_reads_the_data_as_the_training_did(
    run: Path, data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def note(source: Path, target: Path, dataset: quantize_module.DataSet, force: bool) -> Quantized:
        seen.append({sample.image.name for sample in dataset.split("val")})
        target.write_bytes(source.read_bytes())
        return Quantized(0.5, 0.5, 1.0, 1.0)

    monkeypatch.setattr("fullconv.onnx_export.file.quantize", note)
    with caplog.at_level(logging.INFO):
        api.export(run, int8=True, data=data)
    held_out = find_dataset(data, ReadingOptions(val_by="images/(.)", val_share=0.4)).split("val")
    assert seen == [{sample.image.name for sample in held_out}]
    assert len({name[0] for name in seen[0]}) == 1
    assert f"{data}: " in caplog.text
    assert [path.name for path in run.glob("*.onnx")] == ["model-int8.onnx"]


def test_other_numbers_do_not_replace_the_exact_file(run: Path) -> None:
    exact = api.export(run).path
    content = exact.read_bytes()
    assert api.export(run, weights_dtype="float16").path == run / "model-float16.onnx"
    assert api.export(run / "best.safetensors", weights_dtype="float16").path == run / "best-float16.onnx"
    assert exact.read_bytes() == content


def test_an_exported_model_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = api.export(run, run / "EXACT.ONNX").path
    with refuses("exported-already", exact, "--profile"):
        api.export(exact)
    with refuses("exported-already", "street is exported"):
        api.export("street")
    monkeypatch.chdir(run.parent)
    run.rename("street")
    assert api.export("street").path == Path("street/model.onnx")  # a run folder of that name


def test_large_images_are_calibrated_and_timed_at_their_centre(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = find_dataset(data, ReadingOptions(val_by="images/(.)", val_share=0.4))
    wide = np.zeros((8, MAX_SIDE + 10, 3), np.uint8)
    wide[:, 5:-5] = 200
    write_image(tmp_path / "wide.png", wide)
    sample = replace(dataset.split("val")[0], image=tmp_path / "wide.png")
    centre = quantize_module._read_centre(dataset, sample)
    np.testing.assert_array_equal(centre, np.full((1, 8, MAX_SIDE, 3), 200))
    monkeypatch.setattr(quantize_module, "MAX_SIDE", 40)
    shapes = set()
    runner = SimpleNamespace(label_maps=lambda images: shapes.add(images.shape))
    quantize_module._measure_seconds(runner, runner, dataset)
    images = quantize_module._CalibrationImages(dataset, dataset.split("train"))
    shapes.add(images.get_next()["images"].shape)
    assert shapes == {(1, 40, 40, 3)}


def test_calibration_takes_images_of_the_whole_split(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the split has less than twice as many."""
    dataset = find_dataset(data, ReadingOptions(val_by="images/(.)", val_share=0.4))
    chosen: list[Sample] = []
    monkeypatch.setattr(quantize_module, "CALIBRATION", 4)
    monkeypatch.setattr(quantize_module, "_CalibrationImages", lambda dataset, samples: chosen.extend(samples))
    monkeypatch.setattr(quantize_module, "quantize_static", lambda *arguments, **options: None)
    quantize_module._write(bundled("street"), tmp_path / "small.onnx", dataset, 0)
    assert len(dataset.split("train")) == 6
    assert [dataset.split("train").index(sample) for sample in chosen] == [0, 2, 3, 5]


def test_images_that_miss_the_range_of_the_model_are_reported(
    run: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tifffile = pytest.importorskip("tifffile")
    for path in (data / "images").iterdir():
        values = np.random.default_rng(0).integers(0, 200, (48, 64, 3)).astype(np.uint16)
        tifffile.imwrite(path.with_suffix(".tif"), values, photometric="rgb")
        path.unlink()
    exact = api.export(run).path
    quantize(exact, tmp_path / "small.onnx", find_dataset(data).read_as(NetSpec("digits", 2, 8).input), force=True)
    assert "so the mIoU in eight bits may say little" in caplog.text
