"""`fullconv check` as a command: exit codes, the lines on repairs, and the page."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import corpus
from command_line import check, run
from corpus_annotations import coco, write_coco
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.reading import ReadingOptions
from fullconv.doctor.examine import examine
from fullconv.doctor.page import write_check_page
from fullconv.faults import KINDS
from fullconv.labels import default_palette
from refusals import matches, refuses


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for a data set, next to the folder that commands run in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    root = tmp_path / "data"
    root.mkdir()
    return root


NAMES = list(corpus.FAULTS)


@pytest.mark.parametrize(("name", "other"), [*zip(NAMES, [*NAMES[7:], *NAMES[:7]], strict=True)])
def test_the_exit_code_says_whether_there_are_errors_if_classes_have_no_names(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, other: str
) -> None:
    """One fault, then two faults in one folder."""

    def check_exit_code() -> None:
        capsys.readouterr()
        code = check(monkeypatch, data, "--json", "-")
        findings = json.loads(capsys.readouterr().out)["findings"]
        assert code == (3 if any(finding["severity"] == "error" for finding in findings) else 0)

    corpus.FAULTS[name][1](data)
    (data / "dataset.yaml").unlink(missing_ok=True)
    check_exit_code()
    second = data.with_name("second")
    second.mkdir()
    corpus.FAULTS[other][1](second)
    (second / "dataset.yaml").unlink(missing_ok=True)
    for path in sorted(second.rglob("*")):
        copied = data / path.relative_to(second).with_name(path.name if path.is_dir() else f"x{path.name}")
        if path.is_symlink() or path.is_file():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copied, follow_symlinks=False)
    check_exit_code()


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("some_of_0_255", 2),
        ("exif_rotation", 1),
        ("mixed_channels", 1),
        ("jpeg_mask", 0),
        ("grey_levels", 0),
        ("base", 0),
    ],
)
def test_the_last_line_says_how_many_faults_can_be_repaired(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, count: int
) -> None:
    (corpus.base if name == "base" else corpus.FAULTS[name][1])(data)
    check(monkeypatch, data)
    last = capsys.readouterr().out.splitlines()[-1]
    if count:
        assert last == f"fullconv check {data} --fix DIR repairs {count} of them"
        severity = KINDS[corpus.FAULTS[name][0]]
        assert check(monkeypatch, data, "--fix", "fixed") == (3 if severity == "error" else 0)
        assert check(monkeypatch, "fixed") == 0
        last = capsys.readouterr().out.splitlines()[-1]
    assert "--fix" not in last


@pytest.mark.parametrize(
    ("name", "kind"),
    [("some_of_0_255", "mask-0-255"), ("mixed_channels", "mixed-channels"), ("background_image", "background-image"),
     ("all_ignored", "all-ignored"), ("copied_to_val", "in-two-splits"), ("other_band_count", "band-count"),
     ("truncated_mask", "truncated-file")],
)  # fmt: skip
def test_thumbnails_show_the_faults_of_their_files_and_of_no_others(data: Path, name: str, kind: str) -> None:
    faulty_path = corpus.FAULTS[name][1](data)
    examination = examine(survey(data))
    paths = {fault.path for group in examination.groups for fault in group.faults}
    for record in examination.records:
        (thumb,) = [thumb for thumb in examination.thumbs if thumb.name == record.sample.name]
        kinds = [fault.kind for fault in thumb.faults]
        assert kinds == [kind] * bool({record.sample.image, record.sample.target} & paths)
    assert examination.thumbs[0].faults
    assert faulty_path in paths


def test_faults_in_one_annotation_file_are_shown_at_their_samples_only(tmp_path: Path) -> None:
    contents = coco(tmp_path)
    shapes = contents["instances_train.json"]["annotations"]
    shapes[:] = [shape for shape in shapes if shape["image_id"] != 1]
    write_coco(tmp_path, contents)
    examination = examine(survey(tmp_path))
    kinds = {thumb.name: [fault.kind for fault in thumb.faults] for thumb in examination.thumbs}
    assert kinds == {"train0": [], "train1": ["background-image"], "train2": [], "val0": [], "val1": []}
    assert examination.groups[0].faults[0].path == corpus.image(tmp_path, "train1")


def test_the_page_has_a_legend_of_all_class_colours(data: Path) -> None:
    corpus.colour_masks(data)
    write_check_page(data.with_name("page.html"), examine(survey(data)))
    page = data.with_name("page.html").read_text(encoding="utf-8")
    for name, (red, green, blue) in {**corpus.COLORS, "ignored": (255, 255, 255)}.items():
        assert f'fill="#{red:02x}{green:02x}{blue:02x}"/></svg>{name}</li>' in page
    assert '<div class="scroll" tabindex="0"' in page


def test_many_errors_of_one_kind_are_not_folded(data: Path) -> None:
    names = [f"x{number}" for number in range(6)]
    corpus.base(data)
    for name in names:
        shutil.copy(corpus.image(data, "b"), corpus.image(data, name))
    write_check_page(data.with_name("page.html"), examine(survey(data)))
    page = data.with_name("page.html").read_text(encoding="utf-8")
    assert '<details class="error" open>' in page
    assert '<details class="error">' not in page


def test_file_names_that_are_not_utf8_are_shown_escaped(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives with Latin-1 names create such files."""
    corpus.base(data)
    name = os.fsdecode(b"B\xe4ume.png")
    corpus.image(data, "b").rename(corpus.image(data, "b").with_name(name))
    assert check(monkeypatch, data, "--json", "found.json") == 3
    assert "B\\udce4ume.png: no mask" in Path("data-check.html").read_text(encoding="utf-8").replace("</code>", ":")
    report = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert name in report["findings"][0]["path"]


