"""The Python interface: all forms of an image give the same result, and other values are refused with advice."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

import fullconv
from command_line import check
from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.errors import DataError, ModelError, UsageError
from fullconv.geometry.tiles import Window
from fullconv.images import read_label_map, write_image
from fullconv.labels import LabelSet
from fullconv.metrics import confusion_matrix
from fullconv.model_info import ModelInfo
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.classifiers.digit_net import digit_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.torch_runner import TorchRunner
from fullconv.predict.areas_table import read_areas
from fullconv.predict.model import Model
from fullconv.predict.result import segment
from fullconv.runtime import models
from fullconv.runtime.runner import largest
from refusals import refuses

ROOT = Path(__file__).parent.parent
UInt8 = npt.NDArray[np.uint8]
LABELS = LabelSet.named(["road", "<b>car</b>", "person & dog"])


def noise(height: int, width: int, seed: int = 0) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a network with random weights whose labels depend on the image."""
    torch.manual_seed(0)
    net = build(NetSpec("digits", 3, 8))
    for name, module in net.named_children():
        if name.startswith("score_"):
            nn.init.normal_(module.weight)  # type: ignore[arg-type]
    with torch.no_grad():  # no class dominates
        scores = net.eval()(torch.from_numpy(noise(64, 96)[None]).permute(0, 3, 1, 2))
        net.score_fr.bias -= scores.mean((0, 2, 3))  # type: ignore[operator]
    folder = tmp_path_factory.mktemp("run")
    save_net(folder / "best.safetensors", net.state_dict(), Saved(net.spec, LABELS))
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return fullconv.load(run)


class Counting:
    """A runner whose class of a pixel is its largest channel, and that counts its calls."""

    info = ModelInfo(LABELS, (Window(0, 0), Window(0, 0)), exact=True)

    def __init__(self) -> None:
        self.calls: list[str] = []

    def logits(self, images: UInt8) -> npt.NDArray[np.float32]:
        self.calls.append("logits")
        return images.transpose(0, 3, 1, 2).astype(np.float32)

    def label_maps(self, images: UInt8) -> UInt8:
        self.calls.append("label_maps")
        return largest(images.transpose(0, 3, 1, 2).astype(np.float32))


def test_label_map_is_that_of_the_runner(run: Path, model: Model) -> None:
    image = noise(67, 93)
    result = model.predict(image)
    expected = TorchRunner.load(run).label_maps(image[None])[0]
    assert len(np.unique(expected)) > 1
    assert np.array_equal(result.label_map, expected)
    assert result.label_map.dtype == np.uint8
    assert model.labels == LABELS
    scores = result.logits
    clear = np.diff(np.sort(scores, 0)[-2:], axis=0)[0] > 1e-4
    assert np.array_equal(scores.argmax(0)[clear], expected[clear])
    assert clear.mean() > 0.99
    assert sum(area.pixels for area in result.areas().values()) == 67 * 93


