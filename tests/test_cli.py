"""A mistake ends every command with one message and its exit code. `--help` does not import torch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.main import get_command

import corpus
from children import child
from command_line import call
from fullconv import __version__
from fullconv.choices import PublishedNet, ScoredSplit, SplitOrAll, WrittenLayout
from fullconv.cli.app import app, main
from fullconv.cli.console import STOPPING
from fullconv.data.formats.voc import PAPER_SPLIT
from fullconv.data.splits import SPLITS
from fullconv.data.writers.write import LAYOUTS
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.errors import DataError, FullconvError, ModelError, UsageError, describe_failure
from fullconv.images import read_label_map, write_image
from fullconv.installation import pip_command
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.classifiers.backbones import CLASSIFIERS
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.reference.published import NETS
from fullconv.runtime.models import taps_path
from fullconv.training.checkpointing import Checkpointing, RunState
from fullconv.visible import make_visible
from refusals import refuses

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*arguments: str | Path | int) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fullconv", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capfd.readouterr()
        code = exit_.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digit_dataset(tmp_path_factory.mktemp("data") / "digits", train=2, val=2, size=(48, 64))


def make_model(folder: Path, labels: LabelSet) -> Path:
    net = build(NetSpec("digits", labels.num_classes, 32))
    save_net(folder / "best.safetensors", net.state_dict(), Saved(net.spec, labels))
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("run"), DIGIT_LABELS)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_help_imports_no_heavy_package() -> None:
    code = (
        "import sys\n"
        "from fullconv.cli.app import main\n"
        f"for command in {[[], *[[name] for name in COMMANDS]]!r}:\n"
        "    sys.argv = ['fullconv', *command, '--help']\n"
        "    try: main()\n"
        "    except SystemExit as exit: assert not exit.code, command\n"
        "print('loaded:', *sorted({'torch', 'numpy', 'PIL', 'yaml', 'rich', 'sklearn'} & set(sys.modules)))"
    )
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "loaded:"
    assert all(f"Usage: fullconv {name} " in finished.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_has_a_help_text_and_a_metavar(command: str) -> None:
    group = get_command(app)
    for param in group.commands[command].params:  # type: ignore[attr-defined]
        assert param.help, f"{command} {param.name} has no help"
        if not getattr(param, "is_flag", False):
            assert param.metavar, f"{command} {param.name} has no metavar"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_lists_every_option_once_in_its_group(run: Callable[..., Outcome], command: str) -> None:
    lines = run(command, "--help").out.splitlines()
    titles = [number for number, line in enumerate(lines) if re.fullmatch(r"[A-Z].*:", line)]
    for param in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        if param.param_type_name == "option":
            (row,) = [n for n in range(titles[0], len(lines)) if re.match(rf"  {param.opts[0]}(?![\w-])", lines[n])]
            assert lines[max(title for title in titles if title < row)] == f"{param.rich_help_panel or 'Options'}:"


def test_the_help_of_train_names_every_classifier(run: Callable[..., Outcome]) -> None:
    text = run("train", "--help").out
    assert all(name in text for name in CLASSIFIERS)


@pytest.mark.parametrize(("words", "expected"), [("fullconv tra", "train"), ("fullconv predict --ti", "--tile")])
def test_the_shell_completes_commands_and_options(words: str, expected: str) -> None:
    shell = {"_FULLCONV_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    finished = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['fullconv']; from fullconv.cli.app import main; main()"],
        env=os.environ | shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stdout.split() == [expected], finished.stderr


def test_version_is_printed(run: Callable[..., Outcome]) -> None:
    assert run("--version") == Outcome(0, f"{__version__}\n", "")


def test_python_m_fullconv_runs_the_command_line() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "fullconv", "--version"], capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict"], "Missing argument"),
        (["paint"], "No such command"),
        (["train", "DATA", "--epochs", "few"], "--epochs"),
        (["train", "DATA", "--stride", "7", "--model", "digits", "--weights", "none"], "'32', '16', '8', '4'"),
        (["train", "DATA", "--stride", "0"], "'32', '16', '8', '4'"),
        (["train", "DATA", "--recipe", "stew"], "stew"),
        (["train", "DATA", "--upsample", "guessed"], "'fixed', 'learned', 'unpool', 'resize'"),
        (["train", "DATA", "--padding", "100"], "'minimal', 'reference'"),
        (["import", "nowhere.pth", "--out", "a.safetensors", "--net", "fcn4s"], "'fcn32s', 'fcn16s'"),
        (["train", "DATA", "--dilate", "7"], "'16', '8', '4'"),
        (["evaluate", "MODEL", "DATA", "--split", "val735"], "'train', 'val', 'test', 'val736'"),
        (["evaluate", "MODEL", "DATA", "--backend", "abacus"], "'onnx', 'openvino', 'torch'"),
        (["report", "MODEL", "DATA", "--split", "val735"], "'train', 'val', 'test', 'val736'"),
        (["predict", "MODEL", "DATA", "--backend", "abacus"], "'onnx', 'openvino', 'torch'"),
        (["convert", "DATA", "out", "--to", "paper"], "'folder', 'voc', 'coco', 'labelme'"),
        (["convert", "DATA", "out", "--to", "voc", "--split", "none"], "'all', 'train', 'val', 'test'"),
        (["predict", "MODEL", "DATA", "--out", "out", "--save", "all"], "labels, overlay"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_names_the_choices(
    run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    outcome = run(*({"DATA": data, "MODEL": model}.get(word, word) for word in arguments))
    assert outcome.code == 2, outcome.err
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


CLI_ERRORS = [
    (["train", "DATA", "--set", "flip"], 2, "invalid-set", "--set flip"),
    (["ladder", "DATA", "--epochs-each", "1,few"], 2, "invalid-epochs-each", "1,few"),
    (["report", "MODEL", "DATA", "--out", "a.pdf"], 2, "not-html", "a.pdf"),
    (["report", "MODEL"], 2, "data-not-recorded", "MODEL"),
    (["predict", "MODEL", "DATA", "--step", "2"], 2, "needs-patchwise", "--step"),
    (["predict", "MODEL", "DATA", "--batch", "2"], 2, "needs-patchwise", "--batch"),
    (["predict", "MODEL", "DATA", "--patchwise", "--tile", "256"], 2, "not-with-patchwise", "--tile"),
    (["predict", "MODEL", "DATA", "--patchwise", "--backend", "torch"], 2, "not-with-patchwise", "--backend"),
    (["predict", "MODEL", "DATA", "--halo", "8"], 2, "needs-tile", "--halo"),
    (["predict", "MODEL", "DATA", "--verify"], 2, "needs-tile", "--verify"),
    (["predict", "MODEL", "DATA", "--verify", "--tile", "64", "--blocks", "1/2"], 2, "not-with-blocks", "--verify"),
    (["predict", "street", "DATA", "--patchwise"], 2, "patchwise-of-onnx", "street.onnx"),
    (["import", "nowhere.pth", "--out", "a.pth"], 2, "not-safetensors", "a.pth"),
    (["export", "MODEL", "--out", "a.pth"], 2, "not-onnx", "a.pth"),
    (["export", "MODEL", "--int8"], 2, "int8-needs-data", "int8"),
    (["export", "MODEL", "--force"], 2, "force-without-int8", "int8"),
    (["export", "MODEL", "--resolution", "10"], 2, "option-of-other-export", "--resolution"),
    (["export", "MODEL", "--resolution", "0"], 2, "option-of-other-export", "--resolution"),
    (["check", "DATA", "--val-share", "0"], 2, "invalid-reading-option", "--val-share 0"),
    (["export", "MODEL", "--web", "page", "--int8"], 2, "option-of-other-export", "--int8"),
    (["export", "MODEL", "--profile", "bioimage", "--force"], 2, "option-of-other-export", "--force"),
    (["inspect", "vgg16", "--size", "500"], 2, "invalid-size", "480x640"),
    (["inspect", "vgg16", "--size", "0x5"], 2, "invalid-size", "480x640"),
    (["bench", "dense", "--size", "500"], 2, "invalid-size", "480x640"),
]  # fmt: skip
"""Errors of the command line and of `fullconv.api`: arguments, exit code, code, and a value in the message."""

OTHER_ERRORS = [
    (["train", "DATA", "--lr", "nan"], 2, "invalid-recipe-value", "lr"),
    (["train", "DATA", "--set", "flop=1"], 2, "unknown-recipe-setting", "'flip'"),
    (["train", "DATA", "--set", "flip=often"], 2, "invalid-recipe-value", "'often'"),
    (["train", "DATA", "--set", "scale=[1"], 2, "invalid-recipe-value", "scale=[1"),
    (["train", "DATA", "--model", "resnet18", "--weights", "none", "--padding", "reference"], 2,
     "no-hidden-layer", "resnet18"),
    (["train", "DATA", "--model", "vgg17"], 4, "unknown-classifier", "vgg16"),
    (["train", "DATA", "--model", "digits", "--weights", "nowhere.pth"], 4, "no-weights-file", "nowhere.pth"),
    (["train", "nowhere"], 3, "missing-folder", "nowhere"),
    (["train", "MODEL"], 3, "unknown-layout", "best.safetensors"),
    (["ladder", "DATA", "--model", "digits", "--dilate", "8", "--epochs-each", "1,1,1,1"], 2,
     "epochs-each-differ", "2 rungs"),
    (["ladder", "nowhere"], 3, "missing-folder", "nowhere"),
    (["evaluate", "MODEL", "nowhere"], 3, "missing-folder", "nowhere"),
    (["evaluate", "MODEL", "DATA", "--split", "test"], 3, "empty-split", "train (2), val (2)"),
    (["evaluate", "nowhere", "DATA"], 4, "no-model", "'nowhere'"),
    (["evaluate", "DATA", "DATA"], 4, "no-best-weights", "best.safetensors"),
    (["predict", "MODEL", "nowhere", "--out", "out"], 3, "no-input", "nowhere"),
    (["predict", "nowhere", "DATA", "--out", "out"], 4, "no-model", "'nowhere'"),
    (["import", "nowhere.pth", "--out", "a.safetensors"], 4, "no-weights-file", "nowhere.pth"),
    (["inspect", "vgg17"], 4, "no-model", "vgg16"),
    (["inspect", "vgg16", "--size", "99x99"], 4, "network-does-not-run", "99x99"),
]  # fmt: skip
"""The same for errors of other packages, whose own tests compare the wording."""


@pytest.mark.parametrize(("arguments", "exit_code", "code", "value"), [*CLI_ERRORS, *OTHER_ERRORS])
def test_an_error_ends_with_its_message_and_exit_code(
    run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], exit_code: int, code: str, value: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    paths = {"DATA": str(data), "MODEL": str(model)}
    words = [paths.get(word, word) for word in arguments]
    with pytest.raises(FullconvError) as error:
        call(*words)
    assert (error.value.code, error.value.exit_code) == (code, exit_code)
    assert paths.get(value, value) in str(error.value)
    outcome = run(*words)
    assert outcome.code == exit_code
    assert outcome.err.endswith(f"fullconv: {error.value}\n")
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(("arguments", "code"), [(arguments, code) for arguments, _, code, _ in CLI_ERRORS])
def test_an_error_of_the_command_line_has_the_wording_of_its_code(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with refuses(code):
        call(*({"DATA": data, "MODEL": model}.get(word, word) for word in arguments))


def test_train_does_not_overwrite_a_run(data: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{}")
    command = ("train", data, "--model", "digits", "--weights", "none", "--out", tmp_path)
    with pytest.raises(UsageError) as error:
        call(*command)
    assert error.value.code == "run-exists"
    assert (tmp_path / "scores.json").read_text() == "{}"


def test_evaluate_prints_and_writes_the_same_scores(
    run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path
) -> None:
    outcome = run("evaluate", model, data, "--json", "-")
    assert outcome.code == 0, outcome.err
    scores = json.loads(outcome.out)
    assert list(scores) == [
        *("pixel_accuracy", "mean_accuracy", "mean_iou", "fw_iou"),
        *("per_class_iou", "class_names", "confusion"),
    ]
    assert list(scores["per_class_iou"]) == scores["class_names"] == list(DIGIT_LABELS.class_names)
    assert 0 < scores["pixel_accuracy"] <= 1
    assert sum(map(sum, scores["confusion"])) == 2 * 48 * 64
    written = run("evaluate", model, data, "--json", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == scores
    assert f"{100 * scores['pixel_accuracy']:.1f}" in written.out


def test_evaluate_refuses_a_model_with_other_classes(data: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path, LabelSet.named(["cat", "dog"]))
    with pytest.raises(ModelError, match="cat, dog"):
        call("evaluate", other, data)


def test_predict_labels_the_good_images_and_lists_the_failed_ones(
    run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = run("predict", model, data / "images" / "val", "--out", out, "--save", "labels")
    assert outcome == Outcome(0, f"2 of 2 images labelled in {out}\n", "")
    assert {path.name for path in out.iterdir()} == {"0000.png", "0001.png"}
    assert read_label_map(out / "0000.png").shape == (48, 64)
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(tmp_path / "dot.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "dot.png").read_bytes()[:40])
    outcome = run("predict", model, tmp_path / "*.png", "--out", out)
    assert outcome.code == 1
    assert outcome.out == f"1 of 2 images labelled in {out}\n"
    assert [line for line in outcome.err.splitlines() if "cut.png" in line]
    assert "Traceback" not in outcome.err
    assert read_label_map(out / "dot.png").shape == (1, 1)
    with refuses("images-failed", "cut.png"):
        call("predict", model, tmp_path / "*.png", "--out", out)


def test_verify_fails_if_a_smaller_halo_changes_labels_or_an_image_cannot_be_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net = build(NetSpec("digits", DIGIT_LABELS.num_classes, 32))
    nn.init.normal_(net.score_fr.weight)
    save_net(tmp_path / "best.safetensors", net.state_dict(), Saved(net.spec, DIGIT_LABELS))
    write_image(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (250, 300, 3), dtype=np.uint8))
    command = ("predict", tmp_path, tmp_path / "a.png", "--out", tmp_path / "out", "--tile", 192, "--verify")
    call(*command)
    with refuses("tiles-differ", "1 of 1 images"):
        call(*command, "--halo", 8)
    (tmp_path / "cut.png").write_text("no image")
    with refuses("images-failed", "cut.png", "labels from tiles differ"):
        call(*command, tmp_path / "cut.png", "--halo", 8)

    def fail(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fullconv.runtime.verify.verify_tiles", fail)
    with refuses("tiles-not-verified", "a.png"):
        call(*command)


def test_a_data_set_without_a_repairable_fault_is_not_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    corpus.FAULTS["misspelt_key"][1](tmp_path / "data")
    with refuses("nothing-repaired"):
        call("check", tmp_path / "data", "--fix", tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


def test_inspect_shows_bundled_models_and_onnx_files(run: Callable[..., Outcome], tmp_path: Path) -> None:
    values = json.loads(run("inspect", "street", "--size", "360x480", "--json", "-").out)
    assert values["name"].startswith("FCN-4s-refined on ")
    with refuses("no-network-in-onnx"):
        call("inspect", taps_path())


def test_inspect_prints_a_table_and_json(run: Callable[..., Outcome], model: Path, tmp_path: Path) -> None:
    table = run("inspect", "vgg16", "--size", "500x500").out
    assert "4096x9x9" in table
    assert "404" in table
    assert "138,357,544" in table
    values = json.loads(run("inspect", model, "--json", "-").out)
    assert values["name"] == "FCN-32s on digits"
    assert f"{values['macs']:,}" in run("inspect", model, "--json", tmp_path / "net.json").out
    assert json.loads((tmp_path / "net.json").read_text()) == values


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "DATA", "--fix", "fixed"],
        ["evaluate", "MODEL", "DATA"],
        ["inspect", "digits"],
        ["inspect", "digits", "--check"],
        ["bench", "dense", "--model", "digits", "--size", "94x94", "--quick", "--no-accuracy"],
    ],
)
def test_json_to_stdout_has_nothing_else_on_stdout(
    run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    outcome = run(*({"DATA": data, "MODEL": model}.get(word, word) for word in arguments), "--json", "-")
    assert outcome.code == 0, outcome.err
    assert isinstance(json.loads(outcome.out), dict)
    assert outcome.out.isascii()


def test_options_offer_the_choices_that_the_code_knows() -> None:
    assert get_args(SplitOrAll) == ("all", *SPLITS)
    assert get_args(ScoredSplit) == (*SPLITS, PAPER_SPLIT)
    assert get_args(WrittenLayout) == LAYOUTS
    assert get_args(PublishedNet) == tuple(NETS)


def test_a_missing_extra_is_reported_with_its_pip_command(
    run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    calls = (
        ["train", data],
        ["ladder", data],
        ["evaluate", model, data],
        ["predict", model, data, "--out", tmp_path / "out"],
        ["inspect", "vgg16"],
    )
    for arguments in calls:
        outcome = run(*arguments)
        assert outcome.code == 2
        assert outcome.err == f"fullconv: torch is not installed. Run: {pip_command('train')}\n"


def test_an_unexpected_exception_is_one_sentence_with_exit_code_70(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("fullconv.data.statistics.read_training_data", broken)
    outcome = run("train", data)
    assert outcome.code == 70
    assert outcome.err.startswith("fullconv: ZeroDivisionError (by zero): this is a fault of fullconv; ")
    assert outcome.err.count("\n") == 1
    assert "report it" in outcome.err
    debug = run("--debug", "train", data)
    assert debug.code == 70
    assert "Traceback" in debug.err
    assert debug.err.endswith(outcome.err)


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_closed_streams_are_no_fault(data: Path, tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m fullconv'
    shell = f'cd "{tmp_path}" && {command} check "{data}" >&- 2>err && {command} check "{data}" >out <&- 2>&-'
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0
    assert "Traceback" not in (tmp_path / "err").read_text()
    assert "training can start" in (tmp_path / "out").read_text()
    shell = f'cd "{tmp_path}" && {command} predict street - <&-'
    done = subprocess.run(["sh", "-c", shell], check=False, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.endswith("  - -: no paths on the standard input\n")


def test_control_characters_never_reach_the_terminal(run: Callable[..., Outcome], data: Path, tmp_path: Path) -> None:
    name = "\x1b[2K\x07\x9b\u202efullconv"
    outcome = run("predict", "street", tmp_path / name)
    assert outcome.code == 3
    assert "\\x1b[2K\\x07\\x9b\\u202efullconv" in outcome.err
    (tmp_path / "data").mkdir()
    run("convert", data, tmp_path / "data" / "d", "--to", "folder")
    description = tmp_path / "data" / "d" / "dataset.yaml"
    description.write_text('names: ["x\\r\\e[2Kfullconv: all good", "\\u202e", c, d, e, f, g, h, i, j, k]\n')
    outcome = run("check", tmp_path / "data" / "d", "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    texts = [outcome.out, outcome.err, *((tmp_path / f"a.{kind}").read_text() for kind in ("json", "html"))]
    for text in texts:
        assert not [character for character in text if character != "\n" and make_visible(character) != character]
    assert "x\\r\\x1b[2Kfullconv: all good" in outcome.out
    assert json.loads(texts[2])["classes"][0]["name"] == "x\r\x1b[2Kfullconv: all good"


@pytest.mark.parametrize("words", [("--debug", "train", "nowhere"), ("train", "nowhere", "--debug")])
def test_debug_prints_the_traceback_of_an_error(run: Callable[..., Outcome], words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert outcome.code == 3
    assert "Traceback" in outcome.err
    with pytest.raises(DataError) as error:
        call("train", "nowhere")
    assert outcome.err.endswith(f"fullconv: {error.value}\n")
    assert "Traceback" not in run("train", "--", "--debug").err  # a folder of this name


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you")],
)
def test_a_lack_of_memory_is_no_fault_of_fullconv(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, data: Path, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("fullconv.data.statistics.read_training_data", fail)
    outcome = run("train", data)
    assert outcome.code == 1
    assert outcome.err.startswith("fullconv: out of memory; use smaller images")
    assert "too large for the memory" in describe_failure(data, error)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child alone")
@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_ends_a_command_with_one_message(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import signal, time, fullconv.cli.app\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a parent in the background ignores it
        "def wait(): print('waiting', flush=True); time.sleep(600)\n"
        "fullconv.cli.train.need_torch = wait\n"
        "fullconv.cli.app.main()"
    )
    with child("-c", code, "train", tmp_path) as process:
        assert process.read_line() == "waiting"
        time.sleep(0.2)
        process.send_signal(number)
        _, err = process.finish()
    assert process.returncode == 130
    assert err.strip() == f"fullconv: stopped by {number.name}; every file that was written is complete"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
def test_a_signal_that_interrupts_another_message_is_reported_too(tmp_path: Path) -> None:
    code = (
        "import io, os, signal, sys, fullconv.cli.app\n"
        "from fullconv.cli.console import say\n"
        "sent = []\n"
        "class Interrupted(io.RawIOBase):\n"
        "    def writable(self): return True\n"
        "    def write(self, data):\n"
        "        if not sent: sent.append(1); os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return os.write(2, data)\n"
        "sys.stderr = io.TextIOWrapper(io.BufferedWriter(Interrupted()), line_buffering=True)\n"
        "fullconv.cli.train.need_torch = lambda: say('first')\n"
        "fullconv.cli.app.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "train", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "fullconv: stopped by SIGTERM; every file that was written is complete\n" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child alone")
@pytest.mark.parametrize("delay", [0.05, 0.1, 0.15, 0.2, 0.3])
def test_an_early_interrupt_has_no_traceback(data: Path, delay: float) -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fullconv.__main__ import main\n"
        "install = signal.signal\n"
        "def first(*values):\n"
        "    signal.signal = install\n"
        "    install(*values)\n"
        "    print('started', flush=True)\n"
        "signal.signal = first\n"
        "main()"
    )
    with child("-c", code, "evaluate", "street", data) as process:
        assert process.read_line() == "started"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, err = process.finish()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "fault" not in err


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_stops_a_training_unless_nohup_ignores_it(tmp_path: Path, ignored: bool) -> None:
    saved = Saved(NetSpec("digits", DIGIT_LABELS.num_classes, 32), DIGIT_LABELS)
    checkpointing = Checkpointing(tmp_path, saved, RunState(), 1, 1.0)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with checkpointing.handle_signals():
            signal.raise_signal(signal.SIGHUP)
            assert checkpointing.stop == (None if ignored else "SIGHUP")
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_package_that_cannot_be_imported_is_no_fault_of_fullconv(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    def broken(*_: object) -> None:
        raise ImportError("libtorch_cpu.so: failed to map segment", name="torch")

    monkeypatch.setattr("fullconv.data.statistics.read_training_data", broken)
    outcome = run("train", data)
    assert outcome.code == 1
    assert outcome.err.startswith("fullconv: torch cannot be imported (libtorch_cpu.so: failed to map segment); ")
