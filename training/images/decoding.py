"""The decoder and the rules for image files, for all heads.

The content of a file decides, not its suffix:

- Accepted are JPEG (grey, colour, CMYK, baseline and progressive; an MPO, as
  phones write it, is read as the JPEG it begins with), PNG (grey, colour,
  palette), and GIF, BMP, WebP and TIFF, with at most 8 bits per channel. Of
  several frames or pages the first one is used. Bytes after the end of a JPEG
  or PNG are ignored.
- The EXIF orientation is not applied.
- Transparent pixels are composited on white; `read` returns their number.
- Rejected with the name and the reason are more than 8 bits per channel,
  floating-point pixels, truncated or damaged files, `MAX_PIXELS` pixels or
  more, and all other formats.

TensorFlow decodes JPEG and PNG, with the DCT of Pillow and OpenCV, so that all
three give the same pixels of a whole image. For a crop, only a part of a JPEG
is decoded. If its colour is subsampled, that is interpolated without what lies
outside, so the outermost 4 pixels of the crop can differ from Pillow's. Pillow
decodes the other formats. A JPEG has no checksum: if its compressed pixels are
damaged, libjpeg still decodes something, and so does this module.
"""

import functools
import io
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from evonorm_tf import files
from training.images import errors

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
_BY_PILLOW = FORMATS[2:]
# TensorFlow decodes a PNG with an alpha channel up to this size.
MAX_PIXELS = 2**27

_ADVICE = "Fix or remove it."
_JPEG = (b"\xff\xd8\xff", b"\xff\xd9")  # First and last bytes.
_PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")
# A marker, not a byte of compressed pixels or a restart marker. Some markers
# have no length, and some begin a frame.
_JPEG_NEXT = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_JPEG_BARE = {0x01, 0xD8}
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_END = 0xD9
# The beginning of a PNG's header, and the positions of its bit depth and its
# end, which is followed by length and kind of the next chunk.
_PNG_BEGIN, _PNG_DEPTH, _PNG_HEADER = b"\0\0\0\rIHDR", 24, 33
_TIFF_BITS, _TIFF_SAMPLES = 258, 339  # Tags; samples are 1 for unsigned.
_EXIF_ORIENTATION = 274  # A tag.
_WHITE = 255
_DEEP = (
    "its pixels have {} bits per channel, which 8 would not hold; convert it "
    "to 8 bits"
)
_LARGE = f"it has {MAX_PIXELS:,} pixels or more; scale it down"
_CUT = "it is cut off; copy it again"

Choose = Callable[[tf.Tensor], tf.Tensor]
_as_written = tf.autograph.experimental.do_not_convert


class Picture(NamedTuple):
    """A decoded image file.

    Attributes:
      pixels: [H, W, 3], uint8, RGB.
      format: one of `FORMATS`, whatever the file's suffix.
      transparent: number of transparent pixels, composited on white.
    """

    pixels: np.ndarray
    format: str
    transparent: int


def read(encoded: bytes, name: str, advice: str = _ADVICE) -> Picture:
    """Decodes an image file.

    Args:
      encoded: the file's content.
      name: name of the file in errors.
      advice: how to fix it, for errors.

    Raises:
      ValueError: if the file is rejected by the rules above.
    """
    standard, kind = standardize(encoded, name, advice)
    try:
        if kind == "JPEG":
            return Picture(_jpeg(standard, _full).numpy(), kind, 0)
        pixels, opaque = _png_with_alpha(standard)
        hidden = int(tf.reduce_sum(tf.cast(pixels[..., 3] != opaque, tf.int32)))
        return Picture(_composite(pixels, opaque).numpy(), kind, hidden)
    except tf.errors.OpError as error:
        reason = f"TensorFlow cannot decode it ({errors.cause(error)})"
        raise ValueError(_refusal(encoded, name, reason, advice)) from error


