"""Ray's engine writes the files of fullconv predict, byte for byte, and survives workers that are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

import command_line
from children import child
from fullconv.cluster import remote
from fullconv.cluster.engine import predict_on_ray
from fullconv.cluster.manifest import MANIFEST_FILE, Entry, Manifest
from fullconv.cluster.session import RayOptions, ray_session
from fullconv.cluster.worker import WorkerSpec
from fullconv.errors import FullconvError
from fullconv.predict.inputs import expand_inputs
from fullconv.predict.predict_files import PredictOptions, PredictReport, predict_files
from fullconv.runtime.models import model_path
from geotiffs import geotiff, picture
from refusals import matches, refuses
from waiting import LIMIT, wait_until

if find_spec("ray") is None:  # it is imported by `ray_session`, after its settings
    pytest.skip("ray is not installed", allow_module_level=True)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray and its packages
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SITE = """
import os, sys

def die(event, arguments):
    if event == "open" and "deadly" in str(arguments[0]) and os.path.exists({flag!r}):
        os._exit(9)

sys.addaudithook(die)
"""

SAVES = ("labels", "overlay", "areas")


@pytest.fixture(scope="module")
def flag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a path; while it exists, workers die when they open a file with "deadly" in its name."""
    return tmp_path_factory.mktemp("flag") / "on"


