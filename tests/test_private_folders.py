"""Temporary folders of processes that were killed are removed by the next process; those in use stay."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from children import child
from fullconv.locks import YOUNG, make_private_folder, remove_private_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot lock folders")

CHILD = (
    "import time\n"
    "from fullconv.locks import make_private_folder\n"
    "folder = make_private_folder('test')\n"
    "(folder / 'upload').write_bytes(b'x')\n"
    "print(folder, flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def make_old(folder: Path) -> None:
    before = time.time() - 2 * YOUNG
    os.utime(folder, (before, before))


def test_a_folder_is_removed_after_its_process_was_killed_and_not_before() -> None:
    with child("-c", CHILD) as process:
        left = Path(process.read_line())
        make_old(left)
        remove_private_folder(make_private_folder("test"))
        assert (left / "upload").exists()
        process.kill()
        process.wait()
        remove_private_folder(make_private_folder("other"))
        assert (left / "upload").exists()
        remove_private_folder(make_private_folder("test"))
        assert not left.exists()


def test_new_folders_files_and_links_stay(root: Path) -> None:
    (root / "fullconv-test-new").mkdir()
    (root / "elsewhere").mkdir()
    make_old(root / "elsewhere")
    (root / "fullconv-test-link").symlink_to(root / "elsewhere")
    os.utime(root / "fullconv-test-link", (0, 0), follow_symlinks=False)
    (root / "fullconv-test-file").write_bytes(b"")
    make_old(root / "fullconv-test-file")
    folder = make_private_folder("test")
    assert folder.stat().st_mode & 0o077 == 0
    assert len(list(root.iterdir())) == 5
    remove_private_folder(folder)
    assert len(list(root.iterdir())) == 4
