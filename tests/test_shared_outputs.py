"""Several processes and threads may write the same output, and nobody can make fullconv write elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from children import child
from command_line import call
from fullconv.cli.values import refuse_overwriting
from fullconv.demo.digits import write_digit_dataset
from fullconv.files import atomic_folder, atomic_write, copy_file, write_text
from fullconv.locks import LOCK_FILE, hold_folder, hold_lock
from fullconv.packages.export import export_profile
from fullconv.predict.areas_table import format_areas, read_areas, update_areas, write_areas
from fullconv.predict.large import predict_large
from fullconv.predict.outputs import Area
from fullconv.runtime.models import bundled
from fullconv.runtime.tiles import TiledRunner
from geotiffs import Shifted, geotiff, picture
from refusals import refuses
from waiting import LIMIT

posix = pytest.mark.skipif(os.name == "nt", reason="links, pipes and umask of POSIX")

AREAS = {"a": Area(3, 0.75), "b": Area(1, 0.25)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digit_dataset(tmp_path_factory.mktemp("data") / "digits", train=2, val=2, size=(48, 64))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@posix
def test_the_umask_of_the_process_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:

        def refuse(mask: int) -> int:
            raise AssertionError("umask was called")

        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", refuse)
            write_text(tmp_path / "a.txt", "text")
            with atomic_write(tmp_path / "b.txt") as temporary:
                temporary.unlink()
                os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))  # as a library with private files
            with atomic_folder(tmp_path / "folder") as folder:
                write_text(folder / "c.txt", "text")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"a.txt": 0o640, "b.txt": 0o640, "folder": 0o750, "c.txt": 0o640}


@pytest.mark.parametrize("planted", ["folder", "link"])
def test_nothing_under_a_predictable_name_is_written_or_removed(tmp_path: Path, planted: str) -> None:
    victim = tmp_path / "victim"
    write_text(victim / "mine.txt", "precious")
    partial = tmp_path / ".out.partial"
    if planted == "folder":
        write_text(partial / "mine.txt", "precious")
    elif os.name != "nt":
        partial.symlink_to(victim)
    before = snapshot(tmp_path)
    with atomic_folder(tmp_path / "out") as folder:
        write_text(folder / "mine.txt", "new")
    assert {name: content for name, content in snapshot(tmp_path).items() if name in before} == before
    assert (tmp_path / "out" / "mine.txt").read_text() == "new"


def test_a_folder_never_merges_with_what_another_process_wrote(tmp_path: Path) -> None:
    with refuses("folder-taken", tmp_path / "out"), atomic_folder(tmp_path / "out") as folder:
        write_text(folder / "a.txt", "first")
        with atomic_folder(tmp_path / "out") as second:
            write_text(second / "b.txt", "second")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.txt"]


def test_two_conversions_at_once_leave_one_whole_folder(data: Path, tmp_path: Path) -> None:
    code = "from fullconv.cli.app import main; main()"
    command = ("-c", code, "convert", data, tmp_path / "out", "--to", "folder")
    with child(*command) as first, child(*command) as second:
        outcomes = [(process.finish()[1], process.returncode) for process in (first, second)]
    assert sorted(code for _, code in outcomes)[0] == 0
    for err, returncode in outcomes:
        assert returncode == 0 or "folder" in err
        assert "Traceback" not in err
    files = list((tmp_path / "out").rglob("*.png"))
    assert len(files) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_conversion_into_the_data_is_refused(data: Path) -> None:
    before = snapshot(data)
    with refuses("folder-in-data"):
        call("convert", data, data / "masks" / "train" / "x", "--to", "folder")
    assert snapshot(data) == before


@pytest.mark.parametrize("option", ["--html", "--json"])
def test_a_check_does_not_overwrite_the_data(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(data)
    with refuses("overwrites-data", "0000.png"):
        call("check", data, option, next(data.rglob("images/train/0000.png")))
    assert snapshot(data) == before
    output = data / f"check.{option.removeprefix('--')}"
    for _ in range(2):  # its own output may be replaced
        call("check", data, option, output)
    output.write_text("<!doctype html><p>A page of the user")
    with refuses("overwrites-data", output):
        call("check", data, option, output)
    output.unlink()


def test_no_result_replaces_an_archive_or_another_result(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = Path(shutil.make_archive("data", "zip", data))
    before = archive.read_bytes()
    for command in (["check"], ["evaluate", "street"]):
        with refuses("overwrites-data", "data.zip"):
            call(*command, "data.zip", "--json", archive)
    with refuses("output-named-twice", "x.html"):
        call("check", data, "--json", "x.html", "--html", tmp_path / "x.html")
    assert archive.read_bytes() == before
    call("check", data, "--json", os.devnull, "--html", os.devnull)


def test_no_result_replaces_the_model_or_the_weights_that_are_read(data: Path, tmp_path: Path) -> None:
    files = [tmp_path / "run" / name for name in ("best.safetensors", "scores.json", "metrics.csv", "recipe.yaml")]
    for file in files:
        write_text(file, '{\n "pixel_accuracy": ' if file.name == "scores.json" else "a file of the run")
    for file in files:
        for command in (["evaluate", file.parent, data], ["evaluate", file, data], ["inspect", file]):
            with refuses("overwrites-input", file):
                call(*command, "--json", file)
    with refuses("overwrites-input", files[0]):
        call("import", files[0], "--out", files[0])
    exported = tmp_path / "a.onnx"
    shutil.copyfile(bundled("street"), exported)
    with refuses("overwrites-input", exported):
        export_profile(exported, exported, profile="deepness")
    for name in ("mine.json", "mine.txt"):
        write_text(tmp_path / "run" / name, '{\n "pixel_accuracy": ')  # an earlier result
        refuse_overwriting(tmp_path / "run" / name, inputs=[tmp_path / "run"])


def test_a_check_does_not_overwrite_images_outside_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    if os.name == "nt":
        pytest.skip("links")
    monkeypatch.chdir(tmp_path)
    call("convert", data, tmp_path / "copy", "--to", "folder")
    image = next((tmp_path / "copy").rglob("images/train/0000.png"))
    image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(tmp_path / "elsewhere.png")
    before = (tmp_path / "elsewhere.png").read_bytes()
    with refuses("overwrites-data", "elsewhere.png"):
        call("check", tmp_path / "copy", "--outside", "--json", tmp_path / "elsewhere.png")
    assert (tmp_path / "elsewhere.png").read_bytes() == before


def test_the_second_process_in_a_folder_names_the_first(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom fullconv.locks import hold_folder\n"
        "with hold_folder(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with refuses("locked", f"process {process.pid}"), hold_folder(tmp_path / "new" / "run"):
            pass
        process.kill()
    with hold_folder(tmp_path / "new" / "run"):  # the lock of a killed process does not block
        pass
    assert not (tmp_path / "new" / "run" / LOCK_FILE).exists()


def test_a_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with hold_folder(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_threads_take_turns(tmp_path: Path) -> None:
    inside: list[int] = []

    def work(_: int) -> None:
        with hold_lock(tmp_path / ".lock", "x", wait=True):
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.001)
            inside.pop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(80)))
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_planted_lock_file_is_a_sentence(tmp_path: Path, kind: str) -> None:
    write_text(tmp_path / "victim", "precious")
    planted = tmp_path / "run" / LOCK_FILE
    planted.parent.mkdir()
    make: dict[str, Callable[[], None]] = {
        "link": lambda: planted.symlink_to(tmp_path / "victim"),
        "pipe": lambda: os.mkfifo(planted),
        "folder": planted.mkdir,
    }
    make[kind]()
    with refuses("file-not-writable", LOCK_FILE), hold_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_second_training_into_one_folder_is_refused(data: Path, tmp_path: Path) -> None:
    command = ("train", data, "--model", "digits", "--weights", "none", "--epochs", "1", "--out", tmp_path / "run")
    with hold_folder(tmp_path / "run"), refuses("locked", os.getpid()):
        call(*command)
    with hold_folder(tmp_path / "run"), refuses("locked", os.getpid()):
        call(*command, "--folds", "2")
    with hold_folder(tmp_path / "run"), refuses("locked", os.getpid()):
        call("ladder", *command[1:-4], "--out", tmp_path / "run")


def test_no_row_is_lost_if_threads_share_the_table(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: update_areas(tmp_path / "areas.csv", format_areas(f"{i}.png", AREAS)), range(64)))
    assert sorted(row[0] for row in read_areas(tmp_path / "areas.csv")[::2]) == sorted(f"{i}.png" for i in range(64))
    assert [path.name for path in tmp_path.iterdir()] == ["areas.csv"]


def test_no_row_is_lost_if_processes_share_the_table(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from fullconv.predict.areas_table import format_areas, update_areas\n"
        "from fullconv.predict.outputs import Area\n"
        "for i in range(40):\n"
        "    update_areas(pathlib.Path(sys.argv[1]), format_areas(f'{sys.argv[2]}-{i % 30}', {'a': Area(i, 1.0)}))"
    )
    table = tmp_path / "areas.csv"
    with ExitStack() as stack:
        processes = [stack.enter_context(child("-c", code, table, name)) for name in "abcd"]
        assert [process.wait(LIMIT) for process in processes] == [0] * 4
    assert {row[0]: row[2] for row in read_areas(table)} == {
        f"{name}-{i}": str(i + 30 if i < 10 else i) for name in "abcd" for i in range(30)
    }
    assert len(read_areas(table)) == 120


def test_rows_of_new_images_are_appended(tmp_path: Path) -> None:
    table = tmp_path / "areas.csv"
    write_areas(table, [row for i in range(20_000) for row in format_areas(f"old{i}.png", AREAS)])
    update_areas(table, format_areas("first.png", AREAS))
    inode = table.stat().st_ino
    for i in range(50):
        update_areas(table, format_areas(f"new{i}.png", AREAS))
    assert os.name == "nt" or table.stat().st_ino == inode
    assert len(read_areas(table)) == 2 * 20_051
    update_areas(table, [("new7.png", "a", "9", "1.000000", "")])
    assert [row for row in read_areas(table) if row[0] == "new7.png"] == [("new7.png", "a", "9", "1.000000", "")]
    table.write_text("image,class,pixels,share,square_metres\nmine.png,a,1,1,")  # edited, without a last line feed
    update_areas(table, format_areas("b.png", AREAS))
    assert [row[0] for row in read_areas(table)] == ["mine.png", "b.png", "b.png"]


@posix
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_table_that_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    table = tmp_path / "areas.csv"
    make: dict[str, Callable[[], None]] = {
        "pipe": lambda: os.mkfifo(table),
        "folder": table.mkdir,
        "device": lambda: table.symlink_to("/dev/zero"),
    }
    make[kind]()
    with refuses("foreign-areas-table"):
        update_areas(table, format_areas("a.png", AREAS))


@posix
def test_a_linked_table_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    write_areas(tmp_path / "theirs.csv", format_areas("a.png", AREAS))
    before = (tmp_path / "theirs.csv").read_bytes()
    table = tmp_path / "areas.csv"
    table.symlink_to(tmp_path / "theirs.csv")
    update_areas(table, format_areas("b.png", AREAS))
    assert (tmp_path / "theirs.csv").read_bytes() == before
    assert [row[0] for row in read_areas(table)[::2]] == ["a.png", "b.png"]


@pytest.mark.parametrize("name", ["=1+1.png", "+1", "-1", "@sum", "\t=1", "'=1"])
def test_names_are_never_formulas_of_a_spreadsheet(tmp_path: Path, name: str) -> None:
    table = tmp_path / "areas.csv"
    for _ in range(2):
        update_areas(table, format_areas(name, {name: Area(3, 1.0)}))
    assert read_areas(table) == [(f"'{name}", f"'{name}", "3", "1.000000", "")]


@posix
@pytest.mark.parametrize("end", ["part", "journal"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_files_of_a_large_image_are_never_written_through_a_link(tmp_path: Path, end: str, kind: str) -> None:
    path = geotiff(tmp_path / "a.tif", picture(70, 90))
    victim = tmp_path / "victim"
    write_text(victim, "precious")
    planted = tmp_path / "out" / f".a.tif.{end}"
    planted.parent.mkdir()
    make: dict[str, Callable[[], None]] = {
        "link": lambda: planted.symlink_to(victim),
        "hard link": lambda: planted.hardlink_to(victim),
        "pipe": lambda: os.mkfifo(planted),
    }
    make[kind]()
    predict_large(TiledRunner(Shifted(), 32), path, {"labels": tmp_path / "out" / "a.tif"})
    assert victim.read_text() == "precious"
    assert os.listdir(tmp_path / "out") == ["a.tif"]


@posix
def test_a_resumed_large_image_does_not_write_through_a_hard_link(tmp_path: Path) -> None:
    path, target = geotiff(tmp_path / "a.tif", picture(70, 90)), tmp_path / "out" / "a.tif"

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_large(TiledRunner(Shifted(), 32), path, {"labels": target}, stop)
    part = target.with_name(".a.tif.part")
    (tmp_path / "victim").hardlink_to(part)
    before = (tmp_path / "victim").read_bytes()
    assert predict_large(TiledRunner(Shifted(), 32), path, {"labels": target}).resumed == 0
    assert (tmp_path / "victim").read_bytes() == before


def test_two_processes_do_not_write_one_large_result(tmp_path: Path) -> None:
    path, target = geotiff(tmp_path / "a.tif", picture(70, 90)), tmp_path / "out" / "a.tif"

    def again(done: int, total: int) -> None:
        if done == 2:
            with refuses("locked", os.getpid()):
                predict_large(TiledRunner(Shifted(), 32), path, {"labels": target})

    predict_large(TiledRunner(Shifted(), 32), path, {"labels": target}, again)
    assert os.listdir(tmp_path / "out") == ["a.tif"]


def test_threads_write_whole_files_under_one_name(tmp_path: Path) -> None:
    texts = [str(i) * 1000 for i in range(8)]
    threads = [threading.Thread(target=write_text, args=(tmp_path / "a.txt", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.txt").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@posix
def test_messages_name_the_path_of_the_user_and_not_the_temporary_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "text" * 1000)
    out = tmp_path / "out"
    code = (
        "import resource, signal, sys, pathlib\n"
        "from fullconv.files import atomic_folder, copy_file\nfrom fullconv.errors import FullconvError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "source, out = map(pathlib.Path, sys.argv[1:])\n"
        "try:\n"
        "    with atomic_folder(out) as folder: copy_file(source, folder / 'images' / 'b.txt')\n"
        "except FullconvError as error: print(error.code, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.txt"), str(out)], capture_output=True, text=True, check=False
    )
    expected = f"{out}/images/b.txt: cannot be written (File too large); check the folder and the disk"
    assert done.stdout == f"file-not-writable {expected}\n", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(FileNotFoundError):  # the source is at fault
        copy_file(tmp_path / "missing", tmp_path / "b.txt")


def test_a_name_that_no_file_can_have_is_a_sentence(tmp_path: Path) -> None:
    with refuses("file-not-writable"):
        write_text(tmp_path / "a\0b.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_libraries_that_hide_a_full_disk_are_one_sentence(tmp_path: Path) -> None:
    with refuses("file-not-writable", "No space left"), atomic_write(tmp_path / "a", errors=(RuntimeError,)):
        raise RuntimeError("Error: I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a"):
        raise RuntimeError("a fault of ours")


def test_results_of_commands_are_json_with_a_known_start(data: Path, tmp_path: Path) -> None:
    call("check", data, "--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    assert (tmp_path / "a.json").read_bytes().startswith(b'{\n "data": "')
    assert json.loads((tmp_path / "a.json").read_text())["errors"] == 0
