"""Files and folders are written atomically."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fullconv.files import atomic_folder, check_new_folder, copy_file, write_json, write_text
from refusals import refuses


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with refuses("file-not-writable", tmp_path / "file" / "a.txt"):
        write_text(tmp_path / "file" / "a.txt", "text")


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with refuses("file-not-writable", pipe):  # nobody reads it
        write_text(pipe, "text")
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    descriptor = os.open(pipe, os.O_WRONLY)  # waits for the reader
    write_text(pipe, 50_000 * "text")
    os.close(descriptor)
    reader.join(60)
    assert received == [50_000 * "text"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.skipif(os.name == "nt", reason="links and devices of POSIX")
def test_a_link_to_a_device_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to("/dev/null")
    write_text(link, "text")
    assert not link.is_symlink()
    assert link.read_text() == "text"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc")
@pytest.mark.parametrize("into", ["pipe", "device"])
def test_the_standard_output_is_written_to(into: str) -> None:
    code = "from fullconv.files import write_text; write_text('/proc/self/fd/1', 'text')"
    with open(os.devnull, "w") as device:
        stdout = subprocess.PIPE if into == "pipe" else device
        done = subprocess.run([sys.executable, "-c", code], stdout=stdout, check=True)
    assert done.stdout == (b"text" if into == "pipe" else None)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc")
def test_an_open_file_is_not_written_over(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        path = Path(f"/proc/self/fd/{file.fileno()}")
        with refuses("file-not-writable", path):
            write_text(path, "text")
    assert (tmp_path / "out").read_text() == ""


def stop_midway(folder: Path) -> None:
    with atomic_folder(folder) as partial:
        write_text(partial / "a.txt", "text")
        raise ValueError("stop")


def test_a_failed_folder_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"):
        stop_midway(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "out") as partial:
        write_text(partial / "a.txt", "text")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a.txt").read_text() == "text"


def test_a_mount_point_is_refused_at_once(tmp_path: Path) -> None:
    with refuses("folder-is-mount-point", tmp_path.anchor):
        check_new_folder(Path(tmp_path.anchor), tmp_path)


def test_a_folder_that_cannot_be_replaced_says_the_systems_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(self: Path, target: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(self), None, str(target))

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "rename", rename)
    with refuses("file-not-writable", os.strerror(errno.EBUSY)), atomic_folder(tmp_path / "out"):
        pass


def test_json_is_compact_utf8_with_a_final_line_feed(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"name": "été", "values": [1, 2]})
    raw = (tmp_path / "a" / "b.json").read_bytes()
    assert raw == '{"name":"été","values":[1,2]}\n'.encode()
    assert json.loads(raw) == {"name": "été", "values": [1, 2]}


def test_file_names_that_are_not_unicode_are_escaped(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "\udcff.png")
    assert (tmp_path / "a.txt").read_bytes() == b"\\udcff.png"


def test_copies_have_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)))
    copy_file(tmp_path / "a.bin", tmp_path / "new" / "b.bin")
    assert (tmp_path / "new" / "b.bin").read_bytes() == bytes(range(256))
