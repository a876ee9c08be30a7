"""The paper's data: 736 images of VOC2011 to validate on, SBD to train on."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from fullconv.cli import main
from fullconv.data.dataset import count_labels
from fullconv.data.layouts import find_dataset
from fullconv.data.names import VOC_LABELS
from fullconv.data.sbd import read_sbd_mask
from fullconv.data.voc import Found, find_voc, is_paper_val, paper_val
from fullconv.errors import DataError
from fullconv.labels import voc_palette
from fullconv.learn import ladder
from fullconv.learn.ladder import PAPER, climb, published, table
from fullconv.learn.recipe import modern
from fullconv.learn.train import Job, TrainResult
from fullconv.metrics import Scores
from fullconv.net.spec import NetSpec

VOC = Path("TrainVal/VOCdevkit/VOC2011")
OWN_TRAIN = ("2007_000032", "2008_000008")
SBD_TRAIN = ("2008_000002", "2008_000003", "2008_000007", "2009_000001", "2010_000002")
SBD_VAL = ("2008_000009", "2007_000033")
SIZE = (32, 40)


def label_map(number: int) -> np.ndarray:
    """A square of class 1..20 on background, in the void border that VOC draws around objects."""
    target = np.zeros(SIZE, np.uint8)
    target[6:26, 8:28] = 255
    target[8:24, 10:26] = 1 + number % 20
    return target


def put_image(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.asarray([*voc_palette(21), *[(90, 90, 90)] * 235], np.uint8)
    Image.fromarray(colors[label_map(number)]).save(path)


def put_mat(path: Path, target: np.ndarray) -> None:
    """A file of SBD's `cls`: a struct of boundaries (a cell of 20 sparse maps), segmentation and categories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = csc_matrix(target == index + 1).astype(float)
    present = np.unique(target[target > 0])[:, None]
    fields = {"Boundaries": boundaries, "Segmentation": target, "CategoriesPresent": present}
    savemat(path, {"GTcls": fields}, do_compression=True)


def put_voc(home: Path, stems: tuple[str, ...]) -> None:
    """JPEGs, palette PNGs and VOC's own lists: `OWN_TRAIN` to train on, the first three others for val."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (home / folder).mkdir(parents=True)
    made = []
    for number in range(4):
        put_image(home / f"{number}.jpg", number)
        mask = Image.fromarray(label_map(number))
        mask.putpalette(np.asarray([*voc_palette(21), *[(224, 224, 192)] * 235], np.uint8).tobytes())
        mask.save(home / f"{number}.png")
        files = home / f"{number}.jpg", home / f"{number}.png"
        made.append([path.read_bytes() for path in files])
        for path in files:
            path.unlink()
    for index, stem in enumerate(stems):
        image, mask_bytes = made[index % 4]
        (home / "JPEGImages" / f"{stem}.jpg").write_bytes(image)
        (home / "SegmentationClass" / f"{stem}.png").write_bytes(mask_bytes)
    others = [stem for stem in stems if stem not in OWN_TRAIN]
    (home / "ImageSets/Segmentation/train.txt").write_text("\n".join(OWN_TRAIN) + "\n")
    (home / "ImageSets/Segmentation/val.txt").write_text("\n".join(others[:3]) + "\n")


def put_sbd(release: Path) -> None:
    dataset = release / "dataset"
    for number, stem in enumerate((*SBD_TRAIN, *SBD_VAL)):
        put_image(dataset / "img" / f"{stem}.jpg", number)
        target = label_map(number)
        put_mat(dataset / "cls" / f"{stem}.mat", np.where(target == 255, 0, target).astype(np.uint8))
    (dataset / "train.txt").write_text("\n".join(SBD_TRAIN) + "\n")
    (dataset / "val.txt").write_text("\n".join(SBD_VAL) + "\n")


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC2011 with the paper's 736 ids and others, and SBD beside it, as the archives unpack. Not to be changed."""
    root = tmp_path_factory.mktemp("pascal")
    put_voc(root / VOC, (*OWN_TRAIN, *paper_val()))
    put_sbd(root / "benchmark_RELEASE")
    return root


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """VOC with five of the paper's ids, SBD beside it."""
    put_voc(tmp_path / VOC, (*OWN_TRAIN, *paper_val()[:5]))
    put_sbd(tmp_path / "benchmark_RELEASE")
    return tmp_path


def faults_of(root: Path) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        find_dataset(root)
    return caught.value.faults


def names(root: Path, split: str) -> tuple[str, ...]:
    return tuple(sample.name for sample in find_dataset(root).split(split))


def test_the_list_is_the_one_of_the_authors() -> None:
    ids = paper_val()
    assert len(set(ids)) == len(ids) == 736
    assert list(ids) == sorted(ids)
    assert Counter(name[:4] for name in ids) == {"2007": 321, "2008": 104, "2009": 132, "2010": 101, "2011": 78}
    text = "".join(f"{name}\n" for name in ids)
    assert sha256(text.encode()).hexdigest() == "4ca991bd72c251fd2485eaa9e29536502ea3800d1b1c17c151fd6a04bcfbc2cc"