def test_path_opened_image_and_array_give_the_same_result(tmp_path: Path, model: Model) -> None:
    image = noise(48, 64)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "a.png", exif=turned)
    upright = np.rot90(image, -1)
    expected = model.predict(upright)
    for form in (str(tmp_path / "a.png"), tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        result = model.predict(form)
        assert np.array_equal(result.image, upright)
        assert np.array_equal(result.label_map, expected.label_map)
    grey = Image.fromarray(image[..., 0])
    assert np.array_equal(model.predict(grey).image, np.stack([image[..., 0]] * 3, -1))


@pytest.mark.parametrize(
    ("value", "code", "hint"),
    [
        (noise(4, 5) / 255, "unsupported-array-type", "float64: scale it to 0 to 255"),
        (noise(4, 5).astype(np.int32), "unsupported-array-type", "int32"),
        (noise(4, 5)[..., 0], "unsupported-array-shape", "np.stack"),
        (noise(4, 5).transpose(2, 0, 1), "unsupported-array-shape", "transpose(1, 2, 0)"),
        (np.zeros((4, 5, 4), np.uint8), "unsupported-array-shape", "a[..., :3]"),
        (noise(4, 5)[None], "unsupported-array-shape", "1 x 4 x 5 x 3"),
        (noise(4, 5)[:0], "unsupported-array-shape", "0 x 5 x 3"),
        (np.uint8(3), "not-an-image", "uint8"),
        (torch.zeros(4, 5, 3), "not-an-image", "Tensor"),
        (None, "not-an-image", "NoneType"),
        ([[[0, 0, 0]]], "not-an-image", "list"),
    ],
)
def test_other_values_are_refused_with_advice(model: Model, value: Any, code: str, hint: str) -> None:
    with refuses(code, hint):
        model.predict(value)


def test_broken_files_and_empty_images_raise_data_errors(tmp_path: Path, model: Model) -> None:
    write_image(tmp_path / "a.png", noise(40, 40))
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    with Image.open(tmp_path / "cut.png") as opened:
        for image in (tmp_path / "lost.png", tmp_path / "cut.png", opened):
            with pytest.raises(DataError, match=r"(lost|cut)\.png: "):
                model.predict(image)
    with pytest.raises(DataError, match="0 x 3 pixels"):
        model.predict(Image.new("RGB", (0, 3)))


def test_later_changes_of_the_array_do_not_change_the_result() -> None:
    image = noise(5, 6)
    result = Model(Counting()).predict(image)
    before = result.label_map.copy()
    image[:] = 0
    assert np.array_equal(result.logits.argmax(0), before)


def test_logits_are_computed_once_at_their_first_use() -> None:
    runner = Counting()
    result = segment(runner, noise(5, 6), "a")
    result.areas(), result.polygons(), result.overlay(), repr(result)
    assert runner.calls == ["label_maps"]
    assert result.logits is result.logits
    assert result.probabilities().shape == (3, 5, 6)
    assert runner.calls == ["label_maps", "logits"]


def test_predict_many_is_lazy_and_keeps_the_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "sub/c.png"):
        write_image(tmp_path / name, noise(3, 4))
    runner = Counting()
    results = Model(runner).predict_many(tmp_path)
    assert runner.calls == []
    assert next(results).name == "a"
    assert len(runner.calls) == 1
    assert [result.name for result in results] == ["b", "sub/c"]
    mixed = Model(runner).predict_many([noise(2, 3), tmp_path / "b.png", Image.new("RGB", (4, 5))])
    assert [(result.name, result.label_map.shape) for result in mixed] == [
        ("image", (2, 3)),
        ("b", (3, 4)),
        ("image", (5, 4)),
    ]


def test_saving_again_replaces_only_the_rows_of_the_image(tmp_path: Path) -> None:
    model = Model(Counting())
    red = np.zeros((2, 3, 3), np.uint8) + np.array([9, 0, 0], np.uint8)
    for image, name in ((red, "a"), (noise(4, 4), "b"), (np.concatenate([red, red]), "a")):
        written = model.predict(image).save(tmp_path, ["labels", "areas"], name)
        assert written == {"labels": tmp_path / f"{name}.png", "areas": tmp_path / "areas.csv"}
    rows = read_areas(tmp_path / "areas.csv")
    assert [row[0] for row in rows] == ["b"] * 3 + ["a"] * 3
    assert rows[3][:3] == ("a", "road", "12")
    assert read_label_map(tmp_path / "a.png").shape == (4, 3)


@pytest.mark.parametrize(
    ("kinds", "code"), [("labels", "kinds-not-a-list"), (["label"], "unknown-result-kind"), ([], "nothing-to-save")]
)
def test_unknown_kinds_are_refused(tmp_path: Path, kinds: Any, code: str) -> None:
    result = segment(Counting(), noise(2, 2), "a")
    with refuses(code):
        result.save(tmp_path, kinds)
    assert not list(tmp_path.iterdir())


