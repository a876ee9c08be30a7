"""The frames of video files, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fullconv.errors import DataError, MissingExtra

__all__ = ["VIDEO_SUFFIXES", "is_video", "need_video", "video_frames"]

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
"""Suffixes, in lower case, of the files that are read frame by frame."""


def is_video(path: Path) -> bool:
    """Whether a file's suffix is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def need_video() -> None:
    """MissingExtra where PyAV is not installed."""
    if find_spec("av") is None:
        raise MissingExtra("av", "video")


def video_frames(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Each frame of the first video stream as H x W x 3 uint8 RGB, upright, in the order of presentation.

    Raises MissingExtra without PyAV, and DataError for what is no video, and at the frame at which a damaged one ends.
    """
    need_video()
    import av

    count = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: no pictures in it; name a video", code="not-a-video")
            for frame in container.decode(container.streams.video[0]):
                rgb = frame.to_ndarray(format="rgb24")
                yield np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))
                count += 1
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or error
        message = f"{path}: cannot be read after frame {count} ({reason}); convert it to MP4 again"
        raise DataError(message, code="truncated-file") from error
    if count == 0:
        raise DataError(f"{path}: a video without frames; export it again", code="empty-file")
