"""A model as an HTTP service: predictions, a page for photos, the Open Inference Protocol, Label Studio's backend."""

from __future__ import annotations

from fullconv.serve.app import make_service
from fullconv.serve.options import ServeOptions

__all__ = ["ServeOptions", "make_service"]