class Page(HTMLParser):
    """The tags, picture addresses and text of an HTML page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name == "src" and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_image_overlay_and_present_classes() -> None:
    image = np.zeros((300, 1200, 3), np.uint8)
    image[:, :, 1], image[:, 900:, 2] = 100, 200
    result = segment(Counting(), image, '"><script>alert(1)</script>')
    page = Page(result._repr_html_())
    assert set(page.tags) == {"div", "img", "span"}
    assert "<b>car</b> 75.0%" in page.text
    assert "person & dog 25.0%" in page.text
    assert "road" not in page.text
    shown = [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in page.sources]
    assert [picture.size for picture in shown] == [(480, 120)] * 2
    for picture, expected in zip(shown, (image, result.overlay()), strict=True):
        assert np.abs(np.asarray(picture)[60, 100].astype(int) - expected[150, 250]).max() <= 6


def test_bundled_names_are_files_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "inside"
    monkeypatch.chdir(tmp_path)
    with refuses("no-model", "'street'", "this installation has none"):
        models.bundled("street", folder)
    for path in (
        "inside/street.onnx",
        "inside/digits.onnx",
        "inside/notes.txt",
        "street/best.safetensors",
        "secret.onnx",
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert models.bundled_names(folder) == ["digits", "street"]
    assert models.bundled("street", folder) == models.model_path("street", folder) == folder / "street.onnx"
    assert models.model_path("./street", folder) == models.model_path(Path("street"), folder) == Path("street")
    for name in ("stret", "../secret", "notes", ""):
        with refuses("no-model", "digits, street"):
            models.bundled(name, folder)
    with refuses("no-model", "runs/lost", *models.bundled_names()):
        fullconv.load("runs/lost")


def test_names_of_the_results_of_a_folder_differ(tmp_path: Path, run: Path) -> None:
    for name in ("a/photo.png", "b/photo.png", "b/photo.jpg"):
        write_image(tmp_path / name, noise(20, 30))
    names = {result.name for result in fullconv.load(run).predict_many(tmp_path)}
    assert names == {"a/photo", "b/photo.png", "b/photo.jpg"}


def test_public_names_exist_and_have_docstrings() -> None:
    assert set(fullconv.__all__) <= set(dir(fullconv))
    for name in fullconv.__all__:
        value = getattr(fullconv, name)
        assert value.__doc__ or name == "__version__"
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        fullconv.tarin  # type: ignore[attr-defined]  # noqa: B018
    assert fullconv.Model is Model


def test_public_names_do_not_import_torch() -> None:
    """Without torch, only calls that need it fail, with the pip command."""
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import fullconv\n"
        "from fullconv.errors import MissingExtra\n"
        "for name in fullconv.__all__: getattr(fullconv, name)\n"
        "calls = (fullconv.train, ('data',)), (fullconv.fcn8s, ('digits', 2)), (fullconv.export, ('run',)), "
        "(fullconv.convolutionalize, (None,))\n"
        "for function, arguments in calls:\n"
        "    try: function(*arguments)\n"
        "    except MissingExtra as error: print(error.code)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split()) == (0, ["missing-extra"] * 4), run.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digit_dataset(tmp_path_factory.mktemp("data") / "digits", train=2, val=3, size=(48, 64))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a network with the classes of `data`."""
    torch.manual_seed(0)
    net = build(NetSpec("digits", 11, 32))
    nn.init.normal_(net.score_fr.weight)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("digits")
    save_net(folder / "best.safetensors", net.state_dict(), Saved(net.spec, DIGIT_LABELS))
    return folder


def test_evaluate_gives_the_scores_of_its_definition(data: Path, digits: Path) -> None:
    done: list[tuple[int, int]] = []
    scores = fullconv.evaluate(digits, data, on_sample=lambda *numbers: done.append(numbers))
    assert done == [(1, 3), (2, 3), (3, 3)]
    dataset, confusion = find_dataset(data), np.zeros((11, 11), np.int64)
    for sample in dataset.split("val"):
        image, target = dataset.read(sample)
        confusion += confusion_matrix(target, fullconv.load(digits).predict(image).label_map, 11)
    assert scores.to_dict() == fullconv.Scores.from_confusion(confusion, DIGIT_LABELS.class_names).to_dict()
    assert len(np.flatnonzero(confusion.sum(0))) > 1
    assert fullconv.evaluate(digits, data, split="train").to_dict() != scores.to_dict()


def test_evaluate_refuses_a_model_of_other_classes(data: Path, run: Path) -> None:
    with pytest.raises(ModelError) as caught:
        fullconv.evaluate(run, data)
    assert caught.value.code == "classes-differ"


