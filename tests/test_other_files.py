"""Files that are no files, addresses, and exceptions of any kind: one sentence each, and the others are still done."""

from __future__ import annotations

import errno
import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fullconv import api
from fullconv.choices import WrittenLayout
from fullconv.cli.predicting.engine import _expand
from fullconv.cluster.remote import is_address
from fullconv.data.layouts import find_dataset, survey
from fullconv.data.reading import ReadingOptions
from fullconv.data.statistics import read_training_data
from fullconv.data.writers.write import convert
from fullconv.demo.digits import DIGIT_LABELS, write_digit_dataset
from fullconv.errors import DataError, UsageError, describe_failure, faults_of
from fullconv.files import read_file
from fullconv.images import image_size, read_header, read_image, read_label_map
from fullconv.images.video import read_frames
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.predict.inputs import expand_inputs, is_url, refuse_url
from fullconv.predict.predict_files import PredictOptions, predict_files
from geotiffs import Shifted
from refusals import refuses

posix = pytest.mark.skipif(os.name == "nt", reason="pipes and devices of POSIX")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_digit_dataset(tmp_path / "digits", train=2, val=2, size=(48, 64))


def make_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as opened:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket has at most 100 bytes
        try:
            opened.bind(path.name)
        finally:
            os.chdir(here)


WRITTEN: tuple[WrittenLayout, ...] = ("coco", "labelme")

KINDS: dict[str, Callable[[Path], None]] = {"pipe": make_pipe, "device": make_device, "socket": make_socket}


@posix
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.jpg", "a.mp4"])
def test_an_image_that_is_no_file_is_a_sentence(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    KINDS[kind](path)
    readers: list[Callable[[Path], object]] = [read_image, read_header, image_size, read_label_map]
    for read in [lambda path: list(read_frames(path))] if name == "a.mp4" else readers:
        with pytest.raises(DataError, match="regular file") as error:
            read(path)
        assert error.value.kind == "not-a-file"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "b.png")
    report = predict_files(Shifted(), [path, tmp_path / "b.png"], tmp_path / "out", PredictOptions(["labels"]))
    assert [failed for failed, _ in report.failed] == [path]
    assert report.done == (tmp_path / "b.png",)


@posix
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["classes.txt", "dataset.yaml"])
def test_a_list_of_classes_that_is_no_file_is_a_fault(data: Path, kind: str, name: str) -> None:
    for old in (data / "classes.txt", data / "dataset.yaml"):
        old.unlink(missing_ok=True)
    KINDS[kind](data / name)
    with pytest.raises(DataError):
        find_dataset(data)


@posix
@pytest.mark.parametrize("kind", KINDS)
def test_annotations_that_are_no_file_do_not_hang(tmp_path: Path, data: Path, kind: str) -> None:
    for layout in WRITTEN:
        folder = tmp_path / layout
        convert(find_dataset(data), folder, layout)
        path = min(path for path in folder.rglob("*") if path.suffix == ".json")
        KINDS[kind](path)
        with pytest.raises(DataError) as caught:
            find_dataset(folder)
        assert {fault.path for fault in caught.value.faults} >= {path}


@posix
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_only_if_it_is_one(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / "a.json")
    with pytest.raises(OSError, match=r"regular file|No such device"):
        read_file(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b"1")
    (tmp_path / "c.json").symlink_to(tmp_path / "b.json")
    assert read_file(tmp_path / "c.json") == b"1"


def test_addresses_are_recognised() -> None:
    for name in ("http://a/b.mp4", "http:/a/b.mp4", "rtsp://a", "tcp:127.0.0.1:80?x=.mp4", "udp:a", "data:,x"):
        assert is_url(name)
    for name in ("C:/a.png", "a.mp4", "a:b.png", "/http://a", "a/b:/c", "./tcp:a.mp4"):
        assert not is_url(name)


def test_an_address_is_a_sentence_and_the_others_are_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refuses("no-input", "http://127.0.0.1:1/a.mp4: is an address"):
        expand_inputs(["http://127.0.0.1:1/a.mp4"])
    with refuses("address-as-path", "127.0.0.1:1/a.mp4"):
        refuse_url(Path("http://127.0.0.1:1/a.mp4"))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    paths = [Path("http://127.0.0.1:1/a.mp4"), Path("tcp:127.0.0.1:1?x=.mp4"), Path("b.png")]
    report = predict_files(Shifted(), paths, Path("out"), PredictOptions(["labels"]))
    assert report.done == (Path("b.png"),)
    assert all("is an address" in message for _, message in report.failed)


def test_a_line_of_a_list_is_no_address_for_ray_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"http://127.0.0.1:1/a.png\ns3://bucket/a.png\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    lines = _expand(["-"], tmp_path / "out")
    assert len(lines) == 2
    for line in lines:
        assert not is_address(line)
        with refuses("address-as-path"):
            refuse_url(Path(line))


