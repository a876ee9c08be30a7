"""The wheel holds all that the base install needs: it is installed in a clean environment and used."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fullconv import __version__

ROOT = Path(__file__).parent.parent
BIN = "Scripts" if os.name == "nt" else "bin"
pytestmark = pytest.mark.slow


def run(*words: str | Path, folder: Path, code: int = 0) -> str:
    """Run a command without this project on its path, and return its output."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of sdist and wheel: FULLCONV_DIST, or a build from the checkout."""
    if made := os.environ.get("FULLCONV_DIST"):
        return ROOT / made
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a clean environment with the wheel."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    (wheel,) = dist.glob("*.whl")
    run(folder / BIN / "python", "-m", "pip", "install", wheel, folder=folder)
    return folder / BIN


def test_wheel_and_sdist_hold_the_package_and_its_data(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("fullconv/")}
    source = ROOT / "src"
    tracked = {path.relative_to(source).as_posix() for path in source.rglob("*.*") if "__pycache__" not in path.parts}
    assert packed == {name for name in tracked if ".egg-info" not in name}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "tests/test_dist.py", "Makefile"} <= names
    assert not any(name.startswith((".venv", "site/", "dist/", "runs/")) for name in names)


def test_the_command_line_answers_without_torch(installed: Path, tmp_path: Path) -> None:
    for command in ([installed / "fullconv"], [installed / "python", "-m", "fullconv"]):
        assert "predict" in run(*command, "--help", folder=tmp_path)
        assert run(*command, "--version", folder=tmp_path) == f"{__version__}\n"
    run(installed / "python", "-c", "import torch", folder=tmp_path, code=1)


def test_the_bundled_model_labels_a_picture(installed: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(
        tmp_path / "photo.jpg"
    )
    run(installed / "fullconv", "predict", "street", "photo.jpg", folder=tmp_path)
    with Image.open(tmp_path / "labelled" / "photo.png") as labels:
        assert (labels.size, labels.mode) == ((120, 90), "P")
    code = "import fullconv; print(fullconv.load('street').predict('photo.jpg').label_map.shape)"
    assert run(installed / "python", "-c", code, folder=tmp_path) == "(90, 120)\n"


def test_a_missing_extra_names_the_wheel(installed: Path, dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    message = run(installed / "fullconv", "inspect", "vgg16", folder=tmp_path, code=2)
    assert f"fullconv[train] @ {wheel.resolve().as_uri()}" in message
    words = shlex.split(message.partition("Run: ")[2])
    assert words[:2] == ["pip", "install"]
    extra = words[2].replace("train", "video")  # a small one: the same command, tried
    run(installed / "python", "-m", "pip", "install", "--dry-run", extra, folder=tmp_path)
