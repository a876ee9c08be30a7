"""Several processes train as one does: the same losses, weights and scores; and the failure of one ends all."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed import TCPStore

import rank_work
from children import child
from fullconv.cli.values import parse_devices
from fullconv.cores import is_main_process, is_started_by_others
from fullconv.data.dataset import DataSet
from fullconv.data.layouts import find_dataset
from fullconv.demo.digits import write_digit_dataset
from fullconv.errors import DataError, FullconvError
from fullconv.net.checkpoint import Saved, save_net
from fullconv.net.fcn.network import build
from fullconv.net.fcn.spec import NetSpec
from fullconv.training.checkpointing import load_state
from fullconv.training.data_module import DataModule
from fullconv.training.job import Hardware, Job, TrainingOptions, make_job
from fullconv.training.recipe import default_recipe, override
from fullconv.training.run.devices import count_devices, read_world, synchronize_norms
from fullconv.training.run.processes import run_in_processes
from fullconv.training.task import SegmentationTask
from fullconv.training.train import train
from refusals import refuses
from waiting import LIMIT, wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore::Warning:lightning"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # Python 3.12 and later warn of threads
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked"),
]

CLASSIFIER = '''
from torch import nn

def build():
    """Return a classifier without dropout and batch norm: the parts of a batch do not influence each other."""
    layers = []
    for before, after in ((3, 8), (8, 16), (16, 16), (16, 16), (16, 16)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 49, 32), nn.ReLU(), nn.Linear(32, 10))
'''
TINY = {"epochs": 2, "batch_size": 4, "crop": 64, "bf16": False, "ema": 0.9, "lr": 1e-2}
CPU = Hardware(accelerator="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return find_dataset(write_digit_dataset(tmp_path_factory.mktemp("data") / "digits", train=7, val=3, size=(64, 80)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> NetSpec:
    """A network without dropout and batch norm."""
    path = tmp_path_factory.mktemp("net") / "plain.py"
    path.write_text(CLASSIFIER)
    return NetSpec(f"{path}:build", 11, stride=8, norm=False)


def job(spec: NetSpec, **values: object) -> Job:
    return Job(spec, override(default_recipe(), {**TINY, **values}), hardware=CPU)


def fork_ranks(count: int, work: Callable[[int], object]) -> list[int]:
    """Run `work(rank)` in forks that have the variables of torchrun; return their exit codes."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # it holds its port
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
                os.environ |= {name: str(value) for name, value in values.items()}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
                os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True"}
                work(rank)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    deadline, codes = time.monotonic() + LIMIT, {}
    while len(codes) < count and time.monotonic() < deadline:
        for child in set(children) - set(codes):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    for child in set(children) - set(codes):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return [codes.get(child, -9) for child in children]


def train_in(count: int, data: DataSet, job: Job, out: Path, resume: bool = False) -> Path:
    assert fork_ranks(count, lambda rank: train(data, job, out, resume=resume)) == [0] * count
    return out


