"""Every hostile file that was once found ends in a sentence with each command; skipped where the files are not present.

Each command runs in a child process with 2 GiB more memory than its libraries take, for at most 120 seconds of
computing.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from children import child

HOSTILE = Path(__file__).parents[2] / "shared" / "cases" / "hostile"
FILES = sorted(HOSTILE.glob("*.*")) if HOSTILE.is_dir() else []

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason="the files lie only on the developers' machines"),
    pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is one of Linux"),
]

COMMAND = """
import importlib, resource, sys
from pathlib import Path
from fullconv.cli.app import main
for name in sys.argv[1].split(","):
    importlib.import_module(name)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 2**31
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
sys.argv[1:] = sys.argv[2:]
main()
"""

LIGHT, TORCH = "onnxruntime,numpy,PIL.Image", "torch,torchvision"


def image_of(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((24, 31, 3), np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def image_commands(file: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the commands on an image: as input, as an image with a sound mask, and as the mask of a sound image."""
    yield "predict", "street", str(file), "--out", str(folder / "out")
    for name, hostile in (("images", f"images/a{file.suffix}"), ("masks", f"masks/a{file.suffix}")):
        data = folder / name
        image_of(data / "images")
        image_of(data / "masks")
        (data / name / "a.png").unlink()
        shutil.copy(file, data / hostile)
        yield "check", str(data)
    yield "convert", str(folder / "masks"), str(folder / "converted"), "--to", "folder"


def sbd_commands(file: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    data = folder / "benchmark_RELEASE" / "dataset"
    (data / "cls").mkdir(parents=True)
    shutil.copy(file, data / "cls" / "a.mat")
    Image.open(image_of(data / "img")).save(data / "img" / "a.jpg")
    for split in ("train", "val"):
        (data / f"{split}.txt").write_text("a\n")
    yield from data_commands(folder)
    masks = folder / "other"
    image_of(masks / "images")
    (masks / "masks").mkdir()
    shutil.copy(file, masks / "masks" / "a.mat")
    yield "check", str(masks)


def datumaro_commands(file: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    (folder / "annotations").mkdir(parents=True)
    shutil.copy(file, folder / "annotations" / "train.json")
    image_of(folder / "images" / "train")
    yield from data_commands(folder)


def cvat_commands(file: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    image_of(folder / "JPEGImages")
    (folder / "SegmentationClass").mkdir()
    shutil.copy(file, folder / "SegmentationClass" / "a.png")
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\nroof:200,0,0::\n")
    yield from data_commands(folder)


def data_commands(folder: Path) -> Iterator[tuple[str, ...]]:
    yield "check", str(folder), "--html", str(folder.parent / "check.html")
    yield "convert", str(folder), str(folder.parent / "converted"), "--to", "voc"


def model_commands(file: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    yield "predict", str(file), str(image_of(folder)), "--out", str(folder / "out")
    if file.suffix == ".npz":
        yield "import", str(file), "--out", str(folder / "made.safetensors")
    if file.stem in ("npz-55", "onnx-22"):  # torch takes seconds, and reads neither kind
        yield "inspect", str(file)
        yield "export", str(file), "--out", str(folder / "made.onnx")


def commands(file: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    kind = file.stem.partition("-")[0]
    if file.suffix in (".onnx", ".npz"):
        yield from model_commands(file, folder)
    elif file.suffix == ".mat":
        yield from sbd_commands(file, folder / "data")
    elif kind == "datumaro":
        yield from datumaro_commands(file, folder / "data")
    elif file.suffix == ".mkv":
        yield "predict", "street", str(file), "--out", str(folder / "out")
    else:
        yield from image_commands(file, folder)
    if kind == "cvat":
        yield from cvat_commands(file, folder / "data")


@pytest.mark.parametrize("file", [file for file in FILES if file.stem != "endless"], ids=lambda file: file.name)
def test_every_command_ends_in_a_sentence(file: Path, tmp_path: Path) -> None:
    for name in ("torch", "torchvision") if file.suffix == ".npz" else ("av",) if file.suffix == ".mkv" else ():
        pytest.importorskip(name)
    for command in commands(file, tmp_path):
        libraries = TORCH if command[0] in ("inspect", "import", "export") else LIGHT
        with child("-c", COMMAND, libraries, *command, cwd=tmp_path) as process:
            output, errors = process.finish()
        text = f"{' '.join(command)}\n{process.returncode}\n{output}{errors}"
        assert process.returncode in (0, 1, 2, 3, 4), text
        assert "Traceback" not in text, text
        assert "\x1b" not in text, text
        if process.returncode:
            assert re.search(r"fullconv: \S.*\S", errors) or command[0] == "check", text
            assert len(text) < 5000, text
