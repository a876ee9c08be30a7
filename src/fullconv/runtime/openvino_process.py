"""OpenVINO in a separate process, for a forked child, because the threads of OpenVINO do not survive a fork."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

from fullconv.arrays import Float32, UInt8
from fullconv.choices import Precision
from fullconv.errors import ModelError
from fullconv.installation import module_path
from fullconv.runtime.metadata import ModelMetadata

__all__ = ["OpenVinoProcess"]

SERVER = "fullconv.runtime.openvino_server"


class OpenVinoProcess:
    """A file on OpenVINO in a separate Python process, which ends with this one."""

    def __init__(self, path: Path, threads: int | None, precision: Precision | None) -> None:
        """Start the process, with this one's modules."""
        command = [sys.executable, "-P", "-m", SERVER]
        environment = {**os.environ, "PYTHONPATH": module_path()}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._lock = threading.Lock()
        self.metadata = cast(ModelMetadata, self._call((path, threads, precision)))

    def scores(self, images: UInt8) -> Float32:
        """Map N x H x W x C uint8 to logits; raise the errors of `OpenVinoFile.scores`."""
        return cast(Float32, self._call(images))

    def _call(self, message: object) -> object:
        sender, receiver = self._process.stdin, self._process.stdout
        assert sender is not None
        assert receiver is not None
        try:
            with self._lock:
                if receiver.closed:
                    raise EOFError
                try:
                    pickle.dump(message, sender, pickle.HIGHEST_PROTOCOL)
                    sender.flush()
                    reply: object = pickle.load(receiver)
                except BaseException:  # such as an interrupt: the next call would read the reply to this one
                    receiver.close()
                    self._process.kill()
                    raise
        except (OSError, EOFError) as error:
            raise ModelError("the process that runs OpenVINO ended", code="network-failed") from error
        if isinstance(reply, Exception):
            raise reply
        return reply
