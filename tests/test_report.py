"""The report agrees with the scores, and is one page that needs no other file."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from markupsafe import escape

from command_line import run as run_command
from fullconv.data.dataset import DataSet, Sample
from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.evaluation.error_location import LEAST, RegionSizes, near_boundary
from fullconv.evaluation.evaluate import Piece, evaluate
from fullconv.evaluation.measure import THUMBNAIL_SIDE, Measurement, measure
from fullconv.geometry.tiles import Window
from fullconv.images import write_image, write_label_map
from fullconv.images.polygons import find_regions
from fullconv.labels import LabelSet
from fullconv.model_info import ModelInfo
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.onnx_export import export
from fullconv.report.findings import Findings
from fullconv.report.page import render, write_report
from fullconv.report.pictures import WRONG, choose_images, draw_errors, find_outlines, tint_classes
from fullconv.report.source import COLUMNS, Source, read_source
from fullconv.training.job import Job
from fullconv.training.recipe import default_recipe, override
from fullconv.training.train import train
from html_page import Page
from refusals import refuses

pytestmark = pytest.mark.filterwarnings("ignore::Warning:lightning")

UInt8 = npt.NDArray[np.uint8]

HOSTILE = LabelSet.named(["<b>&\"'", "</table><script>alert(1)</script>", "plain"])
SECTIONS = ["scores", "classes", "confusions", "places", "pictures", "about"]

small_maps = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255]))
)


class Scripted:
    """A runner whose labels are a function of the image."""

    def __init__(self, labels: LabelSet, share: float | None) -> None:
        self.info, self.share = ModelInfo(labels, (Window(0, 0), Window(0, 0)), exact=True), share

    def label_maps(self, images: UInt8) -> UInt8:
        """Return the first channel, which is the truth, with a share of wrong labels; None gives class 0 everywhere."""
        classes = self.info.labels.num_classes
        truth = images[..., 0] % classes
        if self.share is None:
            return np.zeros_like(truth)
        moved = np.random.default_rng(int(images.sum())).random(truth.shape) < self.share
        return np.where(moved, (truth + 1) % classes, truth).astype(np.uint8)

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        raise NotImplementedError


def make_data(folder: Path, labels: LabelSet, count: int = 5, side: int = 24) -> DataSet:
    """Write images whose first channel is their truth, in blocks, with a stripe of ignored pixels."""
    rng, samples = np.random.default_rng(1), []
    for number in range(count):
        blocks = rng.choice(labels.num_classes, (side // 4, side // 4), p=[0.8, 0.15, 0.05]).astype(np.uint8)
        truth = blocks.repeat(4, 0).repeat(4, 1)
        sample = Sample(f"i{number}", folder / f"i{number}.png", folder / f"m{number}.png")
        write_image(sample.image, np.repeat(truth[..., None], 3, axis=2))
        target = truth.copy()
        target[:2] = labels.ignore_index
        write_label_map(sample.target, target, labels)
        samples.append(sample)
    return DataSet("folder", folder, labels, {"val": tuple(samples)})


def make_page(folder: Path, share: float | None, labels: LabelSet = HOSTILE) -> tuple[Findings, str]:
    dataset = make_data(folder, labels)
    curves = tuple(
        {**dict.fromkeys(COLUMNS, e / 9), "epoch": e, "train_loss": 1 / e} for e in (1.0, 2.0, 3.0)
    )  # fmt: skip
    settings_of_run = {
        "data": "<data>",
        "network": {"stride": 8, "model": "a&b"},
        "recipe": {"epochs": 3, "lr": None},
    }
    found = Findings(measure(Scripted(labels, share), dataset, "val"), Source(folder, settings_of_run, curves))
    return found, render(found)


@given(small_maps, st.integers(1, 4))
def test_boundary_pixels_equal_those_of_a_plain_search(target: UInt8, radius: int) -> None:
    near = near_boundary(target, radius)
    for y, x in np.ndindex(*target.shape):
        square = target[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
        assert near[y, x] == (len(np.unique(square)) > 1)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_counted_regions_equal_those_of_the_polygons(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.choice([0, 1, 255], (4, 4)).astype(np.uint8).repeat(4, 0).repeat(3, 1)
    table = RegionSizes()
    table.add(target, np.ones(target.shape, bool), 255)
    table.add(target, np.zeros(target.shape, bool), 255)
    sizes = sorted(r.pixels for r in find_regions(target) if r.label != 255 and r.pixels >= LEAST)
    assert {size: count for size, (count, _, _) in table.by_size.items()} == {s: 2 * sizes.count(s) for s in sizes}
    groups = table.thirds()
    assert sum(group.regions for group in groups) == 2 * len(sizes)
    assert all(group.recall == 0.5 and 2 * group.mostly_right == group.regions for group in groups)
    assert all(a.most < b.least for a, b in pairwise(groups))


def test_regions_of_nine_sizes_are_split_into_thirds() -> None:
    table = RegionSizes({size: (1, size // 2, size > 6) for size in range(1, 10)})
    assert [(g.least, g.most, g.regions, g.mostly_right) for g in table.thirds()] == [
        (1, 3, 3, 0),
        (4, 6, 3, 0),
        (7, 9, 3, 3),
    ]


def test_measured_scores_equal_those_of_evaluate(tmp_path: Path) -> None:
    dataset, runner = make_data(tmp_path, HOSTILE), Scripted(HOSTILE, 0.2)
    found = measure(runner, dataset, "val")
    samples = dataset.split("val")
    assert found.scores.to_dict() == evaluate(runner, dataset, samples).to_dict()
    assert np.array_equal(found.counts().sum(0)[0], found.confusion.diagonal())
    assert found.boundary.pixels + found.interior.pixels == found.confusion.sum()
    wrong = found.confusion.sum() - found.confusion.trace()
    assert found.boundary.wrong + found.interior.wrong == wrong
    assert found.ignored == 5 * 2 * 24
    for counts in found.images:
        image, _ = dataset.read(counts.sample)
        assert np.array_equal(counts.unpack(), runner.label_maps(image[None])[0])


def test_stored_predictions_are_small() -> None:
    labels = LabelSet.named(["a", "b"])
    found = Measurement(labels, DataSet("folder", Path(), labels, {}), "val", np.zeros((2, 2), np.int64))
    label_map = np.random.default_rng(0).integers(0, 2, (THUMBNAIL_SIDE + 5, 3 * THUMBNAIL_SIDE - 7), dtype=np.uint8)
    size = label_map.shape
    whole = Piece(size, range(size[0]), range(size[1]), label_map, (slice(None), slice(None)), label_map, 0.1)
    found.add(Sample("a", Path(), Path()), [whole])
    small = found.images[0].unpack()
    assert max(small.shape) <= THUMBNAIL_SIDE
    assert np.array_equal(small, label_map[::3, ::3])


def test_chosen_images_are_sorted_and_differ(tmp_path: Path) -> None:
    found, _ = make_page(tmp_path, 0.3)
    base = found.measurement.images[0]
    images = [replace(base, hit=np.array([n, 0, 0]), true=np.array([100, 0, 0]), predicted=np.array([n, 0, 0]))
              for n in np.random.default_rng(0).permutation(60)]  # fmt: skip
    groups = {name: [image.hit[0] for image in group] for name, group in choose_images(images).items()}
    others = groups.pop("Others, spread over the split")
    assert groups == {"Worst": [*range(12)], "Median": [*range(28, 32)], "Best": [*range(56, 60)]}
    order = [image.hit[0] for image in images]
    rest = [n for n in order if n not in {*range(12), *range(28, 32), *range(56, 60)}]
    assert others == [rest[index] for index in (0, 8, 16, 23, 31, 39)]
    for count in (1, 20, 21, 23):
        shown = [image.hit[0] for group in choose_images(images[:count]).values() for image in group]
        assert len(set(shown)) == len(shown) == min(count, 26)
        assert shown[:20] == sorted(shown[:20])


def test_exactly_the_wrong_pixels_have_the_error_colour() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = (rng.choice(choices, (40, 50)).astype(np.uint8) for choices in ([0, 1, 255], [0, 1]))
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = draw_errors(image, truth, prediction, LabelSet.named(["a", "b"]))
    assert np.array_equal((picture == WRONG).all(-1), (truth != prediction) & (truth != 255))


@pytest.mark.parametrize("share", [0.2, None])
def test_page_is_complete_and_needs_no_other_file(tmp_path: Path, share: float | None) -> None:
    _, text = make_page(tmp_path, share)
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert {*SECTIONS, "curves", "settings", "main"} <= set(page.ids)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(page.headings))
    for _, values in page.attributes:
        assert not any(re.match(r"(?i)https?:|//|javascript:", value or "") for value in values.values())
        assert set((values.get("aria-labelledby") or "").split()) <= set(page.ids)
        target = values.get("href") or ""
        assert not target or target.removeprefix("#") in page.ids
        assert (values.get("src") or "data:image/jpeg").startswith("data:image/jpeg")
    assert not re.search(r"https?://|@import|url\(", text)
    pictures = [values for tag, values in page.attributes if tag == "img"]
    assert len(pictures) == 5 * 4
    assert all(values["alt"] for values in pictures)
    assert all(values.get("scope") in ("row", "col") for tag, values in page.attributes if tag == "th")
    captions = [values["aria-label"] for _, values in page.attributes if values.get("class") == "scroll"]
    assert len(captions) == page.tags["table"] > 5
    assert all(f"<figcaption>{escape(caption)}</figcaption>" in text for caption in captions)


def test_settings_without_a_value_are_not_shown(tmp_path: Path) -> None:
    _, text = make_page(tmp_path, 0.1)
    assert "recipe.epochs" in text
    assert "recipe.lr" not in text
    assert "null" not in text


def test_class_names_with_markup_are_escaped(tmp_path: Path) -> None:
    _, text = make_page(tmp_path, 0.2)
    page = Page(text)
    assert page.tags["script"] == page.tags["b"] == 0
    cells = {cell for row in page.rows for cell in row}
    assert set(HOSTILE.class_names) <= cells


def test_damaged_files_of_a_run_are_refused(tmp_path: Path) -> None:
    recipe, table = tmp_path / "recipe.yaml", tmp_path / "metrics.csv"
    for text in ("[broken", "- a list", "\x00"):
        recipe.write_text(text, encoding="utf-8")
        with refuses("damaged-run-folder", recipe):
            read_source(tmp_path)
    recipe.unlink()
    assert read_source(tmp_path).curves == ()
    table.write_text("epoch,loss\n1,2\n", encoding="utf-8")
    with refuses("damaged-run-folder", table):
        read_source(tmp_path)


def test_names_that_are_not_utf8_are_written_as_escapes(tmp_path: Path) -> None:
    """Linux allows such names; after the training, the report must not fail because of one."""
    found, _ = make_page(tmp_path, 0.2)
    image = found.measurement.images[0]
    found.measurement.images[0] = replace(image, sample=replace(image.sample, name="caf\udce9"))
    write_report(tmp_path / "report.html", found.measurement, found.source)
    assert "caf\\udce9: mIoU" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_outlines_frame_the_rarer_class_and_black_is_not_tinted() -> None:
    labels = LabelSet.named(["ground", "wire"])
    truth = np.zeros((8, 9), np.uint8)
    truth[:, 4] = 1
    lines = find_outlines(truth)
    assert np.array_equal(np.unique(np.nonzero(lines)[1]), [3, 5])
    image = np.full((8, 9, 3), 90, np.uint8)
    picture = tint_classes(image, truth, labels)
    assert np.array_equal(picture[:, :3], image[:, :3])
    assert (picture[:, [3, 5]] == 255).all()
    assert (np.abs(picture[:, 4].astype(int) - labels.palette[1]) < 100).all()
    assert not find_outlines(np.full((4, 4), 7, np.uint8)).any()


def test_report_has_an_alarm_for_a_model_of_one_class(tmp_path: Path) -> None:
    labels = LabelSet.named(["ground", "cat", "dog"])
    found, text = make_page(tmp_path / "one", None, labels)
    assert found.scores.pixel_accuracy > 0.7
    assert "This model does not work" in text
    assert "predicts “ground” for 100.0 % of the pixels" in text
    assert "not better than predicting “ground” everywhere" in text
    assert "(--epochs)" in text
    found, text = make_page(tmp_path / "good", 0.05, labels)
    assert "This model does not work" not in text
    assert found.verdict.alarm == ""
    assert "better than predicting “ground” everywhere" in text


def test_report_of_an_exported_file_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has the scores of the run and the settings in the file, but no curves."""
    data = write_digit_dataset(tmp_path / "digits", train=2, val=2, size=(64, 64))
    net = build(NetSpec("digits", 11, stride=32))
    save_net(tmp_path / "net.safetensors", net.state_dict(), Saved(net.spec, DIGIT_LABELS))
    pages = []
    assert run_command(monkeypatch, "report", tmp_path / "net.safetensors", data, "--out", tmp_path / "torch.html") == 0
    export(tmp_path / "net.safetensors", tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.chdir(tmp_path)
    assert run_command(monkeypatch, "report", tmp_path / "net.onnx", data) == 0
    for name in ("torch.html", "net-report.html"):
        page = Page((tmp_path / name).read_text(encoding="utf-8"))
        pages.append({row[0]: row[1:] for row in page.rows})
        assert "curves" not in page.ids
    assert pages[0]["mIoU"] == pages[1]["mIoU"]
    assert pages[1]["network.model"] == ["digits"]


def test_training_and_report_command_write_the_same_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_digit_dataset(tmp_path / "digits", train=4, val=2, size=(64, 64))
    recipe = override(default_recipe(), {"epochs": 1, "batch_size": 4, "crop": 64, "bf16": False, "lr": 1e-3})
    run = tmp_path / "run"
    train(find_dataset(data), Job(NetSpec("digits", 11, stride=32), recipe), run)
    written = (run / "report.html").read_text()
    stored = json.loads((run / "scores.json").read_text())
    rows = {row[0]: row for row in Page(written).rows}
    for name, key in (("Pixel accuracy", "pixel_accuracy"), ("mIoU", "mean_iou")):
        assert rows[name][1] == f"{100 * stored[key]:.2f}"
    for name, iou in stored["per_class_iou"].items():
        assert any(row[:2] == [name, "absent" if iou is None else f"{100 * iou:.1f}"] for row in Page(written).rows)
    assert rows["recipe.epochs"][1] == "1"
    assert run_command(monkeypatch, "report", run) == 0  # the data are those of recipe.yaml
    timed = re.compile(r"<th[^>]*>time</th>.*")
    assert timed.sub("", (run / "report.html").read_text()) == timed.sub("", written)
    assert run_command(monkeypatch, "report", run, data, "--split", "train") == 0
    assert "4 images" in capsys.readouterr().out
    assert (run / "report-train.html").is_file()
    assert run_command(monkeypatch, "report", run, "--out", tmp_path / "a.pdf") == 2
    table = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text("epoch,loss\n1,2\n")
    assert run_command(monkeypatch, "report", run, data) == 4
    (run / "metrics.csv").write_text(table)
    (run / "recipe.yaml").write_text("[broken")
    assert run_command(monkeypatch, "report", run, data) == 4
    (run / "recipe.yaml").unlink()
    assert run_command(monkeypatch, "report", run) == 2
    assert "name the data" in capsys.readouterr().err