def metrics(run: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return [{name: float(value) for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same(one: Path, other: Path, rtol: float = 2e-4, atol: float = 2e-6) -> None:
    """Compare losses and weights. Sums of floats depend on their order, so they differ in the last digits."""
    for first, second in zip(metrics(one), metrics(other), strict=True):
        assert first == pytest.approx(second, rel=1e-5)
    first, second = (load_file(run / "last.safetensors") for run in (one, other))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def alone(data: DataSet, plain: NetSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "alone"
    train(data, job(plain), out)
    return out


def test_two_processes_have_losses_and_weights_of_one(
    data: DataSet, plain: NetSpec, alone: Path, tmp_path: Path
) -> None:
    """Without dropout and batch norm; the shares of labelled pixels differ from step to step."""
    assert_same(train_in(2, data, job(plain), tmp_path / "two"), alone)
    assert (tmp_path / "two" / "scores.json").is_file()


def test_odd_batches_and_sums_of_pixels_are_divided_exactly(data: DataSet, plain: NetSpec, tmp_path: Path) -> None:
    """Three processes share batches of five crops, of seven images; the loss of the second run is a sum."""
    for name, values in (("mean", {}), ("sum", {"normalized": False, "lr": 1e-6})):
        odd = job(plain, batch_size=5, class_weight_power=0.5, **values)
        train(data, odd, tmp_path / name)
        assert_same(train_in(3, data, odd, tmp_path / f"{name}-3"), tmp_path / name)


def test_the_teacher_counts_by_the_crops_of_each_process(data: DataSet, plain: NetSpec, tmp_path: Path) -> None:
    """Two processes share batches of three crops, as one and two."""
    net = _untrained(NetSpec("digits", 11, stride=16))
    save_net(tmp_path / "teacher.safetensors", net.state_dict(), Saved(net.spec, data.labels, {}))
    odd = replace(job(plain, batch_size=3, distill=0.9, epochs=1), teacher=tmp_path / "teacher.safetensors")
    train(data, odd, tmp_path / "one")
    assert_same(train_in(2, data, odd, tmp_path / "two"), tmp_path / "one")


def test_validation_counts_each_image_once_in_any_number_of_processes(data: DataSet, tmp_path: Path) -> None:
    """The confusion matrices of 1, 2 and 5 processes are equal, integer by integer; two of the five have no image."""
    spec, step = NetSpec("digits", 11, stride=8), SegmentationTask.validation_step
    counted = []
    for count in (1, 2, 5):
        folder = tmp_path / str(count)
        folder.mkdir()

        def validate(rank: int, folder: Path = folder, count: int = count) -> None:
            torch.manual_seed(0)
            task = SegmentationTask(_untrained(spec), default_recipe(), data.labels, torch.ones(11), 1).eval()
            for batch in DataModule(data, default_recipe(), rank=rank, processes=count).images():
                step(task, batch)
            np.save(folder / f"{rank}.npy", task.confusion.numpy())

        assert fork_ranks(count, validate) == [0] * count
        counted.append(sum(np.load(path) for path in folder.iterdir()))
    assert counted[0].sum() == sum((data.read(sample)[1] != 255).sum() for sample in data.split("val"))
    assert all((other == counted[0]).all() for other in counted[1:])


def _untrained(spec: NetSpec) -> torch.nn.Module:
    net = build(spec)
    for name, module in net.named_modules():
        if name.startswith("score_"):
            torch.nn.init.normal_(module.weight)
    return net


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2)])
def test_a_run_resumes_with_another_number_of_processes(
    data: DataSet,
    plain: NetSpec,
    alone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: int,
    second: int,
) -> None:
    """A signal to the last process stops all at the same step."""
    count, out = SegmentationTask.finish_step, tmp_path / "run"

    def send(task: SegmentationTask) -> None:
        count(task)
        if task.step == 3 and os.environ["RANK"] == str(first - 1):
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(rank: int) -> None:
        with refuses("stopped-by-signal", "step 3"):
            train(data, job(plain), out)

    monkeypatch.setattr(SegmentationTask, "finish_step", send)
    assert fork_ranks(first, stop) == [0] * first
    monkeypatch.undo()
    assert load_state(out / "last.ckpt")[0].step == 3
    assert_same(train_in(second, data, job(plain), out, resume=True), alone)


def test_batch_norms_of_all_processes_stay_equal_and_resuming_is_exact(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = NetSpec("digits", 11, stride=8)
    whole = train_in(2, data, job(spec), tmp_path / "whole")
    count, out = SegmentationTask.finish_step, tmp_path / "run"

    def send(task: SegmentationTask) -> None:
        count(task)
        torch.save(task.net.state_dict(), tmp_path / f"{os.environ['RANK']}.pt")
        if task.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SegmentationTask, "finish_step", send)
    assert fork_ranks(2, lambda rank: train(data, job(spec), out)) == [1, 1]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert any(name.endswith("running_var") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)
    monkeypatch.undo()
    assert_same(train_in(2, data, job(spec), out, resume=True), whole, rtol=0, atol=0)


def test_batch_norms_for_gpus_are_synchronized_with_the_same_weights() -> None:
    """Only the exchange of the modules is tested: torch's own have no kernel for the CPU."""
    net = build(NetSpec("digits", 11, stride=8))
    before, norms = dict(net.named_parameters()), sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    synchronize_norms(SimpleNamespace(world_size=2, device=torch.device("cuda")), net)  # type: ignore[arg-type]
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in net.modules()) == norms > 0
    assert all(net.get_parameter(name) is value for name, value in before.items())


