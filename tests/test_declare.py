"""`fullconv check --write` fixes what was inferred in dataset.yaml: the data are read in the same way, and strictly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import corpus_trees
from command_line import check
from fullconv.arrays import UInt8
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.reading import ReadingOptions
from fullconv.doctor.declare import declare
from fullconv.doctor.examine import examine
from refusals import refuses

STRICT = ReadingOptions(strict=True)


WIDE = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)


def put(path: Path, pixels: UInt8, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def picture(seed: int) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def ids(seed: int, classes: int = 2) -> UInt8:
    rng = np.random.default_rng(seed)
    found = np.zeros((24, 32), np.uint8)
    for label in range(1, classes):
        top, left = int(rng.integers(0, 12)), int(rng.integers(0, 20))
        found[top : top + 10, left : left + 10] = label
    return found


COLORS = np.array([(90, 110, 90), (200, 60, 50), (50, 80, 210)], np.uint8)


def masks_0_255(root: Path) -> None:
    for number in range(8):
        put(root / "image" / f"{number}.png", picture(number))
        put(root / "label" / f"{number}.png", ids(number) * np.uint8(255))


def colours_in_splits(root: Path) -> None:
    for split, count in (("train", 5), ("valid", 2)):
        for number in range(count):
            put(root / split / "rgb" / f"IMG_{number}.jpg", picture(number))
            put(root / split / "seg" / f"{number}_mask.png", COLORS[ids(number, 3)])


def folder_layout(root: Path) -> None:
    for number in range(6):
        put(root / "images" / f"{number}.png", picture(number))
        put(root / "masks" / f"{number}.png", ids(number, 3) * np.uint8(100))


def smeared(root: Path) -> None:
    for number in range(6):
        put(root / "images" / f"{number}.png", picture(number).repeat(4, 0).repeat(4, 1))
        put(root / "masks" / f"{number}.jpg", WIDE[ids(number, 3)].repeat(4, 0).repeat(4, 1), quality=95)


def deep(root: Path) -> None:
    for number in range(6):
        path = root / "scans" / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)[..., 0].astype(np.uint16) * 8 + 100).save(path)
        put(root / "truth" / f"{number}.png", ids(number) * np.uint8(255))


def maps(dataset: DataSet) -> dict[tuple[str, Path], UInt8]:
    return {
        (split, sample.image): dataset.read(sample)[1]
        for split, samples in dataset.splits.items()
        for sample in samples
    }


@pytest.mark.parametrize("make", [masks_0_255, colours_in_splits, folder_layout, smeared, deep])
def test_the_written_description_reads_the_same_and_strictly(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    make(data)
    before = find_dataset(data)
    with refuses("inferred"):
        find_dataset(data, STRICT)
    monkeypatch.chdir(tmp_path)
    assert check(monkeypatch, "data", "--write") == 0
    assert "values" in capsys.readouterr().out
    after = find_dataset(data, STRICT)
    assert after.labels == before.labels
    first, second = maps(before), maps(after)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert check(monkeypatch, "data", "--write") == 0
    assert "not changed" in capsys.readouterr().out


def test_new_files_are_read_by_the_written_description(tmp_path: Path) -> None:
    masks_0_255(tmp_path)
    declare(examine(survey(tmp_path)))
    put(tmp_path / "image" / "new.png", picture(50))
    put(tmp_path / "label" / "new.png", np.zeros((24, 32), np.uint8))
    put(tmp_path / "notes" / "0.png", picture(51))
    dataset = find_dataset(tmp_path, STRICT)
    assert sum(map(len, dataset.splits.values())) == 9
    put(tmp_path / "label" / "new.png", np.full((24, 32), 7, np.uint8))
    with refuses("unknown-label", "new.png", "7"):
        find_dataset(tmp_path, STRICT)


def put_named(root: Path, camera: str, count: int) -> None:
    for number in range(count):
        put(root / "photos" / f"{camera}_{number:03}.jpg", picture(number))
        put(root / "lab" / f"{camera}_{number:03}_mask.png", ids(number) * np.uint8(255))


def test_written_patterns_match_files_that_are_added_later(tmp_path: Path) -> None:
    put_named(tmp_path, "image", 8)
    path, _ = declare(examine(survey(tmp_path)))
    values = yaml.safe_load(path.read_text())
    assert (values["images"], values["masks"]) == (["photos/*.jpg"], ["lab/*_mask.png"])
    put_named(tmp_path, "canon", 8)
    assert sum(map(len, find_dataset(tmp_path, STRICT).splits.values())) == 16


def test_written_patterns_leave_out_images_without_a_mask(tmp_path: Path) -> None:
    put_named(tmp_path, "image", 8)
    put(tmp_path / "photos" / "overview.jpg", picture(0))
    declare(examine(survey(tmp_path)))
    assert sum(map(len, find_dataset(tmp_path, STRICT).splits.values())) == 8


def test_images_that_no_pattern_matches_are_named(tmp_path: Path) -> None:
    put_named(tmp_path, "image", 8)
    (tmp_path / "dataset.yaml").write_text(
        "images: [photos/image_*.jpg]\nmasks: [lab/image_*_mask.png]\nval_share: 0.2\n"
    )
    assert "no pattern" not in find_dataset(tmp_path).about
    put_named(tmp_path, "canon", 3)
    put(tmp_path / "other" / "0.jpg", picture(0))
    dataset = find_dataset(tmp_path)
    assert sum(map(len, dataset.splits.values())) == 8
    assert "no pattern of images or masks matches: 3 images such as photos/canon_000.jpg" in dataset.about


def test_keys_that_the_user_wrote_stay(tmp_path: Path) -> None:
    masks_0_255(tmp_path)
    (tmp_path / "dataset.yaml").write_text("names: [membrane, cell]\nval_share: 0.5\n")
    declare(examine(survey(tmp_path)))
    values = yaml.safe_load((tmp_path / "dataset.yaml").read_text())
    assert (values["names"], values["val_share"]) == (["membrane", "cell"], 0.5)
    assert values["values"] == {0: "membrane", 255: "cell"}
    assert len(find_dataset(tmp_path, STRICT).split("val")) == 4


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_text_of_the_description_stays_and_keys_follow_it(tmp_path: Path, end: str) -> None:
    masks_0_255(tmp_path)
    path = tmp_path / "dataset.yaml"
    text = "\ufeff# of the clinic\nnames:   # in this order\n  - membrane\n  - cell".replace("\n", end or "\n") + end
    path.write_bytes(text.encode())
    _, keys = declare(examine(survey(tmp_path)))
    assert path.read_bytes().startswith(text.encode())
    assert list(yaml.safe_load(path.read_bytes().decode("utf-8-sig"))) == ["names", *keys]
    assert not path.with_name("dataset.yaml.bak").exists()


@pytest.mark.parametrize("text", ["{names: [membrane, cell]}  # flow\n", "names: [membrane, cell]  # ends\n...\n"])
def test_a_description_that_cannot_be_continued_is_kept_as_a_copy(tmp_path: Path, text: str) -> None:
    masks_0_255(tmp_path)
    path = tmp_path / "dataset.yaml"
    path.write_text(text)
    _, keys = declare(examine(survey(tmp_path)))
    assert list(yaml.safe_load(path.read_text())) == ["names", *keys]
    assert path.with_name("dataset.yaml.bak").read_text() == text


def test_a_data_set_with_errors_is_not_described(tmp_path: Path) -> None:
    masks_0_255(tmp_path)
    (tmp_path / "image" / "0.png").write_bytes(b"")
    with refuses("not-declared", tmp_path):
        declare(examine(survey(tmp_path)))
    assert not (tmp_path / "dataset.yaml").exists()


@pytest.mark.parametrize("name", sorted(corpus_trees.TREES))
def test_trees_that_can_be_described_read_the_same(name: str, tmp_path: Path) -> None:
    corpus_trees.build(tmp_path, corpus_trees.TREES[name])
    before = find_dataset(tmp_path)
    path, keys = declare(examine(survey(tmp_path)))
    assert bool(keys) == path.is_file() == bool(before.inferences)
    after = find_dataset(tmp_path)
    first, second = maps(before), maps(after)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("values: [a, b]\n", "values"),
        ("values: {}\n", "values"),
        ("values: {a: cell}\n", "'a'"),
        ("values: {0: 3}\n", "3"),
        ("values: {true: cell}\n", "True"),
        ("names: [x, y]\nvalues: {0: x, 255: z}\n", "'z'"),
        ("values: {0: x, 255: y}\nnearest: 3\n", "nearest"),
    ],
)
def test_wrong_values_are_faults_of_the_description(tmp_path: Path, text: str, value: str) -> None:
    masks_0_255(tmp_path)
    (tmp_path / "dataset.yaml").write_text(text)
    with refuses("class-names", "dataset.yaml", value):
        find_dataset(tmp_path)


@pytest.mark.parametrize("text", [None, "names: [membrane, cell]\n"])
@pytest.mark.parametrize("keys", [{"val_share": 0.5}, {"images": ["gone/*.png"], "masks": ["label/*.png"]}])
def test_a_description_that_would_change_the_reading_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, keys: dict[str, object]
) -> None:
    masks_0_255(tmp_path)
    path = tmp_path / "dataset.yaml"
    if text is not None:
        path.write_text(text)
    examination = examine(survey(tmp_path))
    monkeypatch.setattr("fullconv.doctor.declare._keys", lambda dataset: keys)
    with refuses("not-declarable", tmp_path):
        declare(examination)
    assert (path.read_text() if path.exists() else None) == text


@pytest.mark.parametrize("text", [None, "names: [membrane, cell]\n", "{names: [membrane, cell]}  # flow\n"])
def test_an_interrupted_description_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    masks_0_255(tmp_path)
    path = tmp_path / "dataset.yaml"
    if text is not None:
        path.write_text(text)
    examination = examine(survey(tmp_path))
    monkeypatch.setattr("fullconv.doctor.declare.survey", stop)
    with pytest.raises(KeyboardInterrupt):
        declare(examination)
    assert (path.read_text() if path.exists() else None) == text
    assert not path.with_name("dataset.yaml.bak").exists()
