"""Run the command line, as `fullconv` and as `python -m fullconv`."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

_NOISY = ("rasterio", "tifffile", "PIL")
"""Libraries whose log messages would be printed without a handler; their errors are exceptions, too."""


def main() -> None:
    """Start the command line, which imports other packages, and end without a traceback if a signal comes meanwhile."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _quit)
    import logging
    import warnings

    if not sys.warnoptions and "--debug" not in sys.argv:
        warnings.simplefilter("ignore")
    for name in _NOISY:
        logging.getLogger(name).addHandler(logging.NullHandler())
    from fullconv.cli.app import main as run

    run()


def _quit(number: int, frame: FrameType | None) -> None:
    os._exit(130)  # an exception inside of an import would be reported as a fault of that package


if __name__ == "__main__":
    main()
