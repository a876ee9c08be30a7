"""VRT files: one raster of several files, by GDAL's XML format, without a copy of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from fullconv.arrays import UInt8
from fullconv.files import write_text
from fullconv.images.decoders.base import BLOCK

__all__ = ["VrtSource", "write_vrt"]


@dataclass(frozen=True)
class VrtSource:
    """A file with a block of the raster: its name relative to the VRT, and (top, left, height, width)."""

    name: str
    region: tuple[int, int, int, int]


def write_vrt(
    path: Path,
    size: tuple[int, int],
    sources: Sequence[VrtSource],
    palette: UInt8,
    nodata: int,
    crs: str = "",
    transform: Sequence[float] | None = None,
    points: Sequence[Sequence[float]] = (),
) -> None:
    """Write a label map of `size` (height, width) as a VRT of tiled GeoTIFFs, atomically.

    `palette` is 256 x 3 uint8. `crs` is WKT; `transform` has the six numbers of `Georeference.transform`, and `points`
    are (row, column, x, y, z). Raises FullconvError if the file cannot be written.
    """
    root = Element("VRTDataset", rasterXSize=str(size[1]), rasterYSize=str(size[0]))
    if points:
        listed = SubElement(root, "GCPList", Projection=crs)
        for number, (row, column, *position) in enumerate(points):
            x, y, z = map(repr, position)
            SubElement(listed, "GCP", Id=str(number), Pixel=repr(column), Line=repr(row), X=x, Y=y, Z=z)
    elif crs:
        SubElement(root, "SRS").text = crs
    if transform is not None and not points:
        a, b, c, d, e, f = map(repr, transform)
        SubElement(root, "GeoTransform").text = ", ".join((c, a, b, f, d, e))
    band = SubElement(root, "VRTRasterBand", dataType="Byte", band="1", blockXSize=str(BLOCK), blockYSize=str(BLOCK))
    SubElement(band, "NoDataValue").text = str(nodata)
    SubElement(band, "ColorInterp").text = "Palette"
    table = SubElement(band, "ColorTable")
    for index, (red, green, blue) in enumerate(palette.tolist()):
        alpha = "0" if index == nodata else "255"  # as GDAL reads the palette of a GeoTIFF
        SubElement(table, "Entry", c1=str(red), c2=str(green), c3=str(blue), c4=alpha)
    for source in sources:
        _add_source(band, source)
    indent(root)
    write_text(path, tostring(root, encoding="unicode") + "\n")


def _add_source(band: Element, source: VrtSource) -> None:
    top, left, height, width = map(str, source.region)
    element = SubElement(band, "SimpleSource")
    SubElement(element, "SourceFilename", relativeToVRT="1").text = source.name
    SubElement(element, "SourceBand").text = "1"
    block = str(BLOCK)
    SubElement(
        element,
        "SourceProperties",
        RasterXSize=width,
        RasterYSize=height,
        DataType="Byte",
        BlockXSize=block,
        BlockYSize=block,
    )
    SubElement(element, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
    SubElement(element, "DstRect", xOff=left, yOff=top, xSize=width, ySize=height)