def test_unnamed_classes_without_pixels_are_not_listed(data: Path) -> None:
    corpus.base(data)
    (data / "dataset.yaml").unlink()
    for path in sorted((data / "masks").rglob("*.png")):
        corpus.save(path, np.array([0, 1, 3, *range(3, 256)], np.uint8)[np.array(Image.open(path))])
    examination = examine(survey(data))
    assert [facts.name for facts in examination.classes] == ["class_0", "class_1", "class_3"]
    write_check_page(data.with_name("page.html"), examination)
    page = data.with_name("page.html").read_text(encoding="utf-8")
    red, green, blue = default_palette(4)[3]
    assert f'fill="#{red:02x}{green:02x}{blue:02x}"/></svg>class_3</li>' in page


def test_a_default_page_that_cannot_be_written_costs_neither_verdict_nor_repair(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.jpeg_mask(data)
    Path("data-check.html").mkdir()
    assert check(monkeypatch, data, "--fix", "fixed") == 3
    printed = capsys.readouterr()
    assert "no page was written" in printed.err
    assert "training can start" in printed.out
    assert check(monkeypatch, "fixed", "--write") == 0
    assert check(monkeypatch, data, "--html", "data-check.html") == 1


def test_the_command_that_repairs_repeats_the_options_of_reading(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.exif_rotation(data)
    assert check(monkeypatch, data, "--val-by", "/([a-c]|[d-e])", "--outside") == 3
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"fullconv check {data} --val-by '/([a-c]|[d-e])' --outside --fix DIR repairs 1 of them"
    assert run(monkeypatch, "train", data, "--outside") == 3
    assert f"fullconv check {data} --outside lists all faults" in capsys.readouterr().err


def test_write_refuses_an_archive(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(data.with_name("cache")))
    corpus.base(data)
    for kind in ("images", "masks"):
        shutil.rmtree(data / kind / "val")
    archive = Path(shutil.make_archive(str(data.with_name("packed")), "zip", data))
    assert check(monkeypatch, archive, "--write") == 2
    message = capsys.readouterr().err.removeprefix("fullconv: ").strip()
    assert matches("write-to-archive", message), message
    with refuses("inferred", "unpack it, write it into dataset.yaml with `fullconv check FOLDER --write`"):
        find_dataset(archive, ReadingOptions(strict=True))
