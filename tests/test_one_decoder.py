"""Training, scoring and prediction read the same pixels from a file, or refuse it with the same error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from fullconv.arrays import Mask, UInt8
from fullconv.data.channels import measure_channels
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.statistics import read_statistics
from fullconv.errors import FullconvError
from fullconv.evaluation.evaluate import evaluate
from fullconv.evaluation.measure import Measurement, measure
from fullconv.images import (
    InputFormat,
    open_image,
    open_label_map,
    read_header,
    read_label_map,
    write_label_map,
)
from fullconv.labels import LabelSet
from fullconv.metrics import Scores, confusion_matrix
from fullconv.predict.large import MAX_IN_MEMORY_PIXELS, predict_large
from fullconv.predict.model import Model
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.report.pictures import draw_row
from fullconv.runtime.runner import Runner
from fullconv.runtime.tiles import TiledRunner
from geotiffs import LABELS, Shifted, geotiff, hide, picture
from image_kinds import EVERY_KIND, SIZE, decoder_table

Pixels = tuple[UInt8, Mask]
FORMATS = [InputFormat(), InputFormat(1), InputFormat(5), InputFormat(3, (0.0, 200.0))]
MISSING = {"rasterio": (), "tifffile": ("rasterio",), "neither": ("rasterio", "tifffile")}


class Channels(Shifted):
    """A runner that compares the first and the last channel of images with any number of channels."""

    def __init__(self, input: InputFormat) -> None:
        super().__init__()
        self.info = replace(Shifted.info, input=input)

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        first, last = images[..., 0].astype(np.float32), images[..., -1].astype(np.float32)
        return np.stack([first, last + 1, np.full_like(first, 100)], 1)


@pytest.fixture(params=MISSING)
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Hide packages so that rasterio and tifffile are installed, only tifffile, or neither."""
    hide(monkeypatch, *MISSING[request.param])
    return str(request.param)


def labelled(folder: Path, kind: str) -> tuple[Path, DataSet]:
    """Write a file of this kind with a random mask of its size, as a data set."""
    suffix, make = EVERY_KIND[kind]
    path, mask = folder / f"a{suffix}", folder / "mask.png"
    make(path)
    try:
        size = read_header(path).size
    except FullconvError:
        size = SIZE
    truth = np.random.default_rng(1).choice(np.array([0, 1, 2, 255], np.uint8), size)
    write_label_map(mask, truth, LABELS)
    sample = Sample("a", path, mask)
    return path, DataSet("folder", folder, LABELS, {"val": (sample,)})


def outcome(read: Callable[[], Any]) -> Any:
    """Return the result of `read`, or the code of its error."""
    try:
        return read()
    except FullconvError as error:
        return error.code


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, str) or isinstance(other, str):
        assert isinstance(one, str), f"only one of them is refused: {other}"
        assert isinstance(other, str), f"only one of them is refused: {one}"
        assert one == other
        return
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def in_windows(path: Path, input: InputFormat) -> Pixels:
    with open_image(path, input) as reader:
        height, width = reader.size
        pixels, empty = np.zeros((height, width, input.channels), np.uint8), np.zeros(reader.size, np.bool_)
        for top in range(0, height, 32):
            for left in range(0, width, 40):
                rows, columns = range(top, min(top + 32, height)), range(left, min(left + 40, width))
                here = slice(top, rows.stop), slice(left, columns.stop)
                pixels[here], missing = reader.read(rows, columns)
                empty[here] = False if missing is None else missing
    return pixels, empty


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_training_and_prediction_read_the_same_pixels(tmp_path: Path, installed: str, kind: str) -> None:
    """Whole and in windows, for several channels and value ranges; pixels without data are ignored."""
    path, dataset = labelled(tmp_path, kind)
    sample = dataset.split("val")[0]
    for input in FORMATS:
        read_as, runner = dataset.read_as(input), Channels(input)
        is_ignored = outcome(lambda: dataset.read_mask(sample)) == 255

        def trained_on(read_as: DataSet = read_as) -> Pixels:
            image, target = read_as.read(sample)
            np.testing.assert_array_equal(target, read_as.read_target(sample))
            return image, target == 255

        def predicted(runner: Channels = runner, is_ignored: Mask = is_ignored) -> Pixels:
            result = Model(runner).predict(path)
            return result.image, (result.label_map == 255) | is_ignored

        def windows(input: InputFormat = input, is_ignored: Mask = is_ignored) -> Pixels:
            pixels, empty = in_windows(path, input)
            return pixels, empty | is_ignored

        whole = outcome(predicted)
        assert_same(outcome(trained_on), whole)
        assert_same(outcome(windows), whole)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("limit", ["whole", "windows"])
