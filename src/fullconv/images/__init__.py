"""Files to arrays and back: one reader for every command.

The reader converts what cameras and annotation tools write (palettes, 1 to 16 bits, CMYK, EXIF orientation, many bands)
to plain arrays. For a file that cannot be read it raises DataError, whose message is one sentence: the file, the
problem and the remedy.
"""

from fullconv.images.decoders.headers import BAND_SUFFIXES, IMAGE_SUFFIXES, ImageHeader, image_size, read_header
from fullconv.images.decoders.open_pillow import MAX_PIXELS, open_with_pillow
from fullconv.images.input_format import RGB, InputFormat, ValueRange
from fullconv.images.label_map import open_label_map, read_label_map, stored_labels
from fullconv.images.reader import Picture, decoder_of, open_image, read_empty, read_image
from fullconv.images.write import overlay, rgb_view, write_image, write_label_map

__all__ = [
    "BAND_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "RGB",
    "ImageHeader",
    "InputFormat",
    "Picture",
    "ValueRange",
    "decoder_of",
    "image_size",
    "open_image",
    "open_label_map",
    "open_with_pillow",
    "overlay",
    "read_empty",
    "read_header",
    "read_image",
    "read_label_map",
    "rgb_view",
    "stored_labels",
    "write_image",
    "write_label_map",
]
