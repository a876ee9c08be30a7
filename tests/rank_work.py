"""What the processes of `test_devices.py` do; without torch, so that they start fast."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

from fullconv.errors import DataError, FullconvError, Interrupted

RANK = int(os.environ.get("RANK", "0"))


def work(kind: str, on_progress: object) -> object:
    """Do the work of a kind; rank 0 then waits for ever, as in a collective of NCCL whose partner is gone."""
    logging.getLogger("fullconv.training").info("rank %d is here", RANK)
    if kind == "result":
        if on_progress is not None:
            on_progress(RANK)  # type: ignore[operator]
        return {"rank": RANK, "world": os.environ["WORLD_SIZE"]}
    if kind == "port":
        with socket.socket() as client:
            return client.connect_ex((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
    if kind in ("signal", "full disk"):
        signal.signal(signal.SIGTERM, _fill if kind == "full disk" and RANK == 0 else _stop)
        if on_progress is not None:
            on_progress("ready")  # type: ignore[operator]
    elif RANK == 1:
        _fail(kind)
    time.sleep(600)
    return None


def _fail(kind: str) -> None:
    if kind == "error":
        raise DataError("image 7 is damaged", code="truncated-file")
    if kind == "crash":
        raise ZeroDivisionError("a fault")
    if kind == "exit":
        print("the driver is too old", file=sys.stderr, flush=True)
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, kind))


def _stop(number: int, frame: object) -> None:
    raise Interrupted(
        "stopped by SIGTERM at step 0; everything is saved in here. Run the same command with --resume to continue.",
        code="stopped-by-signal",
    )


def _fill(number: int, frame: object) -> None:
    raise FullconvError("out/last.ckpt: cannot be written (No space left on device)", code="file-not-writable")


def main() -> None:
    """Start two processes that wait, and write their ids; then wait for them."""
    from fullconv.training.run.processes import run_in_processes
    from rank_work import wait  # by this name, the processes find it

    run_in_processes(wait, (sys.argv[1],), 2, None)


def wait(folder: str, on_progress: object) -> None:
    """Write the id of this process, and wait."""
    Path(folder, str(RANK)).write_text(str(os.getpid()))
    time.sleep(600)


if __name__ == "__main__":
    main()