def test_check_equals_the_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    image = next((folder / "images" / "val").iterdir())
    image.write_bytes(image.read_bytes()[:-300])
    done: list[tuple[int, int]] = []
    examination = fullconv.check(folder, on_sample=lambda *numbers: done.append(numbers))
    assert done == [(number, 5) for number in range(1, 6)]
    assert examination.errors == 1
    assert check(monkeypatch, folder, "--html", tmp_path / "a.html", "--json", tmp_path / "a.json") == 3
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(json.dumps(examination.to_dict()))


def test_exported_file_gives_the_labels_of_the_run(digits: Path, tmp_path: Path) -> None:
    exported = fullconv.export(digits, tmp_path / "a.onnx", licence="CC0-1.0")
    assert exported.path == tmp_path / "a.onnx"
    image = noise(50, 60)
    torch_labels, onnx_labels = (fullconv.load(path).predict(image).label_map for path in (digits, exported.path))
    assert (torch_labels == onnx_labels).mean() > 0.999
    assert fullconv.export(digits).path == digits / "model.onnx"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"int8": True}, "int8-needs-data"),
        ({"data": "mydata"}, "int8-needs-data"),
        ({"force": True}, "force-without-int8"),
        ({"out": "a.pth"}, "not-onnx"),
    ],
)
def test_export_refuses_contradictory_options(digits: Path, arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        fullconv.export(digits, **arguments)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("build_net", "stride"),
    [(fullconv.fcn32s, 32), (fullconv.fcn16s, 16), (fullconv.fcn8s, 8), (fullconv.fcn4s, 4), (fullconv.fcn2s, 2)],
)
def test_skip_networks_have_their_strides(build_net: Callable[..., Any], stride: int) -> None:
    net = build_net("digits", num_classes=5, weights="none")
    assert (net.spec.stride, net.spec.num_classes) == (stride, 5)
    assert net(torch.zeros(2, 3, 33, 47)).shape == (2, 5, 33, 47)


@pytest.mark.parametrize(
    ("function", "arguments", "options", "code"),
    [
        ("convolutionalize", ["alexnet"], {}, "not-a-module"),
        ("convolutionalize", [nn.Linear(1, 1), "224"], {}, "invalid-size"),
        ("convolutionalize", [nn.Linear(1, 1), (224, 0)], {}, "invalid-size"),
        ("fcn8s", ["digits", 0], {}, "invalid-class-count"),
        ("fcn8s", ["digits", 256], {}, "invalid-class-count"),
        ("fcn8s", ["digits", "5"], {}, "invalid-class-count"),
        ("train", ["DATA"], {"devices": "2"}, "too-few-devices"),
        ("train", ["DATA"], {"nodes": "auto"}, "too-few-devices"),
        ("train", ["DATA"], {"head_width": "9"}, "head-width-too-small"),
        ("train", ["DATA"], {"decoder_width": "9", "decoder": "refined"}, "decoder-width-out-of-range"),
        ("train", ["DATA"], {"values": [1]}, "values-not-a-dictionary"),
        ("train", ["DATA"], {"folds": "3", "model": "digits", "weights": "none"}, "too-few-folds"),
        ("check", ["DATA"], {"foo": 1}, "unknown-reading-option"),
        ("check", ["DATA"], {"val_share": 0}, "invalid-reading-option"),
    ],
)
def test_arguments_of_another_type_are_refused(
    data: Path, tmp_path: Path, function: str, arguments: list[Any], options: dict[str, Any], code: str
) -> None:
    words = [data if argument == "DATA" else argument for argument in arguments]
    more = {"out": tmp_path / "run"} if function == "train" else {}
    with refuses(code):
        getattr(fullconv, function)(*words, **options, **more)


def test_a_classifier_becomes_dense() -> None:
    classifier = digit_net().eval()
    dense = fullconv.convolutionalize(classifier, 94)
    assert dense.size == (94, 94)
    image = torch.rand(1, 3, 94, 126)
    logits = dense.module(image)
    assert logits.shape == (1, 11, 1, 2)
    torch.testing.assert_close(logits[..., 0, 1], classifier(image[..., 32:]), rtol=0, atol=1e-5)
