"""fullconv also works from an archive, and the licences of its weights are in it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fullconv
from fullconv.data.formats.voc import paper_val
from fullconv.data.published.ade20k import ade20k_labels

ROOT = Path(__file__).parent.parent
SOURCE = Path(fullconv.__file__).parent


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip file of the package, as a wheel is."""
    path = tmp_path_factory.mktemp("archive") / "fullconv.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for file in SOURCE.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                packed.write(file, f"fullconv/{file.relative_to(SOURCE).as_posix()}")
    return path


def run(archive: Path, folder: Path, code: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(archive)!r})\n{code}"
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bundled_models_and_tables_are_read_from_an_archive(archive: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    code = (
        "import fullconv\n"
        "from fullconv.data.formats.voc import paper_val\n"
        "from fullconv.data.published.ade20k import ade20k_labels\n"
        "assert '.zip' in fullconv.__file__\n"
        "print(fullconv.load('street').predict('photo.png').label_map.sum())\n"
        "print(len(paper_val()), ade20k_labels().num_classes)"
    )
    expected = fullconv.load("street").predict(tmp_path / "photo.png").label_map.sum()
    assert run(archive, tmp_path, code).split() == [str(expected), "736", "150"]
    assert (len(paper_val()), ade20k_labels().num_classes) == (736, 150)


def test_bundled_weights_are_read_from_an_archive(archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    code = (
        "from fullconv.net.classifiers.backbones import bundled_weights\n"
        "path = bundled_weights('mobilenet_v2')\n"
        "print(path.stat().st_size, bundled_weights('vgg16'), bundled_weights('../x'))\n"
        "print(path == bundled_weights('mobilenet_v2'))"
    )
    size = (SOURCE / "models" / "mobilenet_v2.safetensors").stat().st_size
    assert run(archive, tmp_path, code).split() == [str(size), "None", "None", "True"]


def test_the_notice_of_the_bundled_weights_is_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "BSD-2-Clause AND MIT AND Apache-2.0"
    notice, apache = (ROOT / f"src/fullconv/models/LICENSE-{name}.txt" for name in ("MIT", "APACHE"))
    assert {"LICENSE", *(path.relative_to(ROOT).as_posix() for path in (notice, apache))} == set(
        project["license-files"]
    )
    assert "Apache License" in apache.read_text(encoding="utf-8")
    assert apache.name in (apache.parent / "efficientnet_lite0.md").read_text(encoding="utf-8")
    text = notice.read_text(encoding="utf-8")
    assert "Copyright (c) Armin Fazelzad" in text
    assert "Permission is hereby granted, free of charge" in text
    for name in ("mobilenet_v2", "street"):
        assert notice.name in (notice.parent / f"{name}.md").read_text(encoding="utf-8")
    assert project["authors"]
