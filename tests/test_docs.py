"""docs/commands.md is current, and the Python examples of the documentation run."""

from __future__ import annotations

import logging
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fullconv.images import write_image
from fullconv.predict.areas_table import read_areas
from test_choose import striped
from test_face import noise

ROOT = Path(__file__).parent.parent


def test_commands_page_is_current() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert page == made["document"](), "run python docs/make_commands.py"


def examples(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write the files that the examples name. Restore the log level afterwards."""
    monkeypatch.chdir(tmp_path)
    write_image("photo.jpg", noise(40, 56))
    write_image("photos/photo.jpg", noise(40, 56))
    write_image("photos/more/other.png", noise(33, 41))
    striped(Path("mydata"))
    logger = logging.getLogger("fullconv")
    level = logger.level
    yield tmp_path
    logger.setLevel(level)


def write_clip(path: str) -> None:
    av = pytest.importorskip("av")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for seed in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(48, 64, seed), format="rgb24")))
        container.mux(stream.encode())


def run_examples(page: str) -> dict[str, Any]:
    """Run the Python blocks of a page in order and return the names that they define."""
    blocks, names = examples(page), dict[str, Any]()
    assert blocks
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{page}, example {number}", "exec", dont_inherit=True), names)
    return names


@pytest.mark.filterwarnings("ignore::Warning:lightning")
def test_examples_of_the_python_page_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("clip.mp4")
    names = run_examples("docs/python.md")
    printed = capsys.readouterr().out
    assert "lost.jpg: no such file" in printed
    assert "top left corner" in printed
    assert "2 of 2 steps: mIoU 0." in printed
    assert "0 errors" in printed
    assert "classifier.1: linear became a 6x6 convolution to 4096" in printed
    made = {path.as_posix() for path in Path("results").rglob("*.*")}
    saved = (
        "photo.png more/other.png overlays/photo.jpg probabilities/photo.npz polygons/photo.geojson labelme/photo.json"
    )
    frames = "clip/frame-000001.png clip/frame-000002.png"
    assert made == {f"results/{name}" for name in f"{saved} {frames} areas.csv".split()}
    assert {row[0] for row in read_areas(Path("results/areas.csv"))} == {"photos/photo.jpg", "photos/more/other.png"}
    run = names["run"]
    assert run.folder == Path("runs/first")
    assert run.model == Path("runs/first/model.onnx")
    assert names["scores"].to_dict() == run.scores.to_dict()
    assert Path("first.onnx").is_file()


@pytest.mark.filterwarnings("ignore::Warning:lightning")
@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_examples_of_the_readmes_run(folder: Path, page: str) -> None:
    names = run_examples(page)
    assert names["result"].label_map.shape == (40, 56)
    assert names["result"].label_map.dtype == np.uint8
    assert names["dense"].coerced[0] == "classifier.0: linear became a 7x7 convolution to 4096"
    assert names["net"].spec.name == "FCN-8s"


def test_the_chinese_readme_has_the_commands_links_and_pictures_of_the_english_one() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))

    def commands(text: str) -> list[str]:
        blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        lines = "".join(blocks).splitlines()
        return [line.split("#")[0].rstrip() for line in lines if line.startswith(("fullconv ", "pip ", "make ", "$ "))]

    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"}

    assert commands(chinese) == commands(english)
    assert links(chinese) == links(english)
    outputs = [re.findall(r"^```\n(\$ .*?)^```$", text, re.MULTILINE | re.DOTALL) for text in (english, chinese)]
    assert outputs[0] == outputs[1]
    assert "(README.zh-CN.md)" in english
    assert "(README.md)" in chinese
    for term in ("全卷积网络", "转置卷积", "跳跃连接", "语义分割", "像素精度", "平均交并比"):
        assert term in chinese
