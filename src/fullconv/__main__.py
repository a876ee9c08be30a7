"""Run the command line as `python -m fullconv`."""

from __future__ import annotations

from fullconv.cli.app import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
