"""Archives of data sets are unpacked once, safely, and read like folders."""

from __future__ import annotations

import io
import logging
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fullconv.data.archives import Limits, data_name, unpack
from fullconv.data.layouts import find_dataset
from refusals import refuses

Content = dict[str, bytes]


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


IMAGE, MASK = png(np.full((4, 4, 3), 90)), png(np.eye(4))
FILES: Content = {
    f"{folder}/{split}/{split}{i}.png": data
    for folder, data in (("images", IMAGE), ("masks", MASK))
    for split in ("train", "val")
    for i in range(2)
}


def make_zip(path: Path, files: Content, mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return path


def make_tar(path: Path, files: Content, **kinds: bytes) -> Path:
    compression = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    return path


def make(path: Path, files: Content) -> Path:
    return make_zip(path, files) if path.suffix.lower() == ".zip" else make_tar(path, files)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fullconv" / "archives"


def left_in(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*")) if cache.is_dir() else []


@pytest.mark.parametrize(
    "name", ["set.zip", "set.ZIP", "set.tar", "set.tar.gz", "set.tgz", "set.tar.bz2", "set.tar.xz"]
)
@pytest.mark.parametrize("top", ["", "my roofs/", "./my roofs/", "a\\"])
def test_archives_are_read_like_folders(
    tmp_path: Path, cache: Path, name: str, top: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    litter = {"__MACOSX/._x": b"", ".DS_Store": b""}
    archive = make(tmp_path / name, {top + path: data for path, data in FILES.items()} | litter)
    dataset = find_dataset(archive)
    assert (dataset.layout, dataset.root.name, dataset.root.parent.parent) == ("folder", "set", cache)
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 2, "val": 2}
    np.testing.assert_array_equal(dataset.read(dataset.split("val")[0])[1], np.eye(4))
    assert f"{archive}: unpacked into {dataset.root}" in caplog.text
    assert not [path for path in left_in(cache) if path.name.startswith(".") or "MACOSX" in path.name]


def test_an_archive_is_unpacked_once_and_again_if_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    archive = make_zip(tmp_path / "set.zip", FILES)
    first = unpack(archive)
    (first / "mark").touch()
    assert unpack(archive) == first
    assert (first / "mark").exists()
    assert "where it was unpacked before" in caplog.text
    make_zip(archive, FILES | {"images/train/new.png": IMAGE})
    assert unpack(archive) != first


@pytest.mark.parametrize("name", ["train", "images", "labels"])
def test_a_single_folder_whose_name_says_what_it_holds_stays(tmp_path: Path, name: str) -> None:
    root = unpack(make_zip(tmp_path / "set.zip", {f"{name}/a.png": IMAGE}))
    assert (root / name / "a.png").is_file()


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/a.png", "C:\\a.png", "..\\a.png"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_members_outside_of_the_archive_are_refused(tmp_path: Path, cache: Path, name: str, suffix: str) -> None:
    archive = make(tmp_path / f"set{suffix}", FILES | {name: IMAGE})
    with refuses("unsafe-archive", archive, "lies outside of the archive"):
        find_dataset(archive)
    assert left_in(cache) == []
    assert not list(tmp_path.rglob("a.png"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, cache: Path, kind: bytes) -> None:
    with refuses("unsafe-archive", "'link'", "is a link or a device"):
        unpack(make_tar(tmp_path / "set.tar", FILES, link=kind))
    with refuses("unsafe-archive", "is a link or a device"):
        unpack(make_zip(tmp_path / "set.zip", {"link": b"/etc/passwd"}, mode=0o120777))
    assert left_in(cache) == []


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("limits", [Limits(bytes=1000), Limits(files=3)])
def test_archives_of_more_bytes_or_files_than_the_limits_are_refused(
    tmp_path: Path, cache: Path, suffix: str, limits: Limits
) -> None:
    archive = make(tmp_path / f"set{suffix}", FILES | {"big.bin": bytes(100_000)})
    with refuses("archive-too-large", archive):
        unpack(archive, limits=limits)
    assert left_in(cache) == []


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"<html>", lambda data: b""])
def test_damaged_archives_are_refused(
    tmp_path: Path, cache: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    archive = make(tmp_path / f"set{suffix}", FILES)
    archive.write_bytes(damage(archive.read_bytes()))
    with refuses("damaged-archive", archive):
        find_dataset(archive)
    assert left_in(cache) == []


def test_a_damaged_member_an_encrypted_and_an_empty_archive_are_refused(tmp_path: Path, cache: Path) -> None:
    archive = make_zip(tmp_path / "set.zip", {"a.png": bytes(5000)})
    content = bytearray(archive.read_bytes())
    content[40] ^= 255
    archive.write_bytes(content)
    with refuses("damaged-archive", archive):
        unpack(archive)
    content = bytearray(make_zip(archive, {"a.png": IMAGE}).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with refuses("encrypted-archive", archive):
        unpack(archive)
    with refuses("empty-archive", archive):
        unpack(make_zip(archive, {".DS_Store": b"x"}))
    assert left_in(cache) == []


def test_a_cache_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refuses("archive-not-unpacked", tmp_path / "file"):
        unpack(make_zip(tmp_path / "set.zip", FILES), tmp_path / "file")


def test_the_run_folder_is_named_after_the_archive(tmp_path: Path) -> None:
    archives: Any = SimpleNamespace()
    archives.plain = make_zip(tmp_path / "roofs.v2.zip", FILES)
    archives.tar = make_tar(tmp_path / "roofs.tar.gz", FILES)
    (tmp_path / "folder.zip").mkdir()
    assert [data_name(path) for path in (archives.plain, archives.tar)] == ["roofs.v2", "roofs"]
    assert data_name(tmp_path / "folder.zip") == "folder.zip"
    assert unpack(archives.plain).name == "roofs.v2"