def test_a_file_whose_name_is_an_address_is_read_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    if os.name == "nt":
        pytest.skip("colons in names")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.3)
        name = f"tcp:127.0.0.1:{server.getsockname()[1]}?x=.mp4"
        with av.open(f"file:{tmp_path / name}", "w", format="mp4") as container:
            stream = container.add_stream("mpeg4", rate=1)
            stream.width = stream.height = 32
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            container.mux([*stream.encode(frame), *stream.encode()])
        assert len(list(read_frames(Path(name)))) == 1
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_title_that_is_not_unicode_does_not_stop_a_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Caf_ am Meer"
        stream = container.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 32
        stream.time_base = Fraction(1, 1)
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    content = path.read_bytes()
    assert b"Caf_" in content
    path.write_bytes(content.replace(b"Caf_", b"Caf\xe9"))
    assert len(list(read_frames(path))) == 1


def test_a_tag_of_another_type_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    content = path.read_bytes()
    tag = content.index(b"\x15\x01\x03\x00")  # SamplesPerPixel as SHORT becomes BYTE
    path.write_bytes(content[:tag] + b"\x15\x01\x01\x00" + content[tag + 4 :])
    for read in (read_header, read_image):
        try:
            read(path)
        except DataError as error:
            assert error.kind == "truncated-file"  # noqa: PT017


@contextmanager
def broken(monkeypatch: pytest.MonkeyPatch, name: str, bad: Path, error: Exception) -> Iterator[None]:
    """Raise an exception for one file."""
    module, _, function = name.rpartition(".")
    original = getattr(import_module(module), function)

    def read(path: Path, *arguments: object, **options: object) -> object:
        if Path(path).samefile(bad):
            raise error
        return original(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(name, read)
        yield


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (RecursionError("too deep"), "unreadable-file", "RecursionError (too deep): this is a fault of fullconv"),
        (PermissionError(errno.EACCES, "Permission denied"), "unreadable-file", "cannot be read (Permission denied)"),
        (MemoryError(), "too-large", "too large for the memory"),
        (UsageError("a usage", code="usage"), "unreadable-file", "a usage"),
    ],
)
def test_no_exception_stops_a_check(
    data: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, words: str
) -> None:
    images = sorted(data.rglob("images/train/*.png"))
    with broken(monkeypatch, "fullconv.doctor.examine.inspect_picture", images[0], error):
        examination = api.check(data)
    (fault,) = [fault for group in examination.groups for fault in group.faults if fault.severity == "error"]
    assert (fault.kind, fault.path) == (kind, images[0])
    assert words in fault.problem
    assert len(examination.records) == 4
    with broken(monkeypatch, "fullconv.data.mask_classes.reader.image_size", images[1], error):
        with pytest.raises(DataError) as caught:
            read_training_data(data, ReadingOptions())
        assert [(fault.kind, words in fault.problem) for fault in caught.value.faults] == [(kind, True)]


def test_an_unreadable_folder_is_a_fault_and_the_others_are_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.iterdir
    bad = data / "images" / "val"

    def iterdir(path: Path) -> Iterator[Path]:
        if path == bad:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    surveyed = survey(data)
    faults = [fault for fault in surveyed.faults if fault.path == bad]
    assert [(fault.kind, fault.problem) for fault in faults][:1] == [
        ("unreadable-file", "this folder cannot be read (Permission denied)")
    ]
    assert surveyed.dataset is not None
    assert sum(map(len, surveyed.dataset.splits.values())) == 2


def test_failures_are_sentences_with_the_path_and_a_remedy() -> None:
    path = Path("a.png")
    denied = describe_failure(path, PermissionError(errno.EACCES, "Permission denied", "b.png"))
    assert denied == "b.png: Permission denied; change its permissions, or leave it out"
    assert describe_failure(path, OSError("broken")) == "a.png: broken; check the path and the disk"
    full = OSError(errno.ENOSPC, "No space left on device", "a.png", None, "out/b.png")
    assert describe_failure(path, full) == (
        "out/b.png: No space left on device; free some space, or choose another folder"
    )
    assert describe_failure(path, KeyError("x")).startswith("a.png: KeyError ('x'): this is a fault of fullconv; ")
    assert faults_of(path, DataError("bad", code="band-count"))[0].kind == "band-count"


@posix
@pytest.mark.parametrize("writer", ["save_net", "checkpoint"])
def test_a_full_disk_in_training_is_one_sentence(tmp_path: Path, writer: str) -> None:
    code = (
        "import resource, signal, sys, torch\nfrom pathlib import Path\n"
        "from fullconv.errors import FullconvError\nfrom fullconv.files import atomic_write\n"
        "from fullconv.net.checkpoint import Saved, save_net\nfrom fullconv.labels import LabelSet\n"
        "from fullconv.net.fcn.spec import NetSpec\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "state, path = {'a': torch.zeros(1_000_000)}, Path(sys.argv[1])\n"
        "try:\n"
        "    if sys.argv[2] == 'save_net':\n"
        "        save_net(path, state, Saved(NetSpec('digits', 2, 32), LabelSet.named(['a', 'b'])))\n"
        "    else:\n"
        "        with atomic_write(path, errors=(RuntimeError,)) as temporary: torch.save(state, temporary)\n"
        "except FullconvError as error: print(error.code, error)"
    )
    path = tmp_path / "a.safetensors"
    done = subprocess.run([sys.executable, "-c", code, str(path), writer], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"file-not-writable {path}: cannot be written ("), done.stderr
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_saved_networks_are_still_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = build(NetSpec("digits", DIGIT_LABELS.num_classes, 32))
    save_net(tmp_path / "a.safetensors", net.state_dict(), Saved(net.spec, DIGIT_LABELS))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
