"""Settings that all tests share."""

from __future__ import annotations

import torch
from hypothesis import settings

# One thread everywhere: sums do not depend on the machine, and a child process can repeat them bit by bit.
torch.set_num_threads(1)

settings.register_profile("fullconv", deadline=None, print_blob=True)
settings.load_profile("fullconv")

pytest_plugins = ["voc_tree", "geotiffs"]
