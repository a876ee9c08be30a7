"""The limits of a service, with their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from fullconv.errors import UsageError

__all__ = ["MAX_LOGITS", "ServeOptions"]

MAX_LOGITS = 2**28
"""Maximum of classes times pixels of an image whose probabilities are asked for: one GiB of logits."""


@dataclass(frozen=True)
class ServeOptions:
    """What a service accepts at most.

    Attributes:
        workers: Predictions at a time. Two are the fastest: one image is decoded or written while the network, which
            uses all cores, computes the other (benchmarks/serving.py).
        queue: Images that wait for a worker; further ones are refused with 429.
        uploads: Requests whose body is arriving.
        timeout: Seconds from the complete request to its answer; 504 after that.
        max_bytes: Bytes of a request.
        max_pixels: Pixels of an image, by its header.
    """

    workers: int = 2
    queue: int = 16
    uploads: int = 64
    timeout: float = 60.0
    max_bytes: int = 2**26
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        for name in ("workers", "queue", "timeout", "max_bytes", "max_pixels"):
            value = getattr(self, name)
            if not value > 0:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} is {value:g}; it must be above 0", code="limit-not-positive")
