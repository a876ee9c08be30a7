"""The devices of a training: Lightning Fabric with a strategy, a precision, and batch norm that suits them."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import nn

from fullconv.cores import is_main_process, is_started_by_others
from fullconv.errors import FullconvError, UsageError, is_out_of_memory
from fullconv.net.fcn.network import FCN
from fullconv.training.job import Hardware
from fullconv.training.plan import has_bf16
from fullconv.training.recipe import Recipe
from fullconv.training.task import sum_over_processes

for _name in ("lightning.fabric", "lightning.pytorch"):  # they report what the plan says
    logging.getLogger(_name).setLevel(logging.ERROR)

__all__ = [
    "autocast_type",
    "average_statistics",
    "check_batch",
    "count_devices",
    "explain_failures",
    "main_process_first",
    "make_fabric",
    "read_world",
    "synchronize_norms",
]

PRECISION: Mapping[torch.dtype | None, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    None: "32-true", torch.bfloat16: "bf16-mixed", torch.float16: "16-mixed",
}  # fmt: skip
"""Fabric's names of the types of autocast."""

LOST = ("gloo", "NCCL", "Connection", "connection")
"""Words in the errors of torch when another process is gone."""


def _find_accelerator(hardware: Hardware) -> str:
    """Return cpu, cuda or mps. Raises UsageError if the machine has no such device."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if hardware.accelerator == "auto":
        return "cuda" if here["cuda"] else "cpu"
    if not here[hardware.accelerator]:
        message = f"--accelerator {hardware.accelerator}: torch finds no such device here; leave the option out"
        raise UsageError(message, code="no-such-device")
    return hardware.accelerator


def count_devices(hardware: Hardware) -> int:
    """Return the number of processes to start on this machine. Raises UsageError if it has fewer devices.

    Also raises UsageError for several machines, whose processes are started by torchrun or SLURM.
    """
    if hardware.nodes > 1:
        message = f"--nodes {hardware.nodes}: start it on all machines with torchrun or srun (docs/training.md)"
        raise UsageError(message, code="nodes-need-launcher")
    kind = _find_accelerator(hardware)
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind)
    if hardware.devices == "auto":
        return available or 1
    if available is not None and hardware.devices > available:
        message = f"--devices {hardware.devices}: this machine has {available} of {kind}"
        raise UsageError(message, code="no-such-device")
    return hardware.devices


def make_fabric(hardware: Hardware, recipe: Recipe) -> Fabric:
    """Return Fabric for this process: alone, or as one of those that fullconv, torchrun or SLURM started.

    The process group is ready when this returns. Raises UsageError if a batch has fewer crops than there are processes,
    or if the device has no such precision.
    """
    kind = _find_accelerator(hardware)
    low = autocast_type(recipe, torch.device(kind))
    precision = PRECISION[low]
    if not is_started_by_others():
        return Fabric(accelerator=kind, devices=1, precision=precision)
    devices, nodes = read_world()
    check_batch(recipe, devices * nodes)
    environment = None if "SLURM_NTASKS" in os.environ and "LOCAL_RANK" not in os.environ else LightningEnvironment()
    warnings.filterwarnings("ignore", module="lightning")
    strategy = DDPStrategy(cluster_environment=environment, broadcast_buffers=False)
    fabric = Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def check_batch(recipe: Recipe, processes: int) -> None:
    """Raise UsageError if a batch has fewer crops than there are processes."""
    if recipe.batch_size < processes:
        message = f"a batch of {recipe.batch_size} cannot be divided over {processes} processes; set --batch"
        raise UsageError(message, code="batch-too-small")


@contextmanager
def explain_failures(fabric: Fabric, recipe: Recipe) -> Iterator[None]:
    """Raise FullconvError for a device without enough memory, and for a process that another one has left alone."""
    try:
        yield
    except RuntimeError as error:
        share = -(-recipe.batch_size // fabric.world_size)
        crops = f"{share} crop{'s' * (share > 1)} at a time"
        if isinstance(error, torch.OutOfMemoryError) or (is_out_of_memory(error) and fabric.device.type != "cpu"):
            remedy = "use a smaller --batch or --crop, --precision bf16, or more --devices"
            message = f"{fabric.device} has too little memory for {crops}; {remedy}"
            raise FullconvError(message, code="gpu-memory") from error
        if is_out_of_memory(error):
            message = f"this computer has too little memory for {crops}; use a smaller --batch or --crop"
            raise FullconvError(message, code="too-little-memory") from error
        if fabric.world_size == 1 or not any(word in str(error) for word in LOST):
            raise
        message = f"rank {fabric.global_rank} lost the connection to another process; see the messages of the others"
        raise FullconvError(message, code="process-lost") from error


@contextmanager
def main_process_first() -> Iterator[None]:
    """Let the main process run the block before the others."""
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()):
        yield
        return
    patient: Any = group.new_group(backend="gloo", timeout=timedelta(days=30))  # scoring may take hours
    if not is_main_process():
        group.barrier(patient)
    yield
    if is_main_process():
        group.barrier(patient)


def read_world() -> tuple[int, int]:
    """Return the number of processes on each machine and the number of machines, from torchrun's or SLURM's variables.

    Raises UsageError if the machines have different numbers of processes.
    """
    if "LOCAL_RANK" in os.environ:
        total = int(os.environ.get("WORLD_SIZE") or 1)
        local = int(os.environ.get("LOCAL_WORLD_SIZE") or total)
        nodes = total // local
    else:
        total, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES") or 1)
        local = total // nodes
    if local * nodes != total:
        message = f"{total} processes on {nodes} machines: start the same number on each"
        raise UsageError(message, code="uneven-processes")
    return local, nodes


def autocast_type(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the type of autocast, or None for float32. Raises UsageError for fp16 without a GPU."""
    if recipe.fp16:
        if device.type == "cpu":
            raise UsageError("fp16 needs a GPU; on a CPU, use --precision bf16 or fp32", code="fp16-needs-gpu")
        return torch.float16
    return torch.bfloat16 if has_bf16(recipe, device) else None


def synchronize_norms(fabric: Fabric, net: FCN) -> None:
    """Let batch norms use the whole batch of all processes. torch can do so on GPUs only; see `average_statistics`."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        from timm.layers.norm_act import convert_sync_batchnorm

        for name, child in list(net.named_children()):
            setattr(net, name, convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]


def average_statistics(fabric: Fabric, net: nn.Module) -> None:
    """Set running means and variances of batch norms to their mean over the processes, so that all have the same.

    On GPUs they are synchronized anyway.
    """
    if fabric.world_size == 1 or fabric.device.type == "cuda":
        return
    buffers = [buffer for name, buffer in net.named_buffers() if name.endswith(("running_mean", "running_var"))]
    if buffers:
        joined = torch.cat([buffer.flatten() for buffer in buffers])
        joined = sum_over_processes(fabric, joined) / fabric.world_size
        for buffer, mean in zip(buffers, torch.split(joined, [buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(mean.view_as(buffer))
