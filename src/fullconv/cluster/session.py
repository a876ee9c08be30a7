"""A connection to Ray: a cluster that runs already, or one of this machine that ends with the run."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fullconv.cores import usable_cores
from fullconv.errors import UsageError
from fullconv.extras import need

__all__ = ["RayOptions", "ray_session"]

log = logging.getLogger(__name__)

STORE = 128 * 2**20
"""Bytes of Ray's object store on this machine. Only small rows go through it, never pixels."""

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # offline means offline
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # lines on lost workers and the like, which Ray prints to stdout
}
"""Variables that are set before Ray is imported: no reports to its makers, and no log on the terminal."""


@dataclass(frozen=True)
class RayOptions:
    """The cluster, and the workers on it.

    `address` None starts Ray on this machine; "auto" or host:port is a cluster that runs. `workers` None is one for
    each core but one. `cores` is the number of cores and threads of a worker.
    """

    address: str | None = None
    workers: int | None = None
    cores: int = 1


@contextmanager
def ray_session(options: RayOptions) -> Iterator[int]:
    """Connect to Ray, and yield the number of workers; a cluster that was started here is stopped at the end.

    One core stays free for Ray itself, because a pool of workers on all cores can wait for ever.

    Raises UsageError for fewer than one worker, and if no cluster answers or it has less than two cores.
    """
    need("ray", "ray", "pyarrow")
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: use at least 1", code="invalid-workers")
    os.environ.update(QUIET)
    import ray

    started = not ray.is_initialized()
    if started:
        _start(options)
    try:
        _silence()
        yield _count_workers(options, int(ray.cluster_resources().get("CPU", 0)))
    finally:
        if started:
            ray.shutdown()


def _start(options: RayOptions) -> None:
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    workers = options.workers or max(1, usable_cores() - 1)
    local: dict[str, Any] = {"include_dashboard": False, "num_gpus": 0, "object_store_memory": STORE}
    local["num_cpus"] = workers * options.cores + 1
    settings = local if options.address is None else {}
    try:
        with _no_stderr():
            ray.init(options.address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **settings)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        address = options.address or "this machine"
        message = f"{address}: no Ray cluster ({reason}); start one with ray start --head, or leave --address out"
        raise UsageError(message, code="no-ray-cluster") from error
    finally:
        for number, handler in handlers.items():  # Ray replaces them, and the run would not stop cleanly
            if handler is not None:
                signal.signal(number, handler)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what Ray's C++ side writes to stderr while it starts; its errors are exceptions."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _count_workers(options: RayOptions, cores: int) -> int:
    """Return the number of workers for which the cluster has cores, with one core free."""
    most = (cores - 1) // options.cores
    if most < 1:
        message = f"the Ray cluster has {cores} cores, and a worker of {options.cores} and Ray need one more"
        raise UsageError(f"{message}; add a machine", code="ray-cluster-too-small")
    if options.workers is not None and options.workers > most:
        log.info("%d workers instead of %d: the cluster has %d cores, and one stays free", most, options.workers, cores)
    return min(options.workers or most, most)


def _silence() -> None:
    """Keep the log of Ray Data off the terminal; its files have it.

    Ray gives its logger the handlers of the root logger, too: those belong to the program, and stay as they are.
    """
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a worker that dies loses its rows, not the run
    context.execution_no_progress_timeout_s = -1  # a large image takes hours
    for handler in logging.getLogger("ray.data").handlers:
        is_stream = isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
        if is_stream and handler not in logging.getLogger().handlers:
            handler.setLevel(logging.CRITICAL)
