"""Each image is predicted or fails with one line; no result overwrites another result or an input."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fullconv.data.dataset import DataSet, Sample
from fullconv.errors import DataError, Interrupted, ModelError
from fullconv.evaluation.evaluate import evaluate
from fullconv.geometry.tiles import Window
from fullconv.images import overlay, read_image, read_label_map, write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.metrics import Scores, confusion_matrix
from fullconv.model_info import ModelInfo
from fullconv.predict.inputs import expand_inputs, output_names
from fullconv.predict.outputs import DEFAULT_SAVES
from fullconv.predict.predict_files import PredictOptions, predict_files
from fullconv.predict.result import segment
from fullconv.runtime.runner import label_maps, largest
from refusals import matches, refuses

UInt8 = npt.NDArray[np.uint8]
LABELS = LabelSet.named(["red", "green", "blue"])
INFO = ModelInfo(LABELS, (Window(0, 0), Window(0, 0)), exact=True)


@dataclass(frozen=True)
class StrongestChannel:
    """A runner whose class of a pixel is its largest channel."""

    info: ModelInfo = INFO

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        return images.transpose(0, 3, 1, 2).astype(np.float32)

    def label_maps(self, images: UInt8) -> UInt8:
        return largest(self.logits(images))


@dataclass(frozen=True)
class Failing(StrongestChannel):
    """A runner that fails on images of one row."""

    error: BaseException = field(default_factory=MemoryError)

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        if images.shape[1] == 1:
            raise self.error
        return super().logits(images)


def noise(height: int, width: int, seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def make(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(4, 5, seed)).save(path, format="PNG")
    return paths


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_many_kinds_of_files_is_predicted(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    make(folder, "plain.png")
    write_image(folder / "1x1.png", noise(1, 1))
    write_image(folder / "37x501.bmp", noise(37, 501))
    write_image(folder / "4000x3000.bmp", np.full((3000, 4000, 3), (9, 80, 7), np.uint8))
    picture = Image.fromarray(noise(16, 24))
    picture.convert("P").save(folder / "palette.png")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    picture.save(folder / "rotated.jpg", exif=rotated)
    Image.fromarray(noise(16, 24)[..., 0].astype(np.uint16) * 257).save(folder / "16bit.png")
    (folder / "truncated.png").write_bytes((folder / "37x501.bmp").read_bytes()[:5000])
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("not asked for")
    messages: dict[Path, str | None] = {}
    paths = expand_inputs([str(folder)])
    report = predict_files(StrongestChannel(), paths, out, PredictOptions(on_image=messages.__setitem__))
    assert [path.name for path, _ in report.failed] == ["empty.jpg", "truncated.png"]
    assert all(message.startswith(f"{path}: ") and "\n" not in message for path, message in report.failed)
    assert messages == dict.fromkeys(report.done) | dict(report.failed)
    assert len(report.done) == 9
    for path in report.done:
        image = read_image(path).pixels
        label_map = read_label_map(out / f"{path.stem}.png")
        assert np.array_equal(label_map, label_maps(StrongestChannel(), image[None])[0])
        assert read_image(out / "overlays" / f"{path.stem}.jpg").pixels.shape == image.shape
    assert read_label_map(out / "rotated.png").shape == (24, 16)


@pytest.mark.parametrize("save", [["labels"], ["overlay"], DEFAULT_SAVES])
def test_only_requested_kinds_are_saved(tmp_path: Path, save: list[str]) -> None:
    paths = make(tmp_path, "a.png")
    predict_files(StrongestChannel(), paths, tmp_path / "out", PredictOptions(save))
    expected = {"labels": "a.png", "overlay": "overlays/a.jpg"}
    assert files_below(tmp_path / "out") == {expected[kind] for kind in save}


def test_overlay_shows_the_label_map(tmp_path: Path) -> None:
    image = np.full((8, 8, 3), (200, 10, 60), np.uint8)
    write_image(tmp_path / "a.png", image)
    predict_files(StrongestChannel(), [tmp_path / "a.png"], tmp_path / "out")
    expected = overlay(image, np.zeros((8, 8), np.uint8), LABELS)
    written = read_image(tmp_path / "out" / "overlays" / "a.jpg").pixels
    assert np.abs(written.astype(int) - expected).max() <= 3


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError("disk"), ModelError("no"), DataError("bad"), ZeroDivisionError()]
)
def test_a_failed_image_does_not_stop_the_others(tmp_path: Path, error: BaseException) -> None:
    paths = make(tmp_path, "a.png", "c.png")
    write_image(tmp_path / "b.png", noise(1, 9))
    paths.insert(1, tmp_path / "b.png")
    report = predict_files(Failing(error=error), paths, tmp_path / "out", PredictOptions(["labels"]))
    assert report.done == (paths[0], paths[2])
    assert [path for path, _ in report.failed] == [paths[1]]
    assert files_below(tmp_path / "out") == {"a.png", "c.png"}


@pytest.mark.parametrize("error", [Interrupted("stopped"), KeyboardInterrupt()])
def test_interrupts_stop_the_run(tmp_path: Path, error: BaseException) -> None:
    write_image(tmp_path / "b.png", noise(1, 9))
    with pytest.raises(type(error)):
        predict_files(Failing(error=error), [tmp_path / "b.png"], tmp_path / "out")


def test_impossible_calls_are_refused_before_any_work(tmp_path: Path) -> None:
    paths = make(tmp_path, "a.png")
    with refuses("unknown-result-kind", "overlays", "labels, overlay"):
        predict_files(StrongestChannel(), paths, tmp_path / "out", PredictOptions(["labels", "overlays"]))
    with refuses("nothing-to-save"):
        predict_files(StrongestChannel(), paths, tmp_path / "out", PredictOptions([]))
    with refuses("output-is-a-file", paths[0]):
        predict_files(StrongestChannel(), paths, paths[0])
    assert files_below(tmp_path) == {"a.png"}


def test_an_overlay_that_jpeg_cannot_hold_is_refused_before_the_image_is_predicted(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 65_501, 3), np.uint8)).save(tmp_path / "long.png")
    ((_, message),) = predict_files(Failing(), [tmp_path / "long.png"], tmp_path / "out").failed
    assert matches("too-large-for-overlay", message)
    report = predict_files(StrongestChannel(), [tmp_path / "long.png"], tmp_path / "out", PredictOptions(["labels"]))
    assert report.failed == ()
    assert files_below(tmp_path / "out") == {"long.png"}


def test_an_input_is_never_overwritten(tmp_path: Path) -> None:
    paths = make(tmp_path, "a.png", "b.bmp", "overlays/c.jpg", "c.tif")
    before = [path.read_bytes() for path in paths]
    report = predict_files(StrongestChannel(), paths, tmp_path)
    assert [path.read_bytes() for path in paths] == before
    assert dict(report.failed).keys() == {paths[0], paths[3]}
    assert all(matches("overwrites-input", message) for _, message in report.failed)
    assert report.done == (paths[1], paths[2])


@pytest.mark.parametrize(
    ("image", "kind", "file"),
    [
        ("a.jpg", "labels", "a.png"),
        ("a.tif", "labels", "a.png"),
        ("overlays/a.png", "overlay", "overlays/a.jpg"),
        ("labelme/a.jpg", "labelme", "labelme/a.json"),
        ("polygons/a.jpg", "polygons", "polygons/a.geojson"),
    ],
)
def test_a_file_in_the_folder_of_an_input_is_never_overwritten(
    tmp_path: Path, image: str, kind: str, file: str
) -> None:
    """It may be a mask or annotation that the user made."""
    (path,) = make(tmp_path, image)
    (tmp_path / file).write_text("mine")
    (failure,) = predict_files(Failing(), [path], tmp_path, PredictOptions([kind])).failed
    assert matches("overwrites-file", failure[1])
    assert str(tmp_path / file) in failure[1]
    assert (tmp_path / file).read_text() == "mine"
    assert predict_files(StrongestChannel(), [path], tmp_path / "out", PredictOptions([kind])).failed == ()


def test_results_of_equal_stems_have_different_names(tmp_path: Path) -> None:
    names = ("a.jpg", "a.png", "sub/a.png", "overlays/a.png", "b.png", "c", "c.png", "d.png", "D.bmp")
    paths = make(tmp_path / "in", *names)
    report = predict_files(StrongestChannel(), paths, tmp_path / "out")
    assert report.done == tuple(paths)
    label_map_names = "a.jpg.png a.png.png sub/a.png overlays/a.png b.png c.png c.png.png d.png.png D.bmp.png"
    for path, name in zip(paths, label_map_names.split(), strict=True):
        expected = label_maps(StrongestChannel(), read_image(path).pixels[None])[0]
        assert np.array_equal(read_label_map(tmp_path / "out" / name), expected)
    assert len(files_below(tmp_path / "out")) == 2 * len(paths)


names = st.sampled_from(["a", "a.x", "A.x", "a.y", "a.x.x", "a.x.y", ".x", "...x"])


@given(st.lists(st.lists(names, min_size=1, max_size=2), unique_by=tuple))
def test_names_of_all_results_differ(parts: list[list[str]]) -> None:
    paths = [Path("in", *part) for part in parts]
    results = output_names(paths)
    assert len(set(results)) == len(paths)
    for path, result in zip(paths, results, strict=True):
        assert result.name in (path.stem, path.name)
        assert not result.is_absolute()
        assert ".." not in result.parts


def test_names_keep_folders_below_the_shared_one() -> None:
    assert output_names([Path("in/a/x.jpg"), Path("in/a/y.jpg")]) == [Path("x"), Path("y")]
    assert output_names([Path("in/a/x.jpg"), Path("other/../in/b/x.jpg")]) == [Path("a/x"), Path("b/x")]


def test_arguments_are_files_folders_and_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(
        tmp_path,
        "x/b.png",
        "x/a.JPG",
        "x/sub/c.tif",
        "x/.hidden.png",
        "x/.cache/d.png",
        "x/[1].png",
        "raw.dat",
    )
    (tmp_path / "x/notes.txt").touch()
    monkeypatch.chdir(tmp_path)

    def expand(*arguments: str) -> str:
        return " ".join(path.as_posix() for path in expand_inputs(arguments))

    assert expand("x") == "x/[1].png x/a.JPG x/b.png x/sub/c.tif"
    assert expand("x/**/*.*") == expand("x/**") == expand("x")
    assert expand("x/*.png") == "x/[1].png x/b.png"
    assert expand("**/[bc].*") == "x/b.png x/sub/c.tif"
    assert expand("x/[1].png") == "x/[1].png"
    assert expand("raw.dat", "x/.hidden.png") == "raw.dat x/.hidden.png"
    assert expand("x/.h*") == "x/.hidden.png"
    assert expand("x/b.png", "x", "x/../x/a.JPG", "x/*.JPG") == "x/b.png x/[1].png x/a.JPG x/sub/c.tif"
    assert expand(str(tmp_path / "x/*.JPG")) == (tmp_path / "x/a.JPG").as_posix()


def test_all_arguments_without_images_are_listed_at_once(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    (tmp_path / "bare").mkdir()
    names = ["missing.png", "bare", "*.gif", "n" * 300]
    if sys.version_info < (3, 13):  # from 3.13 on it means a*
        names.append("a**")
    wrong = [str(tmp_path / name) for name in names]
    with refuses("no-input") as refusal:
        expand_inputs([wrong[0], str(tmp_path / "a.png"), *wrong[1:], ""])
    assert isinstance(refusal.error, DataError)
    for argument, line in zip([*wrong, "(empty)"], refusal.error.details, strict=True):
        assert line.startswith(f"{argument}: ")


def test_links_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path, "x/a.png", "y/b.png")
    (tmp_path / "x/loop").symlink_to(tmp_path / "x")
    (tmp_path / "x/yonder").symlink_to(tmp_path / "y")
    (tmp_path / "x/z.png").symlink_to(tmp_path / "x/a.png")
    names = [path.relative_to(tmp_path).as_posix() for path in expand_inputs([str(tmp_path / "x")])]
    assert names == ["x/a.png", "x/yonder/b.png", "x/z.png"]


def test_results_are_not_inputs_of_the_next_run(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg")
    out = tmp_path / "results"
    first = expand_inputs([str(tmp_path)], out)
    predict_files(StrongestChannel(), first, out)
    assert expand_inputs([str(tmp_path)], out) == first
    assert len(expand_inputs([str(out)], out)) == 4


def test_evaluate_sums_pixels_of_images_of_all_sizes(tmp_path: Path) -> None:
    runner = StrongestChannel()
    images = [noise(1, 1), noise(37, 5), noise(8, 9, seed=3)]
    targets = [np.where(image[..., 0] > 99, image[..., 1] % 3, 255).astype(np.uint8) for image in images]
    samples = [Sample(str(n), tmp_path / f"{n}.png", tmp_path / f"{n}-mask.png") for n in range(len(images))]
    for sample, image, target in zip(samples, images, targets, strict=True):
        write_image(sample.image, image)
        write_label_map(sample.target, target, LABELS)
    scores = evaluate(runner, DataSet("folder", tmp_path, LABELS, {"val": tuple(samples)}), samples)
    predicted = np.concatenate([label_maps(runner, image[None]).ravel() for image in images])
    together = confusion_matrix(np.concatenate([target.ravel() for target in targets]), predicted, 3)
    assert scores.to_dict() == Scores.from_confusion(together, LABELS.class_names).to_dict()


@dataclass(frozen=True)
class Short(StrongestChannel):
    """A runner that loses the first row."""

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        return super().logits(images)[:, :, 1:]


def test_results_of_a_wrong_size_are_refused() -> None:
    with refuses("label-map-shape", (1, 3, 4), (1, 4, 4)):
        label_maps(Short(), noise(4, 4)[None])
    with refuses("logits-shape", (3, 3, 4), (3, 4, 4)):
        segment(Short(), noise(4, 4), "a", keep_logits=True)


def test_inputs_on_different_drives_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(paths: object) -> str:
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr("os.path.commonpath", refuse)
    with refuses("inputs-on-different-drives"):
        output_names([Path("a.png"), Path("b.png")])


def test_a_folder_that_cannot_be_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths, original = make(tmp_path, "a.png", "closed/b.png", "open/c.png"), Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iter([*original(path)])

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert expand_inputs([str(tmp_path)]) == [paths[0], paths[2]]
    assert f"{tmp_path / 'closed'}: left out, because this folder cannot be read (Permission denied)" in caplog.text
    with refuses("no-input"):
        expand_inputs([str(tmp_path / "closed")])
