"""Descriptions of models, recipes, scores and checkpoints that are wrong end in one sentence that names the file."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from fullconv.data.classes import read_description
from fullconv.documents import dump_yaml, parse_json, parse_yaml
from fullconv.errors import ModelError
from fullconv.images.input_format import InputFormat
from fullconv.report.source import options_of_run, read_scores, read_source
from fullconv.runtime.exported import ExportedRunner
from fullconv.runtime.metadata import ModelMetadata
from fullconv.runtime.models import bundled
from fullconv.runtime.onnx_bytes.scan import scan_onnx
from refusals import refuses

LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
DEEP = "[" * 200_000 + "]" * 200_000
NOT_BYTES = (-5, 300, 1.5, True, "7", None, float("inf"))


def street(**changes):
    texts = scan_onnx(bundled("street"))
    return texts | {name: text if isinstance(text, str) else json.dumps(text) for name, text in changes.items()}


def value_of(name):
    return json.loads(scan_onnx(bundled("street"))[name])


def changed(name, *path, to):
    """Return a value of street's description with one of its parts replaced."""
    value = [part] = [value_of(name)]
    for key in path[:-1]:
        part = part[key]
    if path:
        part[path[-1]] = to
        return value[0]
    return to


WRONG = [
    *(("palette", 0, 1, byte) for byte in NOT_BYTES),
    *(("ignore_index", byte) for byte in NOT_BYTES),
    ("palette", [[0, 0, 0]]),
    ("palette", 0, [1, 2]),
    ("palette", None),
    ("palette", "abc"),
    ("class_names", None),
    ("class_names", [["a"], "b"]),
    ("class_names", 0, ""),
    ("class_names", 0, 7),
    ("class_names", []),
    *(("channels", number) for number in (0, -4, 1.5, "3", None, True, 10**30)),
    *(("stride", number) for number in (0, -1, "8", None)),
    *(("lead", 0, number) for number in (-1, 10**5, [0], "1", 0.5)),
    ("lead", [0]),
    *(("windows", 0, "period", number) for number in (0, -1, 1.5, "8", None)),
    *(("windows", 0, "before", number) for number in (-1, 1e9, "8")),
    ("windows", [1, 2]),
    *(("upsamplings", 0, "factor", number) for number in (0, -1, "2", 1.5, 10**10)),
    *(("upsamplings", 0, "kernel", number) for number in (0, 10**10, 100)),
    *(("upsamplings", 0, "crop", number) for number in (-99, 10**5)),
    *(("upsamplings", 0, "peak", text) for text in ("1e999999999", "1/0", "nan", "7.5", 7, None, "9" * 9000)),
    *(("value_range", bounds) for bounds in ([0, 0], [5, 1], [0], [0, "1"], "ab", 7, [0, float("nan")])),
    ("exact", 1),
    ("exact", "true"),
    ("kernel", "AAAA"),
    ("kernel", "?"),
    ("format_version", "\x1b[2K"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: "-".join(map(str, case))[:50])
def test_wrong_descriptions_in_onnx_files_are_refused(case):
    name, *path, to = case
    texts = street(**{name: json.dumps(changed(name, *path, to=to) if path else to)})
    with pytest.raises(ModelError, match=r"^net\.onnx") as error:
        ModelMetadata.from_metadata("net.onnx", texts)
    assert error.value.code in ("damaged-metadata", "onnx-format-version")
    assert len(str(error.value)) < 400


def test_deep_and_missing_descriptions_are_refused():
    for texts in (street(windows=DEEP), street(palette="9" * 5000), street(palette="{")):
        with refuses("damaged-metadata", "net.onnx"):
            ModelMetadata.from_metadata("net.onnx", texts)
    for name in ("class_names", "palette", "upsamplings", "lead", "windows", "stride", "channels", "exact"):
        texts = street()
        del texts[name]
        with refuses("damaged-metadata", f"'{name}' is missing"):
            ModelMetadata.from_metadata("net.onnx", texts)


CELLS = 64 // json.loads(scan_onnx(bundled("street"))["upsamplings"])[0]["factor"] + 1


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.zeros((1, 11, CELLS, CELLS), np.float64), "float64"),
        (np.zeros((1, 11, CELLS), np.float32), "3 dimensions"),
        (np.zeros((), np.float32), "0 dimensions"),
        ([np.zeros(3)], "list"),
        (np.zeros((2, 11, CELLS, CELLS), np.float32), "2 images and 11 classes"),
        (np.zeros((1, 3, CELLS, CELLS), np.float32), "1 images and 3 classes"),
        (np.zeros((1, 11, 2, CELLS), np.float32), "2 cells do not fit 64 pixels"),
        (np.zeros((1, 11, 0, CELLS), np.float32), "0 cells"),
        (np.zeros((1, 11, CELLS, 900), np.float32), "900 cells"),
        (np.full((1, 11, CELLS, CELLS), np.nan, np.float32), "finite"),
        (np.full((1, 11, CELLS, CELLS), -np.inf, np.float32), "finite"),
    ],
)
def test_wrong_logits_are_refused(scores, reason):
    runner = ExportedRunner(ModelMetadata.from_metadata("net.onnx", street()), lambda images: scores)
    for method in (runner.logits, runner.label_maps):
        with refuses("wrong-logits", reason):
            method(np.zeros((1, 64, 64, 3), np.uint8))


