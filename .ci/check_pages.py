"""Check the types in the scripts of the pages with TypeScript's compiler, if node is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TYPESCRIPT = "typescript@5.9.3"
ROOT = Path(__file__).parent.parent
QUICK = {"npm_config_fetch_retries": "1", "npm_config_fetch_timeout": "30000", "npm_config_update_notifier": "false"}


def main() -> int:
    """Return the exit code of the check; 0 with a line that says so where it cannot be made."""
    npx = shutil.which("npx")
    if npx is None:
        print("node is not installed, so the scripts of the pages are not checked")
        return 0
    compiler = [npx, "--yes", "--package", TYPESCRIPT, "tsc"]
    environment = {**os.environ, **QUICK}
    # Whether the compiler is there is asked first, so that a failure below is one of the check itself.
    got = subprocess.run([*compiler, "--version"], env=environment, capture_output=True, text=True, check=False)
    if got.returncode:
        print(f"{TYPESCRIPT} cannot be downloaded, so the scripts of the pages are not checked")
        return 0
    return subprocess.run([*compiler, "--project", "jsconfig.json"], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