@pytest.fixture(scope="module")
def cluster(flag: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start Ray with two workers once; the tests use the same connection."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(SITE.format(flag=str(flag)))
    paths = [str(site), str(Path(__file__).parent), *(path for path in sys.path if path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("OMP_NUM_THREADS", "1")
        with ray_session(RayOptions(workers=2)) as workers:
            yield workers


def make_spec(out: Path, **values: object) -> WorkerSpec:
    return WorkerSpec(model_path("street"), out, SAVES, **values)  # type: ignore[arg-type]


def make_images(folder: Path) -> list[Path]:
    """Make photos of several kinds in folders, one of which is damaged and one no image."""
    for number, name in enumerate(["a.png", "b.jpg", "more/a.png", "more/=c.png", "more/ünï 5.png", "last.png"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(40 + number, 60, seed=number).astype(np.uint8)).save(path)
    pixels = picture(50, 40)
    pixels[:20] = 0
    geotiff(folder / "field.tif", pixels, nodata=0)
    content = (folder / "a.png").read_bytes()
    (folder / "damaged.png").write_bytes(content[: len(content) // 2])
    (folder / "text.png").write_text("not an image")
    return expand_inputs([str(folder)])


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of all results below a folder."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != MANIFEST_FILE}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path, PredictReport]:
    """Return images, and what one process makes of them."""
    folder = tmp_path_factory.mktemp("images")
    images, out = make_images(folder), tmp_path_factory.mktemp("whole")
    report = predict_files(make_spec(out).load(), images, out, PredictOptions(SAVES))
    assert len(report.failed) == 2
    return images, out, report


@pytest.mark.parametrize("workers", [1, 2])
def test_the_files_are_those_of_one_process(
    cluster: int, whole: tuple[list[Path], Path, PredictReport], tmp_path: Path, workers: int,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """By the command, with damaged files: the same files, table of areas, messages and exit code."""
    images, expected, report = whole
    options = ("--save", ",".join(SAVES), "--engine", "ray", "--workers", str(workers))
    assert cluster == 2
    folder = Path(os.path.commonpath(images))
    assert command_line.predict(monkeypatch, "street", folder, "--out", tmp_path / "out", *options) == 1
    assert read_files(tmp_path / "out") == read_files(expected)
    printed = capsys.readouterr()
    assert f"{len(report.done)} of {len(images)} images labelled" in printed.out
    for _, message in report.failed:
        assert message in printed.err


def test_killed_workers_lose_nothing(
    cluster: int, whole: tuple[list[Path], Path, PredictReport], tmp_path: Path, flag: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One worker is killed in the run; an image that kills its worker each time is one failure; the rest is done."""
    images, out = [str(path) for path in whole[0] if path.name not in ("damaged.png", "text.png")], tmp_path / "out"
    deadly = tmp_path / "deadly.png"
    deadly.write_bytes((whole[0][0]).read_bytes())
    killed: list[int] = []

    def kill(image: str, message: str | None) -> None:
        if not killed:
            entry = json.loads((out / MANIFEST_FILE).read_text().splitlines()[-1])
            killed.append(int(entry["worker"].rpartition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)

    flag.touch()
    try:
        report = predict_on_ray(make_spec(out), [*images, str(deadly)], RayOptions(workers=2), kill)
    finally:
        flag.unlink()
    assert killed
    ((path, message),) = report.failed
    assert path == deadly
    assert "its worker died each time" in message
    assert [str(path) for path in report.done] == images
    assert capfd.readouterr() == ("", "")
    hidden = list(out.rglob(".*.*"))  # of the worker that was killed, if it was writing
    assert len(hidden) <= 1
    for file in hidden:
        assert re.fullmatch(r"\.[0-9a-f]{32}\.\w+", file.name)
        file.unlink()
    calls: list[str] = []
    report = predict_on_ray(
        make_spec(out), [*images, str(deadly)], RayOptions(workers=2), lambda image, message: calls.append(image)
    )
    assert not report.failed
    assert calls == [str(deadly)], "the rest is done already"
    expected = tmp_path / "expected"
    predict_files(make_spec(expected).load(), [*map(Path, images), deadly], expected, PredictOptions(SAVES))
    assert read_files(out) == read_files(expected)


def test_a_large_image_is_labelled_in_blocks_and_equals_that_of_one_process(cluster: int, tmp_path: Path) -> None:
    pixels = picture(1100, 600)
    pixels[700:, 200:] = 0
    image = geotiff(tmp_path / "big.tif", pixels, nodata=0, blockysize=64)
    spec = WorkerSpec(model_path("street"), tmp_path / "out", ("labels", "areas"), tile=1120, max_in_memory_pixels=1000)
    report = predict_on_ray(spec, [str(image)], RayOptions(workers=2))
    assert report.failed == ()
    options = PredictOptions(["labels", "areas"], max_in_memory_pixels=1000)
    assert not predict_files(spec.load(), [image], tmp_path / "whole", options).failed
    assert read_files(tmp_path / "out") == read_files(tmp_path / "whole")


def test_addresses_are_downloaded_by_the_engine(cluster: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on this machine stands for an object store."""
    folder = tmp_path / "served"
    images = make_images(folder)
    code = "import functools, http.server as h, sys; s = h.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial("
    code += "h.SimpleHTTPRequestHandler, directory=sys.argv[1])); print(s.server_port, flush=True); s.serve_forever()"
    with child("-c", code, folder) as server:
        base = f"http://127.0.0.1:{int(server.read_line())}"
        addresses = [f"{base}/a.png", f"{base}/more/a.png", f"{base}/damaged.png", f"{base}/gone.png"]
        assert remote.expand_addresses(addresses) == addresses
        report = predict_on_ray(make_spec(tmp_path / "out"), addresses, RayOptions(workers=2))
    assert [str(path) for path, _ in report.failed] == [str(Path(address)) for address in addresses[2:]]
    assert addresses[2] in report.failed[0][1]
    assert matches("address-not-read", report.failed[1][1])
    expected = tmp_path / "expected"
    chosen = [path for path in images if path.name == "a.png"]
    predict_files(make_spec(expected).load(), chosen, expected, PredictOptions(SAVES))
    files, reference = read_files(tmp_path / "out"), read_files(expected)
    table, other = files.pop("areas.csv").decode(), reference.pop("areas.csv").decode()
    assert files == reference
    assert table.replace(base, str(folder)) == other


def test_addresses_are_named_by_host_and_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    assert remote.is_address("s3://bucket/a.jpg")
    assert not remote.is_address("file:///etc/passwd")
    assert not remote.is_address("memory://bucket/a.jpg")
    assert remote.local_name("s3://bucket/x/a%20b#1?.jpg") == Path("/bucket/x/a%20b#1?.jpg")
    assert remote.local_name("https://host/x/a%20b.jpg#top") == Path("/host/x/a b.jpg")
    assert remote.local_name("https://host:81/x/a.jpg?v=1") == Path("/host_81/x/a.jpg")
    monkeypatch.setattr(remote, "PROTOCOLS", ("memory",))
    system = fsspec.filesystem("memory")
    for name in ("b.png", "a.jpg", "readme.txt", "more/c.tif"):
        system.pipe(f"/photos/{name}", name.encode())
    names = [f"memory:///photos/{name}" for name in ("a.jpg", "b.png", "more/c.tif")]
    assert remote.expand_addresses(["memory://photos"]) == names
    assert remote.expand_addresses(["memory://photos/*.png", names[1]]) == names[1:2]
    with remote.fetch(names[0]) as path:
        assert (path.name, path.read_bytes()) == ("a.jpg", b"a.jpg")
    assert not path.exists()
    with refuses("no-images-at-address", "memory://nowhere"):
        remote.expand_addresses(["memory://nowhere"])
    with refuses("address-not-read", "gone.png"), remote.fetch("memory://photos/gone.png"):
        pass


def test_the_manifest_keeps_what_is_done(tmp_path: Path) -> None:
    entries = [Entry(name, name, [1, 2], [[name, "road"]], [f"{name}.png"], None, 0.5, "host:1") for name in ("a", "b")]
    with Manifest(tmp_path, {"format": 1}, [0.0, 1.0]) as manifest:
        for entry in entries:
            manifest.add(entry)
        manifest.add(Entry("c", "c", [], [], [], "failed", 0.1, ""))
        with refuses("locked", tmp_path):
            Manifest(tmp_path, {"format": 1}, [0.0, 1.0])
    with (tmp_path / MANIFEST_FILE).open("a") as file:
        file.write('{"image": "d", "st')  # a killed process
    with Manifest(tmp_path, {"format": 1}, [0.0, 1.00001]) as manifest:
        assert list(manifest.entries.values()) == entries
        if Path("/dev/full").exists():
            manifest._file.close()
            manifest._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
            with refuses("file-not-writable", MANIFEST_FILE, "No space left"):
                manifest.add(entries[0])
            manifest._file.close()
            manifest._file = manifest.path.open("ab", buffering=0)
    for job, probe in (({"format": 2}, [0.0, 1.0]), ({"format": 1}, [0.0, 2.0])):
        with Manifest(tmp_path / "other", {"format": 1}, [0.0, 1.0]) as manifest:
            manifest.add(entries[0])
        with Manifest(tmp_path / "other", job, probe) as manifest:
            assert manifest.entries == {}


def test_errors_of_the_engine_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refuses("invalid-workers", "0"), ray_session(RayOptions(workers=0)):
        pass
    from fullconv.cluster.session import _count_workers

    with refuses("ray-cluster-too-small", "1"):
        _count_workers(RayOptions(), 1)
    assert [_count_workers(RayOptions(workers=number), 5) for number in (None, 2, 9)] == [4, 2, 4]
    arguments = ("street", tmp_path, "--out", tmp_path / "out")
    assert command_line.predict(monkeypatch, *arguments, "--workers", "2") == 2
    assert command_line.predict(monkeypatch, *arguments, "--engine", "ray", "--blocks", "1/2") == 2
    assert command_line.predict(monkeypatch, *arguments, "--engine", "ray") == 3
    assert command_line.predict(monkeypatch, "street", "https://127.0.0.1:9/a.png", "--out", tmp_path / "out") == 3


def test_a_worker_with_another_model_labels_nothing(tmp_path: Path) -> None:
    from fullconv.cluster.worker import Job, JobResult, Worker

    spec = make_spec(tmp_path / "out", probe=(0.0, 1.0))
    row = {"job": [Job(0, str(tmp_path / "a.png"), "a").to_row()["job"]]}
    result = JobResult.from_row({"result": Worker(spec, 1)(row)["result"][0]})
    assert result.error is not None
    assert matches("other-model-on-machine", result.error)


def test_the_command_starts_and_stops_ray_quietly(tmp_path: Path) -> None:
    """The terminal shows what fullconv prints, and no process is left."""
    Image.fromarray(picture(40, 50).astype(np.uint8)).save(tmp_path / "a.png")
    command = [sys.executable, "-m", "fullconv", "predict", "street", "a.png", "--engine", "ray", "--workers", "1"]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": paths}
    environment |= {"RAY_memory_monitor_refresh_ms": "0"}  # other tests may fill the memory
    with TemporaryDirectory(prefix="fc", dir="/tmp", ignore_cleanup_errors=True) as folder:
        environment |= {"RAY_TMPDIR": folder}  # Ray's sockets need a short path
        run = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert (run.returncode, run.stderr) == (0, ""), run.stderr
        assert run.stdout == f"1 of 1 images labelled in labelled{os.linesep}"
        wait_until(lambda: not any(_mentions(path, folder) for path in Path("/proc").glob("[0-9]*/cmdline")), folder)


def _mentions(path: Path, text: str) -> bool:
    try:
        return text.encode() in path.read_bytes()
    except OSError:
        return False


def test_ray_reports_nothing_to_its_makers(cluster: int) -> None:
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()


def test_no_cluster_at_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(*arguments: object, **named: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with refuses("no-ray-cluster", "auto"), ray_session(RayOptions("auto")):
        pass


def test_ray_that_stops_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.data

    from fullconv.cluster.engine import run_jobs
    from fullconv.cluster.worker import Job

    def stop(*arguments: object, **named: object) -> None:
        raise RuntimeError("the head node is gone")

    class Lost:
        def map_batches(self, *arguments: object, **named: object) -> Lost:
            return self

        iter_rows = stop

    monkeypatch.setattr(ray.data, "from_items", lambda *arguments, **named: Lost())
    with refuses("ray-stopped", "the head node is gone"):
        list(run_jobs(make_spec(Path("out")), [Job(0, "a", "a")], 1, 1, 1))


def test_options_that_do_not_fit_are_refused() -> None:
    from fullconv.cli.predicting.engine import refuse_ray_options

    with refuses("needs-ray"):
        refuse_ray_options("auto", None)
    refuse_ray_options(None, None)
    with pytest.raises(FullconvError) as refusal:
        command_line_predict("MODEL", "a.png", "--engine", "ray", "--verify", "--tile", "64")
    assert refusal.value.code == "not-with-ray"


def command_line_predict(*arguments: str) -> None:
    """Call the command so that its error is seen."""
    from fullconv.cli.app import app

    app(["predict", *arguments], standalone_mode=False)