def test_a_lead_beyond_the_map_leaves_no_memory_unwritten():
    metadata = ModelMetadata.from_metadata("net.onnx", street())
    runner = ExportedRunner(
        replace(metadata, lead=(200, 0)), lambda images: np.zeros((1, 11, CELLS, CELLS), np.float32)
    )
    with refuses("wrong-logits"):
        runner.logits(np.zeros((1, 64, 64, 3), np.uint8))


def test_yaml_with_aliases_depth_or_odd_numbers_is_refused_at_once():
    began = time.monotonic()
    odd = [
        "x: " + "9" * 5000,
        "x: 2001-13-45",
        "? [a]\n: 1",
        "a: !!python/name:os.system",
        "\x00",
        "&x [*x]",
        "!!int x",
    ]
    for text in (LAUGHS, DEEP, "{a: " * 3000 + "1" + "}" * 3000, "x: &x [*x]", *odd):
        with pytest.raises(ValueError):  # noqa: PT011 - of any message
            parse_yaml(text)
    with pytest.raises(ValueError, match="nested"):
        parse_json(DEEP)
    with pytest.raises(ValueError, match="more than"):
        parse_yaml("[" + "1," * 250_000 + "]")
    assert time.monotonic() - began < 30


def test_yaml_that_fullconv_writes_has_no_aliases():
    shared = ["a", "b"]
    assert parse_yaml(dump_yaml({"x": shared, "y": shared, "name": "é"})) == {"x": shared, "y": shared, "name": "é"}


def test_aliases_in_dataset_yaml_are_refused(tmp_path):
    (tmp_path / "dataset.yaml").write_text("names: " + LAUGHS.replace("\n", "\n  ").replace("a:", "\n  a:", 1))
    with refuses("class-names", "alias"):
        read_description(tmp_path / "dataset.yaml")


@pytest.mark.parametrize(
    "text", ["", "[1]", "a: &a [*a]", "{a: " * 3000, "x: " + "9" * 5000, "\x80", "1: 2", "a: b: c"]
)
def test_damaged_recipes_are_refused(tmp_path, text):
    (tmp_path / "recipe.yaml").write_bytes(text.encode("latin-1"))
    with refuses("damaged-run-folder", "recipe.yaml"):
        read_source(tmp_path)


@pytest.mark.parametrize("options", ["7", "[1]", "{images: 7}", "{odd: 1}", "{val_share: x}"])
def test_damaged_reading_options_are_refused(tmp_path, options):
    (tmp_path / "recipe.yaml").write_text(f"reading: {{options: {options}}}")
    with refuses("damaged-run-folder", "recipe.yaml"):
        options_of_run(tmp_path)


HEAD = "epoch,train_loss,pixel_accuracy,mean_accuracy,mean_iou,fw_iou\n"


@pytest.mark.parametrize(
    "row", ["nan,1,1,1,1,1", "inf,1,1,1,1,1", "1,inf,1,1,1,1", "1,1,nan,1,1,1", "1,2", "x,1,1,1,1,1"]
)
def test_damaged_curves_are_refused(tmp_path, row):
    (tmp_path / "metrics.csv").write_text(HEAD + row)
    with refuses("damaged-run-folder", "metrics.csv"):
        read_source(tmp_path)


RUN = {"seconds": 1.5, "parameters": 7}
SCORES = {"confusion": [[1, 2], [3, 4]], "class_names": ["a", "b"]}


@pytest.mark.parametrize(
    "values",
    [
        [],
        "x",
        None,
        {},
        {**SCORES},
        {**SCORES, "run": {}},
        {**SCORES, "run": []},
        {**SCORES, "run": {**RUN, "seconds": -1}},
        {**SCORES, "run": {**RUN, "seconds": float("nan")}},
        {**SCORES, "run": {**RUN, "parameters": "x"}},
        {**SCORES, "run": {**RUN, "alarm": 7}},
        {"confusion": [[-1, 2], [3, 4]], "class_names": ["a", "b"], "run": RUN},
        {"confusion": [[1]], "class_names": ["a", "b"], "run": RUN},
        {"confusion": [[10**30]], "class_names": ["a"], "run": RUN},
        {"confusion": [[1, 2], [3]], "class_names": ["a", "b"], "run": RUN},
        {"confusion": [[1]], "class_names": [7], "run": RUN},
    ],
)
def test_damaged_scores_are_refused(tmp_path, values):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(values))
    with refuses("damaged-run-folder", path):
        read_scores(path)


def test_scores_of_older_runs_are_read(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({**SCORES, "run": RUN}))
    scores, run = read_scores(path)
    assert (scores.pixel_accuracy, run["parameters"]) == (0.5, 7)
    for text in ("", "{", DEEP, "\x80"):
        path.write_bytes(text.encode("latin-1"))
        with refuses("damaged-run-folder", path):
            read_scores(path)
    assert InputFormat() == InputFormat(3)


def test_a_value_with_hundreds_of_faults_is_one_short_sentence(tmp_path):
    options = {"images": list(range(300)), "masks": None}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"network": {}, "reading": {"options": options}}))
    with pytest.raises(ModelError) as caught:
        options_of_run(tmp_path)
    assert "images" in str(caught.value)
    assert len(str(caught.value)) < 600
