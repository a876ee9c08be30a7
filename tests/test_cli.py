"""Every command answers a mistake with one message and its exit code, and `--help` without torch."""

from __future__ import annotations

import json
import os
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
from PIL import Image

from fullconv import __version__
from fullconv.choices import PublishedNet, ScoredSplit, SplitOrAll, WrittenLayout
from fullconv.cli.app import app, main
from fullconv.data.formats.voc import PAPER_SPLIT
from fullconv.data.splits import SPLITS
from fullconv.data.writers.write import LAYOUTS
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.images import read_label_map
from fullconv.installation import pip_command
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.classifiers.backbones import CLASSIFIERS
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.net.reference.published import NETS

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*arguments: str | Path) -> Outcome:
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


def child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_help_loads_neither_torch_nor_the_rest() -> None:
    code = (
        "import sys\n"
        "from fullconv.cli.app import main\n"
        f"for command in {[[], *[[name] for name in COMMANDS]]!r}:\n"
        "    sys.argv = ['fullconv', *command, '--help']\n"
        "    try: main()\n"
        "    except SystemExit as exit: assert not exit.code, command\n"
        "print('loaded:', *sorted({'torch', 'numpy', 'PIL', 'yaml', 'rich', 'sklearn'} & set(sys.modules)))"
    )
    finished = child(code)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "loaded:"
    assert all(f"Usage: fullconv {name} " in finished.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_is_explained(command: str) -> None:
    from typer.main import get_command

    group = get_command(app)
    for param in group.commands[command].params:  # type: ignore[attr-defined]
        assert param.help, f"{command} {param.name} has no help"
        if not getattr(param, "is_flag", False):
            assert param.metavar, f"{command} {param.name} has no metavar"


def test_the_help_names_every_classifier(run: Callable[..., Outcome]) -> None:
    text = run("train", "--help").out
    assert all(name in text for name in CLASSIFIERS)


@pytest.mark.parametrize(("words", "expected"), [("fullconv tra", "train"), ("fullconv predict --ti", "--tile")])
def test_the_shell_completes_commands_and_options(words: str, expected: str) -> None:
    shell = {"_FULLCONV_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    finished = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['fullconv']; from fullconv.cli import main; main()"],
        env=os.environ | shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stdout.split() == [expected], finished.stderr


def test_version(run: Callable[..., Outcome]) -> None:
    assert run("--version") == Outcome(0, f"{__version__}\n", "")


def test_the_package_runs_as_a_module() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "fullconv", "--version"], capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict"], 2, "Missing argument"),
        (["paint"], 2, "No such command"),
        (["train", "DATA", "--epochs", "few"], 2, "--epochs"),
        (["train", "DATA", "--stride", "7", "--model", "digits", "--weights", "none"], 2, "'32', '16', '8', '4'"),
        (["train", "DATA", "--stride", "0"], 2, "'32', '16', '8', '4'"),
        (["train", "DATA", "--lr", "nan"], 2, "lr must be a finite number"),
        (["train", "DATA", "--set", "flip"], 2, "NAME=VALUE"),
        (["train", "DATA", "--set", "flop=1"], 2, "did you mean 'flip'?"),
        (["train", "DATA", "--set", "flip=often"], 2, "flip='often'"),
        (["train", "DATA", "--set", "scale=[1"], 2, "scale"),
        (["train", "DATA", "--recipe", "stew"], 2, "stew"),
        (["train", "DATA", "--upsample", "guessed"], 2, "'fixed', 'learned', 'unpool', 'resize'"),
        (["train", "DATA", "--padding", "100"], 2, "'minimal', 'reference'"),
        (
            ["train", "DATA", "--model", "resnet18", "--weights", "none", "--padding", "reference"],
            2,
            "resnet18 has no hidden linear layer",
        ),
        (["import", "nowhere.pth", "--out", "a.safetensors"], 4, "nowhere.pth: there is no such weights file"),
        (["import", "nowhere.pth", "--out", "a.safetensors", "--net", "fcn4s"], 2, "'fcn32s', 'fcn16s'"),
        (["import", "nowhere.pth", "--out", "a.pth"], 2, "ends in .safetensors"),
        (["train", "DATA", "--dilate", "7"], 2, "'16', '8', '4'"),
        (
            ["ladder", "DATA", "--model", "digits", "--dilate", "8", "--epochs-each", "1,1,1,1"],
            2,
            "this ladder has 2 rungs",
        ),
        (["train", "DATA", "--model", "vgg17"], 4, "vgg16"),
        (
            ["train", "DATA", "--model", "digits", "--weights", "nowhere.pth"],
            4,
            "nowhere.pth: there is no such weights file",
        ),
        (["train", "nowhere"], 3, "does not exist"),
        (["train", "MODEL"], 3, "has no layout that fullconv knows"),
        (["ladder", "nowhere"], 3, "does not exist"),
        (["evaluate", "MODEL", "nowhere"], 3, "does not exist"),
        (["evaluate", "MODEL", "DATA", "--split", "test"], 3, "there are: train (2), val (2)"),
        (["evaluate", "MODEL", "DATA", "--split", "val735"], 2, "'train', 'val', 'test', 'val736'"),
        (["evaluate", "MODEL", "DATA", "--backend", "abacus"], 2, "'onnx', 'openvino', 'torch'"),
        (["report", "MODEL", "DATA", "--split", "val735"], 2, "'train', 'val', 'test', 'val736'"),
        (["predict", "MODEL", "DATA", "--backend", "abacus"], 2, "'onnx', 'openvino', 'torch'"),
        (["convert", "DATA", "out", "--to", "paper"], 2, "'folder', 'voc', 'coco', 'labelme'"),
        (["convert", "DATA", "out", "--to", "voc", "--split", "none"], 2, "'all', 'train', 'val', 'test'"),
        (["evaluate", "nowhere", "DATA"], 4, "there is no model 'nowhere'"),
        (["evaluate", "DATA", "DATA"], 4, "best.safetensors"),
        (["predict", "MODEL", "nowhere", "--out", "out"], 3, "no such file"),
        (["predict", "nowhere", "DATA", "--out", "out"], 4, "there is no model 'nowhere'"),
        (["predict", "MODEL", "DATA", "--out", "out", "--save", "all"], 2, "labels, overlay"),
        (["inspect", "vgg17"], 4, "vgg16"),
        (["inspect", "vgg16", "--size", "500"], 2, "480x640"),
        (["inspect", "vgg16", "--size", "0x5"], 2, "480x640"),
        (["inspect", "vgg16", "--size", "99x99"], 4, "99x99"),
    ],
)
def test_a_mistake_is_told_in_one_message(
    run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    outcome = run(*({"DATA": data, "MODEL": model}.get(word, word) for word in arguments))
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_a_run_is_not_overwritten(run: Callable[..., Outcome], data: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{}")
    outcome = run("train", data, "--model", "digits", "--weights", "none", "--out", tmp_path)
    assert outcome.code == 2
    assert "--resume" in outcome.err


def test_the_scores_as_json(run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path) -> None:
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


def test_a_model_of_other_classes_is_not_scored(run: Callable[..., Outcome], data: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path, LabelSet.named(["cat", "dog"]))
    outcome = run("evaluate", other, data)
    assert outcome.code == 4
    assert "has the classes cat, dog" in outcome.err


def test_predict_does_what_it_can(run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path) -> None:
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


def test_inspect_as_table_and_as_json(run: Callable[..., Outcome], model: Path, tmp_path: Path) -> None:
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
def test_a_dash_prints_json_alone(
    run: Callable[..., Outcome], data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    outcome = run(*({"DATA": data, "MODEL": model}.get(word, word) for word in arguments), "--json", "-")
    assert outcome.code == 0, outcome.err
    assert isinstance(json.loads(outcome.out), dict)
    assert outcome.out.isascii()


def test_options_offer_the_words_that_the_code_knows() -> None:
    assert get_args(SplitOrAll) == ("all", *SPLITS)
    assert get_args(ScoredSplit) == (*SPLITS, PAPER_SPLIT)
    assert get_args(WrittenLayout) == LAYOUTS
    assert get_args(PublishedNet) == tuple(NETS)


def test_a_missing_extra_names_its_command(
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


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    def broken(root: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fullconv.data.statistics.read_training_data", broken)
    monkeypatch.setattr(sys, "argv", ["fullconv", "train", str(data)])
    with pytest.raises(ZeroDivisionError):
        main()


def test_debug_shows_the_traceback_of_a_mistake(run: Callable[..., Outcome]) -> None:
    outcome = run("--debug", "train", "nowhere")
    assert outcome.code == 3
    assert "Traceback" in outcome.err
    assert outcome.err.endswith("give the data set's folder\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child alone")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_in_one_sentence(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import signal, time, fullconv.cli.app\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a parent in the background ignores it
        "def wait(): print('waiting', flush=True); time.sleep(60)\n"
        "fullconv.cli.app.need_torch = wait\n"
        "fullconv.cli.app.main()"
    )
    command = [sys.executable, "-c", code, "train", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == f"fullconv: stopped by {number.name}; every file that is written is whole"
