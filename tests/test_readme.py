"""Every shell line of README.md and its translations runs, or is at least one that the command line accepts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from packaging.requirements import Requirement
from PIL import Image
from typer.main import get_command

from children import child
from fullconv.cli.app import app, main
from fullconv.images import write_image, write_label_map
from fullconv.labels import LabelSet
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.onnx_export import export
from fullconv.training import choose
from refusals import matches
from waiting import LIMIT

ROOT = Path(__file__).parent.parent
PAGES = sorted(ROOT.glob("README*.md"))
LABELS = LabelSet.named(["ground", "roof"])
RUN = "runs/mydata"
WORDS = ("fullconv", "pip", "make")

PARSED_ONLY = {
    r"make \w+": "sets up a venv and takes minutes; the target has to exist",
    r"pip install .*": "tests/test_dist.py installs the package; the extras have to exist",
    r"fullconv demo": "takes minutes; tests/test_demo.py runs it smaller",
    r"fullconv ladder .*": "four trainings of VGG16",
    r"fullconv bench .*": "measures for minutes; tests/test_bench.py runs it smaller",
    r"fullconv train .*--model resnet50": "downloads weights",
}
"""Lines that are compared with the options of the command line instead of being run, and why."""

SLOW = re.compile(r"fullconv (train mydata --.*|inspect .* --check)")
"""Lines that run for longer, so only in `make slow`; `make test` compares them with the options."""


def shell_lines(page: str) -> list[str]:
    """Return the commands of a page's code blocks. Where a block has prompts, the lines without one are output."""
    lines: list[str] = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if language not in ("", "sh", "bash", "shell", "console"):
            continue
        rows = block.replace("\\\n", " ").splitlines()
        prompted = [row[2:] for row in rows if row.startswith("$ ")]
        lines += [row for row in prompted or rows if row.split(" ")[0] in WORDS]
    return [shlex.join(shlex.split(line, comments=True)) for line in lines]


LINES = sorted({line for page in PAGES for line in shell_lines(page.read_text(encoding="utf-8"))})


RUN_LINES = [line for line in LINES if not any(re.fullmatch(pattern, line) for pattern in PARSED_ONLY)]


def data_set(folder: Path) -> None:
    """Six images in which a roof is red and the ground green."""
    rng = np.random.default_rng(0)
    for index in range(6):
        target = np.zeros((96, 128), np.uint8)
        top, left = rng.integers(0, 40, 2)
        target[top : top + 48, left : left + 64] = 1
        image = np.where(target[..., None] == 1, [200, 30, 30], [30, 160, 30]) + rng.integers(0, 40, (96, 128, 3))
        write_image(folder / "images" / f"photo{index}.png", image.astype(np.uint8))
        write_label_map(folder / "masks" / f"photo{index}.png", target, LABELS)
    (folder / "classes.txt").write_text("ground\nroof\n", encoding="utf-8")