def test_scores_equal_those_of_the_written_label_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str, kind: str, limit: str
) -> None:
    """`evaluate` gives the scores of the label map that `predict` wrote; its ignored pixels are ignored."""
    most = MAX_IN_MEMORY_PIXELS
    runner: Runner = Shifted()
    if limit == "windows":
        most, runner = 1000, TiledRunner(runner, 24)
        monkeypatch.setattr("fullconv.images.reader.MAX_IN_MEMORY_PIXELS", most)
    path, dataset = labelled(tmp_path, kind)
    samples = dataset.split("val")
    options = PredictOptions(["labels"], max_in_memory_pixels=most)
    report = predict_files(runner, [path], tmp_path / "out", options)
    if report.failed:
        with pytest.raises(FullconvError) as caught:
            evaluate(runner, dataset, samples, most)
        if limit == "whole":
            assert str(caught.value) == report.failed[0][1]
        else:  # numbers and a decoder's words depend on the window that met the fault
            assert caught.value.code == outcome(lambda: predict_large(runner, path, {"labels": tmp_path / "b.png"}))
        return
    written = read_label_map(next((tmp_path / "out").glob("a.*")))
    truth = np.where(written == 255, 255, dataset.read_mask(samples[0])).astype(np.uint8)
    expected = Scores.from_confusion(confusion_matrix(truth, written, 3), LABELS.class_names)
    assert evaluate(runner, dataset, samples, most).to_dict() == expected.to_dict()


def test_training_statistics_ignore_pixels_without_data(tmp_path: Path) -> None:
    """Neither the counts of labels nor the mean of the channels include them."""
    pixels = np.full((20, 30, 3), 200, np.uint8)
    pixels[:10] = 0
    image = geotiff(tmp_path / "a.tif", pixels, nodata=0)
    write_label_map(tmp_path / "a.png", np.ones((20, 30), np.uint8), LABELS)
    dataset = DataSet("folder", tmp_path, LABELS, {"train": (Sample("a", image, tmp_path / "a.png"),)})
    assert read_statistics(dataset, "train").pixels == (0, 300, 0)
    mean, _ = measure_channels(dataset)
    assert mean == pytest.approx((200 / 255,) * 3)


def ids(dtype: str = "uint8", top: int = 3) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, top, (60, 50)).astype(dtype)


COLORS = LabelSet(("a", "b", "c"), ((0, 0, 0), (200, 30, 30), (40, 60, 90)))
MASKS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "palette": (".png", lambda path: write_label_map(path, ids(), COLORS)),
    "grey": (".png", lambda path: Image.fromarray(ids()).save(path)),
    "grey with a clear entry": (".png", lambda path: Image.fromarray(ids()).save(path, transparency=0)),
    "palette with a clear entry": (".png", lambda path: of_palette().save(path, transparency=0)),
    "1 bit": (".png", lambda path: Image.fromarray(ids(top=2) > 0).save(path)),
    "palette of 4 bits": (".png", lambda path: of_palette().save(path, bits=4)),
    "16 bits": (".png", lambda path: Image.fromarray(ids("uint16")).save(path)),
    "grey with alpha": (".png", lambda path: Image.merge("LA", [Image.fromarray(ids())] * 2).save(path)),
    "colours": (".png", lambda path: Image.fromarray(COLORS.colorize(ids())).save(path)),
    "colours with alpha": (".png", lambda path: Image.fromarray(COLORS.colorize(ids())).convert("RGBA").save(path)),
    "BMP": (".bmp", lambda path: Image.fromarray(ids()).save(path)),
    "TIFF": (".tif", lambda path: tifffile.imwrite(path, ids())),
    "TIFF in tiles": (".tif", lambda path: geotiff(path, ids()[..., None], nodata=1)),
    "TIFF of 16 bits": (".tif", lambda path: tifffile.imwrite(path, ids("uint16"), compression="zlib")),
    "TIFF, palette": (".tif", lambda path: of_palette().save(path)),
    "TIFF, white at 0": (".tif", lambda path: tifffile.imwrite(path, ids(), photometric="miniswhite")),
    "TIFF, colours": (".tif", lambda path: Image.fromarray(COLORS.colorize(ids())).save(path)),
    "TIFF, 1 bit": (".tif", lambda path: Image.fromarray(ids(top=2) > 0).save(path)),
    "TIFF, signed": (".tif", lambda path: tifffile.imwrite(path, ids("int32"))),
    "TIFF, negative": (".tif", lambda path: tifffile.imwrite(path, ids("int32") - 1)),
    "TIFF, floats": (".tif", lambda path: tifffile.imwrite(path, ids("float32"))),
    "too large labels": (".png", lambda path: Image.fromarray(ids("uint16", 999)).save(path)),
    "JPEG": (".jpg", lambda path: Image.fromarray(ids()).save(path)),
    "turned": (".tif", lambda path: Image.fromarray(ids()).save(path, tiffinfo={274: 6})),
}


