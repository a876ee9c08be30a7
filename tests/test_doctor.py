"""`check` finds exactly the fault that was made and its file, and the repaired copy has no fault."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import runpy
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from PIL.ImageFile import ImageFile

import corpus
import corpus_handled
from command_line import check
from fullconv.arrays import UInt8
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.object_widths import WIDEST, count_widths, measure_widths, median_width
from fullconv.doctor.duplicates import hash_image, same_images
from fullconv.doctor.examine import Examination, examine
from fullconv.doctor.page import write_check_page
from fullconv.doctor.repair import repair
from fullconv.errors import DataError
from fullconv.faults import KINDS, Fault
from fullconv.images import read_image, read_label_map, write_image
from html_page import Page
from refusals import refuses

CAMVID = Path(__file__).parents[1] / ".." / "shared" / "camvid"
label_maps = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))


def examine_folder(root: Path) -> Examination:
    return examine(survey(root))


def list_files(root: Path) -> dict[str, str]:
    """Return every file and link in a folder, with a digest of its content."""
    return {
        str(path.relative_to(root)): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for a data set, next to the folder that commands run in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    root = tmp_path / "data"
    root.mkdir()
    return root


@pytest.mark.parametrize("name", corpus.FAULTS)
def test_check_finds_the_fault_and_no_other(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    kind, make = corpus.FAULTS[name]
    faulty_path = make(data)
    before = list_files(data)
    code = check(monkeypatch, data, "--json", "found.json")
    output = capsys.readouterr()
    report = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert {finding["code"] for finding in report["findings"]} == {kind}
    assert str(faulty_path) in [finding["path"] for finding in report["findings"]]
    assert {finding["severity"] for finding in report["findings"]} == {KINDS[kind]}
    assert code == (3 if KINDS[kind] == "error" else 0)
    assert f"{KINDS[kind]}: {kind} (" in output.out
    assert str(faulty_path) in output.out
    verdict = [line for line in output.out.splitlines() if "--fix DIR repairs" not in line][-1]
    assert verdict.endswith("would stop or go wrong" if code else "can start")
    assert "Traceback" not in output.out + output.err
    assert str(faulty_path) in Path("data-check.html").read_text(encoding="utf-8")
    assert list_files(data) == before


@pytest.mark.parametrize("name", corpus_handled.HANDLED)
def test_unusual_but_supported_data_have_no_faults(data: Path, name: str) -> None:
    path = corpus_handled.HANDLED[name](data)
    root = next(folder for folder in (path, *path.parents) if (folder / "images").is_dir())
    examination = examine_folder(root)
    assert (examination.groups, examination.errors, examination.warnings) == ((), 0, 0)
    dataset = find_dataset(root)
    for split in ("train", "val"):
        for sample in dataset.split(split):
            dataset.read(sample)


@pytest.mark.parametrize("name", [name for name, (kind, _) in corpus.FAULTS.items() if KINDS[kind] == "warning"])
def test_every_sample_can_be_read_in_spite_of_a_warning(data: Path, name: str) -> None:
    corpus.FAULTS[name][1](data)
    dataset = find_dataset(data)
    samples = [*dataset.split("train"), *dataset.split("val")]
    assert len(samples) == (4 if name == "coco_odd_polygon" else 5)  # the image of a damaged shape is left out
    for sample in samples:
        image, target = dataset.read(sample)
        assert image.shape == (*target.shape, dataset.channels)


def test_faults_of_several_kinds_are_found_together(data: Path) -> None:
    """The fault of one file does not hide those of others. Each kind has one group."""
    corpus.colour_masks(data)
    corpus.name_classes(data)
    corpus.image(data, "a").write_bytes(b"")
    corpus.image(data, "f").write_text("<html></html>")
    kinds = {group.kind: len(group.faults) for group in examine_folder(data).groups}
    assert kinds == {"missing-mask": 1, "empty-file": 1, "no-colour-table": 1}


def test_images_are_decoded_once_and_masks_once_more_for_their_classes(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.base(data)
    (data / "dataset.yaml").unlink()
    shutil.copyfile(corpus.image(data, "b"), corpus.image(data, "e", split="val"))
    decoded = []
    load = ImageFile.load

    def count_and_load(image: ImageFile) -> object:
        if image.tile and hasattr(image.fp, "name"):  # thumbs are decoded from memory
            decoded.append(str(image.fp.name))
        return load(image)

    monkeypatch.setattr(ImageFile, "load", count_and_load)
    examine_folder(data)
    files = [str(path) for folder in ("images", "masks", "masks") for path in (data / folder).rglob("*.png")]
    assert sorted(decoded) == sorted(files)


REPAIRED = {
    "missing_mask": 4, "orphan_mask": 4, "duplicate_stem": 5, "zero_bytes": 4, "truncated_image": 4, "html_image": 4,
    "truncated_mask": 4, "not_finite": 4, "symlink_loop": 4, "mixed_channels": 5, "size_mismatch": 4,
    "exif_rotation": 5, "jpeg_mask": 4, "antialiased_grey": 5, "antialiased_colours": 5,
    "some_of_0_255": 5, "unknown_label": 4, "unknown_colour": 4, "copied_to_val": 4, "resized_to_val": 5,
    "nodata_labelled": 5, "misspelt_key": None, "no_colour_table": None,
}  # fmt: skip
"""The number of the five pairs that are in the repaired copy; None if the repair is refused."""


@pytest.mark.parametrize("name", REPAIRED)
def test_the_repaired_copy_has_no_errors_and_the_source_is_unchanged(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    corpus.FAULTS[name][1](data)
    before, folder = list_files(data), data.with_name("fixed")
    expected, severity = REPAIRED[name], KINDS[corpus.FAULTS[name][0]]
    code = check(monkeypatch, data, "--fix", folder)
    assert list_files(data) == before
    if expected is None:
        assert code == 3
        assert "Traceback" not in capsys.readouterr().err
        return
    assert code == (3 if severity == "error" else 0)
    assert examine_folder(folder).errors == 0
    dataset = find_dataset(folder)
    pairs = [dataset.read(sample) for split in ("train", "val") for sample in dataset.split(split)]
    assert len(pairs) == expected


def test_repairs_restore_the_original_labels(data: Path) -> None:
    """0 and 255 become 0 and 1, smoothed edges get the nearest class, and a mask is turned as its image is."""
    corpus.FAULTS["some_of_0_255"][1](data)
    repair(examine_folder(data), data.with_name("binary"))
    original = (corpus.label_map(1) == 1).astype(np.uint8)
    assert np.array_equal(read_label_map(corpus.mask(data.with_name("binary"), "b")), original)

    for name in ("antialiased_grey", "antialiased_colours", "exif_rotation"):
        root, folder = data.with_name(name), data.with_name(f"{name}_fixed")
        corpus.FAULTS[name][1](root)
        repair(examine_folder(root), folder)
        sample = next(sample for sample in find_dataset(folder).split("train") if sample.name == "b")
        target = find_dataset(folder).read_target(sample)
        if name == "exif_rotation":
            assert np.array_equal(target, np.rot90(corpus.label_map(1), -1))
        else:
            wanted = original if name == "antialiased_grey" else corpus.label_map(1)
            assert (target != wanted).mean() < 0.02


def test_jpeg_masks_near_the_class_colours_are_repaired(data: Path) -> None:
    corpus.colour_masks(data)
    path = corpus.mask(data, "b")
    Image.open(path).save(path.with_suffix(".jpg"), quality=92, subsampling=0)
    path.unlink()
    folder = data.with_name("fixed")
    done = repair(examine_folder(data), folder)
    assert (done.pairs, done.left_out) == (5, ())
    dataset = find_dataset(folder)
    sample = next(sample for sample in dataset.split("train") if sample.name == "b")
    assert (dataset.read_target(sample) != corpus.label_map(1)).mean() < 0.02


def test_files_without_faults_are_copied_byte_by_byte(data: Path) -> None:
    corpus.base(data)
    folder = data.with_name("fixed")
    assert repair(examine_folder(data), folder).done == ()
    originals = {name: digest for name, digest in list_files(data).items() if name != "dataset.yaml"}
    assert {name: digest for name, digest in list_files(folder).items() if name != "dataset.yaml"} == originals


def test_repair_refuses_folders_that_overlap_the_source(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.base(data)
    examination, before = examine_folder(data), list_files(data.parent)
    folders = {data: "folder-not-empty", data / "images" / "new": "folder-in-data", data.parent: "folder-not-empty"}
    for folder, code in folders.items():
        with refuses(code, folder):
            repair(examination, folder)
        assert check(monkeypatch, data, "--fix", folder) == 2
    assert list_files(data.parent) == before


def test_check_writes_nothing_into_the_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus.base(data)
    before = list_files(data)
    monkeypatch.chdir(data / "images")
    assert check(monkeypatch, data) == 0
    assert list_files(data) == before


def test_a_folder_without_a_layout_ends_with_exit_code_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    assert check(monkeypatch, tmp_path) == 3
    assert check(monkeypatch, tmp_path / "nowhere") == 3


@given(label_maps)
def test_the_width_of_a_pixel_is_the_shorter_of_its_row_and_column_runs(target: UInt8) -> None:
    widths_of_pixels = measure_widths(target)
    for (y, x), label in np.ndenumerate(target):
        runs = []
        for line, at in ((target[y], x), (target[:, x], y)):
            before = next((k for k in range(at + 1) if line[at - k] != label), at + 1)
            after = next((k for k in range(len(line) - at) if line[at + k] != label), len(line) - at)
            runs.append(before + after - 1)
        assert widths_of_pixels[y, x] == min(runs)
    counts = count_widths(target)
    for label in range(4):
        held = np.sort(widths_of_pixels[target == label])
        assert median_width(counts[label]) == (int(held[(len(held) - 1) // 2]) if len(held) else None)
        assert counts[label].sum() == len(held)


def test_the_median_width_of_a_bar_is_its_shorter_side() -> None:
    target = np.zeros((200, 300), np.uint8)
    target[20:180, 50:53], target[100:105, 60:250] = 1, 2
    counts = count_widths(target)
    assert [median_width(row) for row in counts[:4]] == [WIDEST, 3, 5, None]


def images(tmp_path: Path) -> Iterator[tuple[Path, UInt8]]:
    for seed in range(20):
        path = tmp_path / f"{seed}.png"
        write_image(path, corpus.scene(seed, (60, 80)))
        yield path, read_image(path).pixels


def test_resized_jpeg_copies_are_recognised_and_other_images_are_not(tmp_path: Path) -> None:
    first = [hash_image(path, rgb) for path, rgb in images(tmp_path)]
    assert list(same_images(first[:10], first[10:])) == []
    changed = []
    for seed in range(20):
        path = tmp_path / f"{seed}.jpg"
        Image.fromarray(corpus.scene(seed, (60, 80))).resize((120, 90)).save(path, quality=60)
        changed.append(hash_image(path, read_image(path).pixels))
    assert list(same_images(first, changed)) == [(seed, seed, False) for seed in range(20)]
    assert list(same_images(first, first)) == [(seed, seed, True) for seed in range(20)]


def test_images_of_one_colour_are_compared_by_bytes_only(tmp_path: Path) -> None:
    hashes = []
    for name, options in (("a", {}), ("b", {"compress_level": 0})):
        path = tmp_path / f"{name}.png"
        Image.fromarray(np.full((40, 50, 3), 99, np.uint8)).save(path, **options)
        hashes.append(hash_image(path, read_image(path).pixels))
    assert list(same_images(hashes[:1], hashes[1:])) == []
    assert list(same_images(hashes[:1], hashes[:1])) == [(0, 0, True)]


def test_the_page_needs_no_network_and_every_picture_has_alternative_text(data: Path, tmp_path: Path) -> None:
    root = corpus_handled.unicode_and_blanks(data)
    corpus.image(root, "a").write_bytes(b"")
    (root / "images" / "train" / "<script>.png").write_bytes(b"")
    path = tmp_path / "page.html"
    write_check_page(path, examine_folder(root))
    page = Page(path.read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert {"h1", "h2", "h3", "details", "summary", "svg", "ul"} <= set(page.tags)
    assert all(after - before <= 1 for before, after in pairwise(page.headings))
    assert {values["href"] for _, values in page.attributes if "href" in values} == {"#main"}
    images = [values for tag, values in page.attributes if tag == "img"]
    assert len(images) == 3 * 4 + 1  # of the empty image's pair, only the mask
    assert all(image["src"].startswith("data:image/jpeg;base64,") and image["alt"] for image in images)


def test_the_thumbnails_of_a_large_set_are_few_and_show_faults_first(data: Path) -> None:
    corpus.base(data)
    for number in range(100):
        shutil.copyfile(corpus.image(data, "a"), corpus.image(data, f"n{number:03}"))
        shutil.copyfile(corpus.mask(data, "a"), corpus.mask(data, f"n{number:03}"))
    corpus.image(data, "n099").write_bytes(b"")
    examination = examine_folder(data)
    assert examination.thumbs[0].name == "n099"
    assert 10 <= len(examination.thumbs) <= 14
    assert {thumb.split for thumb in examination.thumbs} == {"train", "val"}


def test_every_kind_is_made_by_the_corpus() -> None:
    assert {kind for kind, _ in corpus.FAULTS.values()} == set(KINDS) - {"inferred"}  # test_reading.py makes it


def kinds_in_the_source() -> set[str]:
    """Return the kinds in all calls of `Fault`."""
    kinds = set()
    for path in (Path(__file__).parents[1] / "src" / "fullconv").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fault" and node.args:
                kinds |= {leaf.value for leaf in ast.walk(node.args[0]) if isinstance(leaf, ast.Constant)}
    return kinds


def test_every_fault_in_the_source_has_a_kind_in_the_table() -> None:
    kinds = kinds_in_the_source()
    assert len(kinds) > 40
    assert kinds <= set(KINDS)


def test_an_error_without_faults_becomes_a_fault_of_its_file() -> None:
    path = Path("b.png")
    (known,) = DataError("colours of no class", code="unknown-colour").faults_at(path)
    (other,) = DataError("an unexpected error").faults_at(path)
    assert (known.kind, known.path, other.kind) == ("unknown-colour", path, "unreadable-file")
    assert (other.problem, other.severity) == ("an unexpected error", "error")


def test_an_error_has_all_its_faults_and_their_common_kind() -> None:
    faults = [Fault("missing-mask", Path(f"{number}.png"), "no mask has its stem", "add it") for number in range(60)]
    one, many = DataError.of(faults[0]), DataError("60 faults", faults)
    assert (str(one), one.code, one.faults) == ("0.png: no mask has its stem; add it", "missing-mask", (faults[0],))
    assert (many.code, len(many.faults), len(str(many).splitlines())) == ("missing-mask", 60, 52)
    assert DataError("two", [faults[0], Fault("empty-file", Path("a"), "is empty", "copy it")]).code == "data"


def test_findings_in_json_name_their_sample_and_whether_they_can_be_repaired(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.FAULTS["exif_rotation"][1](data)
    corpus.image(data, "e", split="val").write_bytes(b"")
    check(monkeypatch, data, "--json", "found.json")
    findings = json.loads(Path("found.json").read_text(encoding="utf-8"))["findings"]
    keys = {"code", "severity", "path", "problem", "remedy", "sample", "split", "fixable"}
    assert all(set(finding) == keys for finding in findings)
    facts = {finding["code"]: (finding["split"], finding["sample"], finding["fixable"]) for finding in findings}
    assert facts == {"exif-rotation": ("train", "b", True), "empty-file": ("val", "e", False)}


def test_a_missing_mask_names_its_sample_and_split(data: Path) -> None:
    corpus.FAULTS["missing_mask"][1](data)
    (fault,) = examine_folder(data).groups[0].faults
    assert (fault.kind, fault.sample, fault.split) == ("missing-mask", "b", "train")


WORDING = {
    "missing_mask": "images/train/b.png: no mask has its stem; add masks/train/b.png, or remove the image",
    "misspelt_key": "dataset.yaml: unknown key 'pallete'; did you mean 'palette'?",
    "size_mismatch": "masks/train/b.png: is 64x40 (width x height), but its image images/train/b.png is 64x48; "
    "resize the mask without interpolation, or export it again",
    "some_of_0_255": "masks/train/b.png: contains only 0 and 255, while other masks contain 0 and 1; "
    "255 is ignored; write `values: {0: ground, 1: roof, 255: roof}` into dataset.yaml, with the right class for each, "
    "or write 255 as 1",
    "coco_without_an_image": "annotations/instances_train.json: its image 'train1.png' is not in images/train; "
    "put it there",
}
"""The messages of some faults, relative to the data folder; docs/faults.md has all."""


@pytest.mark.parametrize("name", WORDING)
def test_the_message_of_a_fault_says_problem_and_remedy(data: Path, name: str) -> None:
    faulty_path = corpus.FAULTS[name][1](data)
    faults = [fault for group in examine_folder(data).groups for fault in group.faults if fault.path == faulty_path]
    assert [str(fault).replace(f"{data}/", "") for fault in faults] == [WORDING[name]]


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs the CamVid data next to the project")
def test_the_only_fault_of_camvid_is_its_thin_poles(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
            for path in sorted((CAMVID / folder).glob("*.png"))[::20]:
                shutil.copyfile(path, tmp_path / folder / path.name)
    examination = examine_folder(tmp_path)
    assert [group.kind for group in examination.groups] == ["thin-objects"]
    assert "class pole are 3 px" in examination.groups[0].faults[0].problem
    folder = tmp_path / "fixed"
    with refuses("folder-in-data", folder):
        repair(examination, folder)


def test_the_page_of_faults_is_current() -> None:
    made = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "make_faults.py"))
    page = (Path(__file__).parents[1] / "docs" / "faults.md").read_text(encoding="utf-8")
    assert page == made["document"](), "run python docs/make_faults.py"