def test_with_sbd_train_is_sbd_and_val_the_papers(paper: Path) -> None:
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
    assert count_labels(dataset, "train")[:7].tolist() == [5 * (32 * 40 - 256), *[256] * 5, 0]


def test_vocs_own_folder_leaves_sbd_out(paper: Path) -> None:
    dataset = find_dataset(paper / VOC)
    assert (dataset.layout, dataset.about, is_paper_val(dataset)) == ("voc", "", False)
    counts = {split: len(samples) for split, samples in dataset.splits.items()}
    assert counts == {"train": 2, "val": 3, "val736": 736}
    assert names(paper / VOC, "val736") == names(paper, "val")


def test_sbd_alone_has_its_own_lists(paper: Path) -> None:
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
def test_where_voc_and_sbd_may_lie(tmp_path: Path, folders: list[str], voc: str | None, sbd: str | None) -> None:
    root = tmp_path / "data"
    for folder in folders:
        inner = "dataset/cls" if folder.endswith("RELEASE") else "JPEGImages"
        (root / folder / inner).mkdir(parents=True)
    expected = None
    if voc is not None or sbd is not None:
        expected = Found(root, None if voc is None else root / voc, None if sbd is None else root / sbd)
    assert find_voc(root) == expected


def test_missing_images_of_the_paper_are_told_all_at_once(small: Path) -> None:
    (small / VOC / "SegmentationClass" / f"{paper_val()[4]}.png").unlink()
    with pytest.raises(DataError, match="732 faults in this data set of the VOC with SBD layout") as caught:
        find_dataset(small)
    assert str(caught.value).endswith("... and 682 more")
    first, *others = caught.value.faults
    assert f"{small / VOC}: 2007_000129, one of the paper's 736" in first
    assert "is not in SegmentationClass;" in first
    assert [re.findall(r": (\d{4}_\d{6}),", fault)[0] for fault in others] == list(paper_val()[5:])
    assert all("is not in JPEGImages or SegmentationClass; unpack" in fault for fault in others)


def test_without_sbd_a_part_of_the_736_matters_only_if_it_is_asked_for(small: Path) -> None:
    dataset = find_dataset(small / VOC)
    assert set(dataset.splits) == {"train", "val"}
    with pytest.raises(DataError, match="731 faults in split 'val736'") as caught:
        dataset.split("val736")
    assert len(caught.value.faults) == 731
    for path in [*(small / VOC).glob("*/2007_*.*")]:
        path.rename(path.with_stem(f"mine_{path.stem}"))
    for split in ("train", "val"):
        (small / VOC / "ImageSets/Segmentation" / f"{split}.txt").write_text("mine_2007_000033\n")
    with pytest.raises(DataError, match=r"no samples in split 'val736'; there are: train \(1\), val \(1\)"):
        find_dataset(small / VOC).split("val736")


def test_every_fault_of_voc_and_sbd_at_once(small: Path) -> None:
    sbd = small / "benchmark_RELEASE" / "dataset"
    (sbd / "cls" / f"{SBD_TRAIN[1]}.mat").unlink()
    (sbd / "img" / f"{SBD_TRAIN[2]}.jpg").write_bytes(b"no image")
    (sbd / "train.txt").write_text("\n".join([*SBD_TRAIN, SBD_TRAIN[0], "2007_000033"]))
    Image.new("P", (3, 3)).save(small / VOC / "SegmentationClass" / "2007_000061.png")
    found = faults_of(small)
    expected = [
        f"line 2 names '{SBD_TRAIN[1]}', which is not in cls",
        f"line 6 repeats '{SBD_TRAIN[0]}' of line 1",
        f"{SBD_TRAIN[2]}.jpg: not an image",
        "1 of the paper's 736 validation images are in the train list too (2007_000033)",
        "2007_000061.png: is 3x3",
    ]
    told = [fault for fault in found if "unpack VOC2011" not in fault]
    assert len(found) - len(told) == 731
    assert len(told) == len(expected)
    assert all(part in fault for part, fault in zip(expected, told, strict=True))


def test_sbd_without_list_and_without_masks(small: Path) -> None:
    sbd = small / "benchmark_RELEASE" / "dataset"
    (sbd / "train.txt").unlink()
    shutil.rmtree(sbd / "cls")
    (sbd / "cls").mkdir()
    shutil.rmtree(small / "TrainVal")
    empty, train = faults_of(small)
    assert f"{sbd / 'cls'}: the split is empty; put files here (.mat)" in empty
    assert f"{sbd / 'train.txt'}: cannot be read" in train


