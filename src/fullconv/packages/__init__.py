"""Exported networks in the forms that other programs run: Deepness for QGIS, bioimage.io, and a page in the browser."""

from fullconv.packages.written import Written

__all__ = ["Written"]