def orientation(encoded: bytes) -> int:
    """Returns the EXIF orientation of a file, 1 to 8; 1 if it has none.

    It is not applied to the pixels.

    Args:
      encoded: the file's content.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            found = image.getexif().get(_EXIF_ORIENTATION)
    # Pillow raises these for damaged metadata, which no decoder reads.
    except (OSError, SyntaxError, ValueError, struct.error):
        return 1
    return found if found in range(1, 9) else 1


def load(path: str, name: str = "") -> bytes:
    """Returns the content of an image file.

    Args:
      path: the file.
      name: its name in errors; by default its path.

    Raises:
      ValueError: if the file does not exist or cannot be opened.
    """
    try:
        return files.read(path)
    except OSError as error:
        raise ValueError(
            f"An image cannot be read: {error.strerror or error}. {_ADVICE} "
            f"Received: {name or path}"
        ) from error


def standardize(
    encoded: bytes, name: str, advice: str = _ADVICE
) -> tuple[bytes, str]:
    """Converts a file to a JPEG or PNG for TensorFlow; returns its format too.

    A JPEG or PNG is returned unchanged, without the bytes after its end; other
    formats are converted to a PNG with the same pixels. The compressed pixels
    of a JPEG or PNG are not decoded.

    Args:
      encoded: the file's content.
      name: name of the file in errors.
      advice: how to fix it, for errors.

    Raises:
      ValueError: if the file is rejected by the rules above.
    """
    try:
        if encoded.startswith(_JPEG[0]):
            return _whole_jpeg(encoded), "JPEG"
        if encoded.startswith(_PNG[0]):
            return _whole_png(encoded), "PNG"
        return _as_png(encoded)
    except _Refused as error:
        text = _refusal(encoded, name, str(error), advice)
        raise ValueError(text) from error


def window(
    encoded: tf.Tensor, name: tf.Tensor, choose: Choose, advice: str = _ADVICE
) -> tf.Tensor:
    """Decodes a part of an image, in a graph or eagerly.

    Args:
      encoded: a scalar string, the file's content.
      name: a scalar string, name of the file in errors.
      choose: maps the image's shape [3] to top, left, height and width [4].
      advice: how to fix it, for errors.

    Returns:
      [height, width, 3], uint8.

    Raises:
      tf.errors.InvalidArgumentError: if the rules above reject the file.
    """

    def standard() -> tf.Tensor:
        result, problem = tf.numpy_function(
            functools.partial(_standardize, advice),
            [encoded, name],
            (tf.string, tf.string),
        )
        with tf.control_dependencies(_require(problem == "", problem)):
            return tf.ensure_shape(result, [])

    def refuse(_: tf.Tensor) -> tf.Tensor:
        problem = tf.numpy_function(
            functools.partial(_problem, advice), [encoded, name], tf.string
        )
        with tf.control_dependencies(_require(False, problem)):
            return tf.zeros([0, 0, 3], tf.uint8)

    content = tf.cond(_is_plain(encoded), lambda: encoded, standard)
    # TensorFlow's errors do not name the file. An inner dataset skips the
    # element if decoding fails; then the next one is evaluated, which names
    # it. This costs a few percent of the decoding, and no Python.
    decoded = (
        tf.data.Dataset.from_tensors(content)
        .map(_as_written(lambda one: _native(one, choose)))
        .ignore_errors()
    )
    otherwise = tf.data.Dataset.from_tensors(0).map(_as_written(refuse))
    return decoded.concatenate(otherwise).take(1).get_single_element()


def full_image(
    encoded: tf.Tensor, name: tf.Tensor, advice: str = _ADVICE
) -> tf.Tensor:
    """Decodes the whole image [H, W, 3], uint8; otherwise like `window`."""
    return window(encoded, name, _full, advice)


def exportable(encoded: tf.Tensor, choose: Choose | None = None) -> tf.Tensor:
    """Like `window`, for JPEG and PNG only, in operations for export.

    Args:
      encoded: a scalar string, the file's content.
      choose: as in `window`; None for the whole image.
    """
    return _native(encoded, choose or _full)


class _Refused(Exception):
    """The reason why a file is rejected."""


def _refusal(encoded: bytes, name: str, reason: str, advice: str) -> str:
    return (
        f"{name} cannot be read as an image: {reason}. {advice} Received: "
        f"{len(encoded)} bytes, the first {encoded[:8]!r}"
    )


@_as_written
def _standardize(advice: str, *given: Any) -> tuple[bytes, str]:
    """Returns the standard form of a file, or an error text, in its place.

    A graph would include the whole traceback of an exception in its message.
    """
    encoded, name = _python(given)
    try:
        return standardize(encoded, name, advice)[0], ""
    except ValueError as error:
        return b"", str(error)


@_as_written
def _problem(advice: str, *given: Any) -> str:
    """Returns why a file is rejected that TensorFlow did not decode."""
    encoded, name = _python(given)
    try:
        read(encoded, name, advice)
    except ValueError as error:
        return str(error)
    # The whole image can be decoded, so the part is invalid.
    return _refusal(encoded, name, "it has no such part", advice)


def _python(given: Any) -> tuple[bytes, str]:
    # NumPy functions receive bytes in a graph and arrays in eager mode.
    encoded, name = (np.asarray(value, object).item() for value in given)
    return encoded, name.decode(errors="replace")


def _full(shape: tf.Tensor) -> tf.Tensor:
    return tf.concat([[0, 0], shape[:2]], axis=0)


def _is_plain(encoded: tf.Tensor) -> tf.Tensor:
    """Returns whether TensorFlow treats a file as `standardize` does.

    It begins and ends as a JPEG or PNG, and a PNG has at most 8 bits per
    channel and no chunk between its header and its pixels.
    """

    def part(place: tf.Tensor, length: int) -> tf.Tensor:
        inside = tf.clip_by_value(place, 0, size)
        return tf.strings.substr(encoded, inside, length)

    def within(begin: bytes, end: bytes) -> tf.Tensor:
        last = part(size - len(end), len(end))
        return (part(0, len(begin)) == begin) & (last == end)

    size = tf.strings.length(encoded)
    bare = part(_PNG_HEADER + 4, 4) == b"IDAT"
    shallow = part(_PNG_DEPTH, 1) != b"\x10"
    is_png = within(_PNG[0] + _PNG_BEGIN, _PNG[1]) & bare & shallow
    return within(*_JPEG) | is_png


def _native(encoded: tf.Tensor, choose: Choose) -> tf.Tensor:
    """Decodes a JPEG or PNG with TensorFlow's own operations."""
    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG[0])) == _JPEG[0]
    return tf.cond(
        is_jpeg, lambda: _jpeg(encoded, choose), lambda: _png(encoded, choose)
    )