def test_more_processes_than_images_train_and_smaller_batches_are_refused(
    data: DataSet, plain: NetSpec, tmp_path: Path
) -> None:
    few = replace(data, splits={"train": data.split("train")[:1], "val": data.split("val")[:1]})
    train_in(3, few, job(plain, batch_size=3, epochs=1), tmp_path / "few")
    assert len(metrics(tmp_path / "few")) == 1

    def refused(rank: int) -> None:
        with refuses("batch-too-small", "a batch of 1 cannot be divided over 2 processes"):
            train(few, job(plain, batch_size=1), tmp_path / "refused")

    assert fork_ranks(2, refused) == [0, 0]


def test_a_loss_that_is_not_finite_names_the_batch_of_all_processes(
    data: DataSet, plain: NetSpec, tmp_path: Path
) -> None:
    def refused(rank: int) -> None:
        with refuses("loss-not-finite") as refusal:
            train(data, job(plain, lr=1e30, clip=0.0, epochs=4, warmup=0.0, power=0.0), tmp_path / "run")
        assert refusal.message.count(",") >= 3

    assert fork_ranks(2, refused) == [0, 0]


def test_a_process_that_is_left_alone_says_so(data: DataSet, plain: NetSpec, tmp_path: Path) -> None:
    """This is so with torchrun and SLURM, where fullconv has not started the processes."""

    def leave(rank: int) -> None:
        if rank == 1:
            SegmentationTask.finish_step = lambda task: os._exit(9)  # type: ignore[method-assign]
        with refuses("process-lost", "rank 0 lost the connection"):
            train(data, job(plain), tmp_path / "run")

    assert fork_ranks(2, leave) == [0, 9]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "gpu-memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "too-little-memory"),
    ],
)
def test_too_little_memory_is_one_sentence(
    data: DataSet, plain: NetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(SegmentationTask, "training_step", fail)
    with refuses(code, "too little memory for 4 crops at a time"):
        train(data, job(plain), tmp_path / "run")


def test_options_of_devices_are_checked() -> None:
    with refuses("too-few-devices"):
        TrainingOptions(devices=0).check()
    with refuses("unknown-option-value", "fp8"):
        TrainingOptions(precision="fp8").check()  # type: ignore[arg-type]
    with refuses("nodes-need-launcher", "torchrun"):
        count_devices(Hardware(nodes=2))
    assert count_devices(Hardware("auto", accelerator="cpu")) == 1
    if not torch.cuda.is_available():
        with refuses("no-such-device", "--accelerator cuda"):
            count_devices(Hardware(accelerator="cuda"))


def test_numbers_of_processes_come_from_torchrun_or_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables, expected in (
        ({"LOCAL_RANK": "1", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (2, 2)),
        ({"SLURM_NTASKS": "6", "SLURM_NNODES": "3", "SLURM_PROCID": "4"}, (2, 3)),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert is_started_by_others()
            assert not is_main_process()
            assert read_world() == expected
    monkeypatch.setenv("SLURM_NTASKS", "5")
    monkeypatch.setenv("SLURM_NNODES", "2")
    with refuses("uneven-processes", "5 processes on 2 machines"):
        read_world()
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert is_main_process()
    assert not is_started_by_others()


def test_the_number_of_devices_is_a_number_or_auto() -> None:
    assert [parse_devices(text) for text in ("auto", "3")] == ["auto", 3]
    with refuses("invalid-devices", "--devices -1"):
        parse_devices("-1")


def test_precisions_are_values_of_the_recipe(data: DataSet, tmp_path: Path) -> None:
    values = [TrainingOptions(precision=name).make_recipe() for name in ("auto", "bf16", "fp16", "fp32")]
    assert [(recipe.bf16, recipe.fp16) for recipe in values] == [
        (None, False), (True, False), (False, True), (False, False),
    ]  # fmt: skip
    half = make_job(data, TrainingOptions("digits", precision="fp16", accelerator="cpu", by_data=False))
    with refuses("fp16-needs-gpu"):
        train(data, half, tmp_path / "run")


def run_work(kind: str, reports: list[object] | None = None) -> object:
    return run_in_processes(rank_work.work, (kind,), 2, None if reports is None else reports.append)  # type: ignore[arg-type]


def test_the_first_process_reports_and_its_result_is_returned(caplog: pytest.LogCaptureFixture) -> None:
    reports: list[object] = []
    caplog.set_level("INFO", "fullconv")
    assert run_work("result", reports) == {"rank": 0, "world": "2"}
    assert reports == [0]
    assert caplog.messages == ["rank 0 is here"]


def test_the_port_of_the_processes_is_taken_before_they_start() -> None:
    assert run_work("port") == 0


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("crash", "process-failed", "failed: ZeroDivisionError: a fault"),
        ("exit", "process-failed", "ended with exit code 7: the driver is too old"),
        ("SIGKILL", "process-killed", "was ended by SIGKILL, as the system does when memory runs out"),
        ("SIGSEGV", "process-killed", "was ended by SIGSEGV"),
    ],
)
def test_a_process_that_fails_ends_all_with_its_rank_and_cause(kind: str, code: str, text: str) -> None:
    with refuses(code, "rank 1 (process ", text):  # the other rank would run for an hour
        run_work(kind)


def test_an_error_of_any_process_stays_what_it_is_and_names_the_rank() -> None:
    with pytest.raises(DataError) as caught:
        run_work("error")
    assert str(caught.value) == "image 7 is damaged"
    assert caught.value.code == "truncated-file"
    assert caught.value.__notes__[0].startswith("This was in rank 1 (process ")


def test_a_signal_reaches_all_processes() -> None:
    with refuses("stopped-by-signal", "everything is saved"):
        run_in_processes(rank_work.work, ("signal",), 2, lambda _: os.kill(os.getpid(), signal.SIGTERM))


def test_a_signal_on_a_full_disk_is_not_reported_as_saved() -> None:
    with pytest.raises(FullconvError, match="No space left") as caught:
        run_in_processes(rank_work.work, ("full disk",), 2, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert caught.value.code == "file-not-writable"


def test_no_process_stays_if_the_first_one_is_killed(tmp_path: Path) -> None:
    with child(rank_work.__file__, tmp_path, env=_environment()) as parent:
        ranks = [int(wait_for(tmp_path / str(rank)).read_text()) for rank in (0, 1)]
        parent.kill()
        parent.wait()
        wait_until(lambda: not any(is_running(rank) for rank in ranks))


def test_the_command_trains_in_two_processes_and_names_the_one_that_is_killed(
    data: DataSet, plain: NetSpec, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    values = [f"--set={name}={value}" for name, value in {**TINY, "save_minutes": 0.0, "epochs": 5000}.items()]
    command = ["-m", "fullconv", "train", str(data.root), f"--model={plain.model}", "--weights=none"]
    command += [*values, f"--out={out}", "--devices=2", "--accelerator=cpu"]
    with child(*command, env=_environment()) as process:
        process.wait_for((out / "last.ckpt").exists)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ranks = {read_variable(int(number), "RANK"): int(number) for number in children}
        os.kill(ranks["1"], signal.SIGKILL)
        output, errors = process.finish()
        wait_until(lambda: not any(is_running(rank) for rank in ranks.values()))
    assert process.returncode == 1
    assert output == ""
    assert f"fullconv: rank 1 (process {ranks['1']}) was ended by SIGKILL" in errors
    assert "processes  2; each batch of 4 is divided, 2 for each" in errors
    assert "Traceback" not in errors
    assert load_state(out / "last.ckpt")[0].step > 0


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def read_variable(process: int, name: str) -> str:
    entries = Path(f"/proc/{process}/environ").read_text().split("\0")
    return dict(entry.partition("=")[::2] for entry in entries)[name]  # type: ignore[misc]


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(path: Path) -> Path:
    wait_until(lambda: path.is_file() and path.stat().st_size > 0, str(path))
    return path
