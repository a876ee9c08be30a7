"""VOC and SBD are read as the paper uses them: SBD to train, 736 images of VOC2011 to validate."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from data_sets import faults_of
from fullconv.cli.app import main
from fullconv.data.classes import VOC_LABELS
from fullconv.data.formats.voc import VocFolders, find_voc, is_paper_val, paper_val
from fullconv.data.layouts import find_dataset
from fullconv.data.statistics import read_statistics
from fullconv.errors import DataError
from fullconv.metrics import Scores
from fullconv.net.fcn.spec import NetSpec
from fullconv.report.source import COLUMNS
from fullconv.training import ladder
from fullconv.training.job import Job
from fullconv.training.ladder import PAPER, climb, find_published, make_table
from fullconv.training.progress import TrainResult
from fullconv.training.recipe import default_recipe
from html_page import Page
from refusals import refuses
from voc_tree import (
    SBD_TRAIN,
    SBD_VAL,
    SIZE,
    VOC,
    label_map,
    names,
)


def test_the_736_ids_are_those_of_the_authors() -> None:
    ids = paper_val()
    assert len(set(ids)) == len(ids) == 736
    assert list(ids) == sorted(ids)
    assert Counter(name[:4] for name in ids) == {"2007": 321, "2008": 104, "2009": 132, "2010": 101, "2011": 78}
    text = "".join(f"{name}\n" for name in ids)
    assert sha256(text.encode()).hexdigest() == "4ca991bd72c251fd2485eaa9e29536502ea3800d1b1c17c151fd6a04bcfbc2cc"


def test_voc_with_sbd_has_sbds_train_and_the_papers_val(paper: Path) -> None:
    dataset = find_dataset(paper)
    assert (dataset.layout, dataset.root, dataset.labels) == ("voc+sbd", paper, VOC_LABELS)
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 5, "val": 736}
    assert tuple(sample.name for sample in dataset.split("train")) == SBD_TRAIN
    assert tuple(sample.name for sample in dataset.split("val")) == paper_val()
    assert is_paper_val(dataset)
    assert "SBD's train list" in dataset.about
    assert "736 images" in dataset.about
    assert str(paper / VOC) in dataset.about
    image, target = dataset.read(dataset.split("train")[2])
    assert (image.shape, target.dtype) == ((*SIZE, 3), np.uint8)
    np.testing.assert_array_equal(target, np.where(label_map(2) == 255, 0, label_map(2)))
    np.testing.assert_array_equal(dataset.read(dataset.split("val")[0])[1], label_map(2))
    assert list(read_statistics(dataset, "train").pixels[:7]) == [5 * (32 * 40 - 256), *[256] * 5, 0]


def test_the_folder_of_voc_alone_excludes_sbd(paper: Path) -> None:
    dataset = find_dataset(paper / VOC)
    assert (dataset.layout, dataset.about, is_paper_val(dataset)) == ("voc", "", False)
    counts = {split: len(samples) for split, samples in dataset.splits.items()}
    assert counts == {"train": 2, "val": 3, "val736": 736}
    assert names(paper / VOC, "val736") == names(paper, "val")


def test_sbd_alone_is_split_by_its_lists(paper: Path) -> None:
    root = paper / "benchmark_RELEASE"
    dataset = find_dataset(root)
    assert (dataset.layout, dataset.root, dataset.labels) == ("sbd", root, VOC_LABELS)
    assert (names(root, "train"), names(root, "val")) == (SBD_TRAIN, SBD_VAL)
    assert "the paper's val needs VOC2011 or VOC2012" in dataset.about


@pytest.mark.parametrize(
    ("folders", "voc", "sbd"),
    [
        (["VOC2011"], "VOC2011", None),
        (["VOCdevkit/VOC2007", "VOCdevkit/VOC2012", "VOCdevkit/VOC2011"], "VOCdevkit/VOC2012", None),
        (["VOCdevkit/VOC2012", "TrainVal/VOCdevkit/VOC2011", "benchmark_RELEASE"], VOC, "benchmark_RELEASE"),
        (["VOC2012", "benchmark_RELEASE"], "VOC2012", "benchmark_RELEASE"),
        (["VOCdevkit/VOC2011", "VOCdevkit/benchmark_RELEASE"], "VOCdevkit/VOC2011", "VOCdevkit/benchmark_RELEASE"),
        (["VOC2011", "VOC2011/benchmark_RELEASE"], "VOC2011", "VOC2011/benchmark_RELEASE"),
        (["", "benchmark_RELEASE"], "", "benchmark_RELEASE"),
        (["benchmark_RELEASE"], None, "benchmark_RELEASE"),
        (["", "VOC2012", "../benchmark_RELEASE"], "", None),
        (["VOCs", "other/VOC2011"], None, None),
    ],
)
def test_voc_and_sbd_are_found_where_their_archives_unpack(
    tmp_path: Path, folders: list[str], voc: str | None, sbd: str | None
) -> None:
    root = tmp_path / "data"
    for folder in folders:
        inner = "dataset/cls" if folder.endswith("RELEASE") else "JPEGImages"
        (root / folder / inner).mkdir(parents=True)
    expected = None
    if voc is not None or sbd is not None:
        expected = VocFolders(root, None if voc is None else root / voc, None if sbd is None else root / sbd)
    assert find_voc(root) == expected


def test_all_missing_images_of_the_paper_are_reported_at_once(small: Path) -> None:
    (small / VOC / "SegmentationClass" / f"{paper_val()[4]}.png").unlink()
    with pytest.raises(DataError, match="732 faults in this data set of the VOC with SBD layout") as caught:
        find_dataset(small)
    assert str(caught.value).endswith("... and 682 more")
    first, *others = caught.value.faults
    assert (first.kind, first.path, first.sample) == ("listed-absent", small / VOC, "2007_000129")
    assert "is not in SegmentationClass" in first.problem
    assert [fault.sample for fault in others] == list(paper_val()[5:])
    assert all("is not in JPEGImages or SegmentationClass" in fault.problem for fault in others)


def test_an_incomplete_val736_is_an_error_only_if_it_is_used(small: Path) -> None:
    dataset = find_dataset(small / VOC)
    assert set(dataset.splits) == {"train", "val"}
    with pytest.raises(DataError, match="731 faults in split 'val736'") as caught:
        dataset.split("val736")
    assert len(caught.value.faults) == 731
    for path in [*(small / VOC).glob("*/2007_*.*")]:
        path.rename(path.with_stem(f"mine_{path.stem}"))
    for split, number in (("train", 32), ("val", 33)):
        (small / VOC / "ImageSets/Segmentation" / f"{split}.txt").write_text(f"mine_2007_{number:06d}\n")
    with pytest.raises(DataError, match=r"no samples in split 'val736'; there are: train \(1\), val \(1\)"):
        find_dataset(small / VOC).split("val736")


def test_all_faults_of_voc_and_sbd_are_reported_at_once(small: Path) -> None:
    sbd = small / "benchmark_RELEASE" / "dataset"
    (sbd / "cls" / f"{SBD_TRAIN[1]}.mat").unlink()
    (sbd / "img" / f"{SBD_TRAIN[2]}.jpg").write_bytes(b"no image")
    (sbd / "train.txt").write_text("\n".join([*SBD_TRAIN, SBD_TRAIN[0], "2007_000033"]))
    Image.new("P", (3, 3)).save(small / VOC / "SegmentationClass" / "2007_000061.png")
    faults = faults_of(small)
    expected = [
        ("listed-absent", sbd / "train.txt", "train", SBD_TRAIN[1]),
        ("listed-twice", sbd / "train.txt", "train", SBD_TRAIN[0]),
        ("not-an-image", sbd / "img" / f"{SBD_TRAIN[2]}.jpg", "train", SBD_TRAIN[2]),
        ("listed-twice", small / VOC, "val", None),
        ("size-mismatch", small / VOC / "SegmentationClass" / "2007_000061.png", "val", "2007_000061"),
    ]
    absent = [fault for fault in faults if (fault.kind, fault.split) == ("listed-absent", "val")]
    assert len(absent) == 731
    others = [(fault.kind, fault.path, fault.split, fault.sample) for fault in faults if fault not in absent]
    assert others == expected


def test_an_image_in_both_lists_of_sbd_is_a_fault(small: Path) -> None:
    release = small / "benchmark_RELEASE"
    (release / "dataset" / "val.txt").write_text("\n".join([*SBD_VAL, SBD_TRAIN[1]]))
    with refuses("listed-twice", release, "1 image(s) are in train and in val", SBD_TRAIN[1]):
        find_dataset(release)


def test_sbd_without_list_and_without_masks_has_two_faults(small: Path) -> None:
    sbd = small / "benchmark_RELEASE" / "dataset"
    (sbd / "train.txt").unlink()
    shutil.rmtree(sbd / "cls")
    (sbd / "cls").mkdir()
    shutil.rmtree(small / "TrainVal")
    empty, train = faults_of(small)
    assert (empty.kind, empty.path) == ("empty-split", sbd / "cls")
    assert (train.kind, train.path) == ("missing-list", sbd / "train.txt")


def scores(mean_iou: float) -> Scores:
    """Return scores of 21 classes that all have this IU."""
    side = np.full((21, 21), 0.0)
    np.fill_diagonal(side, round(1e6 * 2 * mean_iou / (1 + mean_iou)))
    side[np.arange(21), (np.arange(21) + 1) % 21] = 1e6 - side[0, 0]
    return Scores.from_confusion(side.astype(np.int64), VOC_LABELS.class_names)


def test_the_ladder_shows_the_papers_rows_on_the_papers_data(
    paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of the four trainings are constants: this tests the table."""
    results = iter([0.4, 0.5, 0.6, 0.63])

    def finished(dataset: object, job: Job, out: Path, **_: object) -> TrainResult:
        out.mkdir(parents=True)
        with (out / "metrics.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, [0.5] * len(COLUMNS)])
        return TrainResult(out, scores(next(results)), 7.0, 2_000_000)

    monkeypatch.setattr(ladder, "train", finished)
    job = Job(NetSpec("vgg16", 21, 32), default_recipe())
    rungs = climb(find_dataset(paper), job, tmp_path)
    text = (tmp_path / "table.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "FCN-" in line]
    assert [line[0] for line in lines] == [name + end for name in PAPER for end in ("", ", the paper's")]
    assert [line[3] for line in lines] == ["40.0", "45.4", "50.0", "59.4", "60.0", "62.4", "63.0", "62.7"]
    assert [line[5] for line in lines] == ["", "", "+10.0", "+14.0", "+10.0", "+3.0", "+3.0", "+0.3"]
    assert lines[7][1:5] == ["90.3", "75.9", "62.7", "83.2"]
    assert lines[7][6:] == ["", ""]
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [row for row in page.rows if row[0].startswith("FCN-")] == lines
    assert "736 validation images" in text
    assert "CVPR 2015, table 2" in text
    assert len(make_table(rungs)) == 5


def test_the_papers_rows_are_absent_for_other_data(paper: Path, small: Path) -> None:
    assert find_published(find_dataset(paper)) == PAPER
    assert find_published(find_dataset(paper / VOC)) == {}
    assert find_published(find_dataset(small / "benchmark_RELEASE")) == {}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["fullconv", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


@pytest.mark.filterwarnings("ignore::Warning:lightning")
def test_scores_of_training_equal_those_of_evaluate_on_val736(
    paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One epoch on SBD. Its `val` and `val736` of VOC alone are the same images."""
    run, after = tmp_path / "run", tmp_path / "scores.json"
    tiny = (
        "--model=digits",
        "--weights=none",
        "--stride=32",
        "--epochs=1",
        "--batch=2",
        "--crop=32",
        "--set=bf16=false",
    )
    call(monkeypatch, "train", paper, *tiny, "--out", run)
    output = capfd.readouterr().err
    assert f"{paper} (voc+sbd layout): 5 train, 736 val" in output
    assert "train is SBD's train list" in output
    call(monkeypatch, "evaluate", run, paper / VOC, "--split=val736", "--json", after)
    stored = json.loads((run / "scores.json").read_text())
    assert json.loads(after.read_text()) == {key: value for key, value in stored.items() if key != "run"}
    assert sum(map(sum, stored["confusion"])) == 736 * (32 * 40 - 20 * 20 + 16 * 16)


def test_lists_and_file_names_may_differ_in_unicode_normalization(tmp_path: Path) -> None:
    """In file names on macOS, accented letters are decomposed; in lists they may be composed."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for stem, form in (("\u00e9", "NFD"), ("\u00fc", "NFC")):
        Image.new("RGB", (8, 6)).save(tmp_path / "JPEGImages" / f"{normalize(form, stem)}.jpg")
        Image.new("L", (8, 6)).save(tmp_path / "SegmentationClass" / f"{stem}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("\u00e9\n", encoding="utf-8")
    (lists / "val.txt").write_text(normalize("NFD", "\u00fc"), encoding="utf-8")
    assert [sample.name for sample in find_dataset(tmp_path).split("val")] == ["\u00fc"]
