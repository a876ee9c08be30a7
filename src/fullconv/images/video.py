"""Reading of the frames of video files, through PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fullconv.arrays import UInt8
from fullconv.errors import DataError, MissingExtra
from fullconv.faults import Fault
from fullconv.images.decoders.open_pillow import check_file

__all__ = ["VIDEO_SUFFIXES", "check_video_support", "is_video", "read_frames"]

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
"""Suffixes, in lower case, of the files that are read frame by frame."""


def is_video(path: Path) -> bool:
    """Return whether a file is a video, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def check_video_support() -> None:
    """Raise MissingExtra if PyAV is not installed."""
    if find_spec("av") is None:
        raise MissingExtra("av", "video")


def read_frames(path: Path) -> Iterator[UInt8]:
    """Yield each frame of the first video stream as H x W x 3 uint8 RGB, upright, in the order of presentation.

    Raises MissingExtra if PyAV is not installed, and DataError if the file is not a video, if it has no frames, or when
    the damaged part of a video is reached.
    """
    check_video_support()
    import av

    check_file(path)
    url, local_only = f"file:{os.path.abspath(path)}", {"protocol_whitelist": "file"}
    count = 0
    try:
        with av.open(url, options=local_only, metadata_errors="replace") as container:
            if not container.streams.video:
                message = f"{path}: has no video stream; give a video file"
                raise DataError(message, code="not-a-video")
            for frame in container.decode(container.streams.video[0]):
                rgb = frame.to_ndarray(format="rgb24")
                yield np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))
                count += 1
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or error
        problem = f"cannot be read after frame {count} ({reason})"
        raise DataError.of(Fault("truncated-file", path, problem, "convert it to MP4 again")) from error
    if count == 0:
        raise DataError.of(Fault("empty-file", path, "the video has no frames", "export it again"))