def _jpeg(encoded: tf.Tensor, choose: Choose) -> tf.Tensor:
    shape = tf.image.extract_jpeg_shape(encoded)
    with tf.control_dependencies(_require_size(shape[:2])):
        part = choose(tf.identity(shape))
    return tf.image.decode_and_crop_jpeg(
        encoded, part, channels=3, dct_method="INTEGER_ACCURATE"
    )


def _png(encoded: tf.Tensor, choose: Choose) -> tf.Tensor:
    pixels, opaque = _png_with_alpha(encoded)
    top, left, height, width = tf.unstack(choose(tf.shape(pixels)))
    part = pixels[top : top + height, left : left + width]
    return _composite(part, opaque)


def _png_with_alpha(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns [H, W, 4], uint8, and the alpha of an opaque pixel.

    For a PNG without alpha, TensorFlow inserts the largest value of its bit
    depth, 15 for 4 bits. An image with this alpha everywhere is opaque.
    """
    size = tf.io.decode_raw(
        tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False
    )
    depth = tf.strings.substr(encoded, _PNG_DEPTH, 1)
    depth = tf.cast(tf.io.decode_raw(depth, tf.uint8)[0], tf.int32)
    checks = _require_size(size) + _require(depth <= 8, _DEEP.format(16))
    with tf.control_dependencies(checks):
        pixels = tf.io.decode_png(tf.identity(encoded), channels=4)
    filler = tf.cast(tf.bitwise.left_shift(1, depth) - 1, tf.uint8)
    everywhere = tf.reduce_all(pixels[..., 3] == filler)
    return pixels, tf.where(everywhere, filler, tf.constant(255, tf.uint8))


def _require_size(size: tf.Tensor) -> list[tf.Operation]:
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    return _require(pixels < MAX_PIXELS, _LARGE)


def _require(condition: Any, text: Any) -> list[tf.Operation]:
    """Asserts; returns control dependencies, or none in eager mode."""
    made = tf.debugging.Assert(condition, [text])
    return [] if made is None else [made]


def _composite(pixels: tf.Tensor, opaque: tf.Tensor) -> tf.Tensor:
    """Composites [H, W, 4], uint8, on white: [H, W, 3]."""
    colours, alpha = pixels[..., :3], pixels[..., 3:]

    def blend() -> tf.Tensor:
        share = tf.cast(alpha, tf.int32)
        mixed = tf.cast(colours, tf.int32) * share + _WHITE * (255 - share)
        return tf.cast((mixed + 127) // 255, tf.uint8)

    return tf.cond(tf.reduce_all(alpha == opaque), lambda: colours, blend)


def _whole_jpeg(encoded: bytes) -> bytes:
    """Returns a JPEG without the bytes after its end."""
    at, end = 2, len(encoded) if encoded.endswith(_JPEG[1]) else 0
    # Like libjpeg, this skips bytes between two segments.
    while found := _JPEG_NEXT.search(encoded, at):
        at, marker = found.end(), encoded[found.end() - 1]
        if marker == _JPEG_END:
            end = end or at
            break
        if marker in _JPEG_BARE:
            continue
        if marker in _JPEG_FRAMES and encoded[at + 2 : at + 3] > b"\x08":
            raise _Refused(_DEEP.format(encoded[at + 2]))
        at += _number(encoded[at : at + 2])
    if not end:
        raise _Refused(_CUT)
    return encoded[:end]


def _whole_png(encoded: bytes) -> bytes:
    """Returns a PNG without the bytes after its end."""
    header = encoded[len(_PNG[0]) : _PNG_HEADER]
    if len(header) < _PNG_HEADER - len(_PNG[0]):
        raise _Refused(_CUT)
    if not header.startswith(_PNG_BEGIN):
        raise _Refused("its PNG header is damaged")
    if encoded[_PNG_DEPTH] > 8:
        raise _Refused(_DEEP.format(encoded[_PNG_DEPTH]))
    at, pixels = len(_PNG[0]), False
    while at + 12 <= len(encoded):
        length, kind = _number(encoded[at : at + 4]), encoded[at + 4 : at + 8]
        body = encoded[at + 4 : at + 8 + length]
        at += 12 + length
        pixels = pixels or kind == b"IDAT"
        if pixels and encoded.endswith(_PNG[1]):
            return encoded
        if at > len(encoded):
            break
        if kind == b"IEND":
            return encoded[:at]
        # libpng only warns about a damaged transparency chunk.
        if not pixels and zlib.crc32(body) != _number(encoded[at - 4 : at]):
            raise _Refused(f"its PNG chunk {kind!r} is damaged")
    raise _Refused(_CUT)


def _number(big_endian: bytes) -> int:
    return int.from_bytes(big_endian, "big")


def _as_png(encoded: bytes) -> tuple[bytes, str]:
    """Returns a file of another format as PNG, and that format."""
    if not encoded:
        raise _Refused("it is empty")
    try:
        with Image.open(io.BytesIO(encoded), formats=_BY_PILLOW) as image:
            _check(image)
            kind = image.format
            mode = "RGBA" if image.has_transparency_data else "RGB"
            output = io.BytesIO()
            image.convert(mode).save(output, "PNG", compress_level=0)
    except UnidentifiedImageError as error:
        formats = ", ".join(FORMATS)
        raise _Refused(f"it has none of the formats {formats}") from error
    except _Refused:
        raise
    # Pillow's readers raise various exceptions for damaged content.
    except Exception as error:
        raise _Refused(f"{type(error).__name__}: {error}") from error
    return output.getvalue(), kind


def _check(image: Image.Image) -> None:
    """Rejects images that Pillow opens but would silently change."""
    if image.width * image.height >= MAX_PIXELS:
        raise _Refused(_LARGE)
    tags = getattr(image, "tag_v2", {})
    bits = max(tags.get(_TIFF_BITS, (8,)), default=8)
    if image.mode.startswith("F") or set(tags.get(_TIFF_SAMPLES, (1,))) - {1}:
        raise _Refused(
            "its pixels are not unsigned integers; convert them to 8 bits"
        )
    if image.mode.startswith("I") or bits > 8:
        raise _Refused(_DEEP.format(bits if bits > 8 else "more than 8"))