def test_masks_of_sbd_that_do_not_fit_are_told_before_training(small: Path) -> None:
    sbd = small / "benchmark_RELEASE"
    cls = sbd / "dataset" / "cls"
    put_mat(cls / f"{SBD_TRAIN[0]}.mat", np.zeros((32, 41), np.uint8))
    put_mat(cls / f"{SBD_TRAIN[1]}.mat", np.full(SIZE, 21, np.uint8))
    (cls / f"{SBD_TRAIN[3]}.mat").write_bytes(b"")
    dataset = find_dataset(sbd)
    with pytest.raises(DataError) as caught:
        count_labels(dataset, "train")
    expected = [
        (SBD_TRAIN[0], "is 41x32 (width x height)"),
        (SBD_TRAIN[1], "holds the labels 21"),
        (SBD_TRAIN[3], "cannot be read as a MATLAB file"),
    ]
    assert len(caught.value.faults) == len(expected)
    for (stem, part), fault in zip(expected, caught.value.faults, strict=True):
        assert fault.startswith(f"{cls / stem}.mat: {part}")


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"GTinst": {"Segmentation": np.zeros(SIZE, np.uint8)}}, "holds no GTcls.Segmentation"),
        ({"GTcls": {"Boundaries": np.zeros(SIZE, np.uint8)}}, "holds no GTcls.Segmentation"),
        ({"GTcls": np.zeros(SIZE, np.uint8)}, "holds no GTcls.Segmentation"),
        ({"GTcls": {"Segmentation": np.zeros(SIZE)}}, "is float64 of shape (32, 40), not height x width of uint8"),
        ({"GTcls": {"Segmentation": np.zeros((*SIZE, 3), np.uint8)}}, "is uint8 of shape (32, 40, 3)"),
    ],
)
def test_other_matlab_files_are_refused(tmp_path: Path, values: dict[str, object], part: str) -> None:
    path = tmp_path / "a.mat"
    savemat(path, values)
    with pytest.raises(DataError, match=re.escape(part)) as caught:
        read_sbd_mask(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_missing_and_cut_matlab_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read as a MATLAB file \(No such file"):
        read_sbd_mask(tmp_path / "nowhere.mat")
    put_mat(tmp_path / "cut.mat", label_map(0))
    whole = (tmp_path / "cut.mat").read_bytes()
    for length in range(0, len(whole), 61):
        (tmp_path / "cut.mat").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.mat: (cannot be read as a MATLAB file|holds no GTcls)"):
            read_sbd_mask(tmp_path / "cut.mat")


def scores(mean_iou: float) -> Scores:
    """Of 21 classes, all with this share of IU."""
    side = np.full((21, 21), 0.0)
    np.fill_diagonal(side, round(1e6 * 2 * mean_iou / (1 + mean_iou)))
    side[np.arange(21), (np.arange(21) + 1) % 21] = 1e6 - side[0, 0]
    return Scores.from_confusion(side.astype(np.int64), VOC_LABELS.class_names)


def test_the_ladder_shows_the_papers_rows_on_the_papers_data(
    paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the four trainings only the results are made up: the table is what is tested."""
    results = iter([0.4, 0.5, 0.6, 0.63])

    def finished(dataset: object, job: Job, out: Path, **_: object) -> TrainResult:
        out.mkdir(parents=True)
        with (out / "metrics.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["epoch", "mean_iou"], [1, 0.5]])
        return TrainResult(scores(next(results)), 7.0, 2_000_000)

    monkeypatch.setattr(ladder, "train", finished)
    job = Job(NetSpec("vgg16", 21, 32), modern())
    rungs = climb(find_dataset(paper), job, tmp_path, tell=lambda _: None)
    text = (tmp_path / "table.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "FCN-" in line]
    assert [line[0] for line in lines] == [name + end for name in PAPER for end in ("", ", the paper's")]
    assert [line[3] for line in lines] == ["40.0", "45.4", "50.0", "59.4", "60.0", "62.4", "63.0", "62.7"]
    assert [line[5] for line in lines] == ["", "", "+10.0", "+14.0", "+10.0", "+3.0", "+3.0", "+0.3"]
    assert lines[7][1:5] == ["90.3", "75.9", "62.7", "83.2"]
    assert lines[7][6:] == ["", ""]
    assert "736 validation images" in text
    assert "CVPR 2015, table 2" in text
    assert len(table(rungs)) == 5


def test_elsewhere_the_papers_rows_do_not_stand_beside(paper: Path, small: Path) -> None:
    assert published(find_dataset(paper)) == PAPER
    assert published(find_dataset(paper / VOC)) == {}
    assert published(find_dataset(small / "benchmark_RELEASE")) == {}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["fullconv", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


@pytest.mark.filterwarnings("ignore::Warning:lightning")
def test_train_and_evaluate(
    paper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One epoch on SBD; the run's scores are those of `val736` of VOC alone, the same images."""
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
    told = capfd.readouterr().err
    assert f"{paper} (voc+sbd layout): 5 train, 736 val" in told
    assert "train is SBD's train list" in told
    call(monkeypatch, "evaluate", run, paper / VOC, "--split=val736", "--json", after)
    stored = json.loads((run / "scores.json").read_text())
    assert json.loads(after.read_text()) == {key: value for key, value in stored.items() if key != "run"}
    assert sum(map(sum, stored["confusion"])) == 736 * (32 * 40 - 20 * 20 + 16 * 16)
