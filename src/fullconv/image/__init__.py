"""Images and label maps on disk: what is read is checked, what is written appears whole or not at all.

Reading turns what cameras and annotation tools write (palettes, 1 to 16 bits, CMYK, EXIF orientation) into
plain arrays. A file that cannot be read is a `DataError` of one sentence: which, what was found, what to do.
"""

from fullconv.image.label_map import read_label_map, stored_labels, write_label_map
from fullconv.image.opened import (
    MAX_PIXELS,
    damaged,
    image_header,
    image_size,
    loaded_upright,
    nodata_of,
    opened_image,
    told_of,
)
from fullconv.image.rgb import IMAGE_SUFFIXES, eight_bits, overlay, read_image, rgb_of, write_image

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "damaged",
    "eight_bits",
    "image_header",
    "image_size",
    "loaded_upright",
    "nodata_of",
    "opened_image",
    "overlay",
    "read_image",
    "read_label_map",
    "rgb_of",
    "stored_labels",
    "told_of",
    "write_image",
    "write_label_map",
]