def video(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for value in (40, 160):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


MODULE = """
from torch import nn

def build():
    features = [nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Conv2d(8, 8, 2, 2), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*features, nn.Flatten(), nn.Linear(8 * 2 * 3, 16), nn.ReLU(), nn.Linear(16, 5))
    model.input_size = (64, 96)
    return model
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that README's commands name."""
    rasterio = pytest.importorskip("rasterio")
    folder = tmp_path_factory.mktemp("readme")
    for name in ("mydata", "DATA"):
        data_set(folder / name)
    (folder / "photos").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.png"):
        Image.fromarray(pixels).save(folder / name)
    video(folder / "clip.mp4")
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.25, 0, 500000, 0, -0.25, 4649000)}
    with rasterio.open(
        folder / "survey.tif", "w", driver="GTiff", height=300, width=400, count=3, dtype="uint8", **place
    ) as target:
        target.write(np.random.default_rng(2).integers(0, 256, (3, 300, 400), dtype=np.uint8))
    torch.manual_seed(0)
    net = build(NetSpec("digits", 2, 8))
    save_net(folder / RUN / "best.safetensors", net.state_dict(), Saved(net.spec, LABELS))
    export(folder / RUN, folder / RUN / "model.onnx")
    shutil.copy(folder / RUN / "model.onnx", folder / "model.onnx")
    (folder / "my_module.py").write_text(MODULE, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "line", [pytest.param(line, marks=[pytest.mark.slow] if SLOW.fullmatch(line) else []) for line in RUN_LINES]
)
def test_a_line_runs(
    line: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    if words[1] in ("label", "serve"):
        assert_serves(words[1:])
        return
    if words[1] == "train":
        shutil.rmtree("runs")
        monkeypatch.setattr(choose, "STEPS", 8)
    before = set(tmp_path.rglob("*"))
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as exit_:
        main()
    captured = capsys.readouterr()
    if "--int8" in words and exit_.value.code:  # eight bits may be no faster on this machine
        assert matches("int8-not-worthwhile", captured.err.strip().splitlines()[-1].removeprefix("fullconv: "))
        return
    assert not exit_.value.code, captured.err
    if words[1] in ("train", "predict", "export"):
        assert {path for path in tmp_path.rglob("*") if path.is_file()} - before, "the line writes no file"
    else:
        assert captured.out


def assert_serves(words: list[str]) -> None:
    """Run a command that serves pages until it prints its address, and end it by a signal."""
    with child("-m", "fullconv", *words, env=os.environ | {"BROWSER": "true"}) as process:
        assert process.read_line().startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_accepted(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "pip":
        accept_pip(words[1:])
    else:
        accept(words[1:])


def accept(words: list[str]) -> None:
    """Raise for an unknown command, option or argument. Nothing runs."""
    command = get_command(app)
    while isinstance(command, typer.core.TyperGroup):
        command = command.commands[words.pop(0)]
    with command.make_context(command.name, words):
        pass


def accept_pip(words: list[str]) -> None:
    """Raise for an extra that the package does not have, or another package."""
    assert words[0] == "install"
    options, (requirement,) = [word for word in words[1:] if word[0] == "-"], [w for w in words[1:] if w[0] != "-"]
    assert set(options) <= {"-e"}
    if requirement.startswith("."):
        requirement = "fullconv" + requirement[1:]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parsed = Requirement(requirement)
    assert parsed.name == project["name"]
    assert parsed.extras <= set(project["optional-dependencies"])


def test_extras_are_in_double_quotes_because_cmd_knows_no_others() -> None:
    for path in (*PAGES, *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")):
        assert "'.[" not in path.read_text(encoding="utf-8"), path


def test_the_pages_have_lines_of_every_kind() -> None:
    assert {line.split()[0] for line in LINES} == set(WORDS)
    ran = {line.split()[1] for line in RUN_LINES}
    assert {"check", "train", "predict", "export"} <= ran


def test_every_pattern_of_what_only_parses_is_needed() -> None:
    """`fullconv demo` stands for the line that README may have instead of `make demo`."""
    unused = [pattern for pattern in PARSED_ONLY if not any(re.fullmatch(pattern, line) for line in LINES)]
    assert unused in ([], ["fullconv demo"])


def test_a_block_with_prompts_holds_output() -> None:
    page = "```console\n$ fullconv check x  # why\nfullconv check x repairs\n```\n```\nfullconv a \\\n  --b\nls\n```\n"
    assert shell_lines(page) == ["fullconv check x", "fullconv a --b"]
    assert shell_lines("```python\nfullconv = 1\n```\n") == []


@pytest.mark.parametrize("line", ["train x --no-such-option", "ladder", "bench dense --size", "predict"])
def test_a_line_with_a_mistake_is_not_accepted(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such option|missing|requires"):
        accept(shlex.split(line))


def test_an_unknown_extra_is_not_accepted() -> None:
    with pytest.raises(AssertionError):
        accept_pip(["install", ".[trian]"])