def of_palette() -> Image.Image:
    image = Image.fromarray(ids())
    image.putpalette(COLORS.colorize(np.arange(16, dtype=np.uint8)).tobytes())
    return image


@pytest.mark.parametrize("kind", MASKS)
def test_windows_of_a_mask_equal_the_whole_mask(tmp_path: Path, installed: str, kind: str) -> None:
    suffix, make = MASKS[kind]
    path = tmp_path / f"a{suffix}"
    make(path)

    def windows() -> tuple[UInt8]:
        with open_label_map(path, COLORS) as reader:
            labels = np.zeros(reader.size, np.uint8)
            for top in range(0, reader.size[0], 16):
                rows = range(top, min(top + 16, reader.size[0]))
                for columns in (range(20), range(20, reader.size[1])):
                    labels[top : rows.stop, columns.start : columns.stop] = reader.read(rows, columns)
        return (labels,)

    assert_same(outcome(windows), outcome(lambda: (read_label_map(path, COLORS),)))


def numbers(measured: Measurement) -> list[Any]:
    zones = [(zone.pixels, zone.wrong) for zone in (measured.boundary, measured.interior)]
    images = [(image.shape, image.unpack().tolist(), image.hit.tolist()) for image in measured.images]
    return [measured.scores.to_dict(), zones, measured.ignored, images]


@pytest.mark.parametrize("how", ["windows", "strips"])
def test_a_report_from_pieces_equals_one_from_whole_images(tmp_path: Path, how: str) -> None:
    """Apart from the regions of the truth, which are measured only on whole images."""
    pixels = picture(400, 350)
    pixels[:90, :150] = 0
    image = geotiff(tmp_path / "a.tif", pixels, nodata=0)
    write_label_map(tmp_path / "a.png", np.kron(ids()[:40, :35], np.ones((10, 10), np.uint8)), LABELS)
    dataset = DataSet("folder", tmp_path, LABELS, {"val": (Sample("a", image, tmp_path / "a.png"),)})
    whole = measure(Shifted(), dataset, "val")
    if how == "windows":
        pieces = measure(TiledRunner(Shifted(), 64), dataset, "val", max_in_memory_pixels=1000)
    else:
        pieces = measure(Shifted(), dataset, "val", piece_pixels=5000)
    ignored = dataset.read_target(dataset.split("val")[0]) == 255
    assert ignored[:90, :150].all()
    expected, actual = numbers(whole), numbers(pieces)
    assert actual[:3] == expected[:3]
    assert (whole.without_regions, pieces.without_regions) == (0, 1)
    assert whole.regions.by_size
    assert not pieces.regions.by_size
    small, large_one = whole.images[0].unpack(), pieces.images[0].unpack()
    np.testing.assert_array_equal(small[~ignored[::2, ::2]], large_one[~ignored[::2, ::2]])
    shown = draw_row(pieces, pieces.images[0], 1000 if how == "windows" else MAX_IN_MEMORY_PIXELS)
    assert shown.true_classes == draw_row(whole, whole.images[0]).true_classes


def test_the_docs_hold_the_current_table_of_decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`docs/formats.md` holds the table that `decoder_table` returns."""
    table = decoder_table(tmp_path, lambda *names: hide(monkeypatch, *names))
    text = (Path(__file__).parent.parent / "docs" / "formats.md").read_text(encoding="utf-8")
    assert table in text, table
