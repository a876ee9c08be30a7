"""The process that `OpenVinoProcess` starts: it reads images from standard input, and writes their logits."""

from __future__ import annotations

import os
import pickle
import sys

from fullconv.runtime.openvino import OpenVinoFile

__all__ = ["serve"]


def serve() -> None:
    """Read a file's path and then images from standard input; write logits, or errors, to standard output."""
    receiver, sender = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints does not get among the replies
    file: OpenVinoFile | None = None
    while True:
        try:
            message = pickle.load(receiver)
        except EOFError:
            return
        reply: object = None
        try:
            if file is None:
                file = OpenVinoFile.load(*message)
                reply = file.metadata
            else:
                reply = file.scores(message)
        except Exception as error:
            reply = error
        pickle.dump(reply, sender, pickle.HIGHEST_PROTOCOL)
        sender.flush()


if __name__ == "__main__":
    serve()
