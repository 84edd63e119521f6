"""Image files of every kind, from one small picture."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

_RNG = np.random.default_rng(0)
WITH_ALPHA = Image.fromarray(
    _RNG.integers(0, 256, (6, 7, 4), np.uint8), "RGBA"
).resize((33, 26))
COLOUR = WITH_ALPHA.convert("RGB")
DEEP = np.full((8, 8), 3136, np.uint16)  # White in 12 bits.


def encoded(image, kind, **options):
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def on_white(content):
    """What Pillow reads, transparent pixels composited on white."""
    with Image.open(io.BytesIO(content)) as image:
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def jpegs():
    """JPEG files by name."""
    found = {
        "mpo": encoded(
            COLOUR, "MPO", save_all=True, append_images=[COLOUR.rotate(90)]
        )
    }
    for mode in ("RGB", "L", "CMYK"):
        for progressive in (False, True):
            name = f"jpeg {mode}" + " progressive" * progressive
            image = COLOUR.convert(mode)
            found[name] = encoded(image, "JPEG", progressive=progressive)
    found["jpeg restarts"] = encoded(COLOUR, "JPEG", restart_marker_blocks=2)
    return found


def pngs():
    """PNG files by name."""
    found = {
        f"png {mode}": encoded(WITH_ALPHA.convert(mode), "PNG")
        for mode in ("RGB", "L", "P", "1", "RGBA", "LA")
    }
    found["png interlaced"] = cv2.imencode(".png", np.array(COLOUR))[
        1
    ].tobytes()
    palette = COLOUR.quantize(16)
    found["png transparent colour"] = encoded(palette, "PNG", transparency=3)
    shades = bytes(range(0, 160, 10))
    found["png shades of a colour"] = encoded(
        palette, "PNG", transparency=shades
    )
    grey = COLOUR.convert("L")
    found["png transparent grey"] = encoded(
        grey, "PNG", transparency=grey.getpixel((0, 0))
    )
    for depth in (1, 2, 4):
        row = b"\0" + b"\x1b" * depth
        found[f"png grey of {depth} bits"] = png(depth, 0, row * 3, (8, 3))
    return found


def png(depth, colour, rows, size):
    """A PNG from its raw rows, each with its filter byte."""

    def chunk(kind, content):
        body = kind + content
        length, check = len(content), zlib.crc32(body)
        return struct.pack(">I", length) + body + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def others():
    """Files of the other formats that are read, by name."""
    found = {
        "gif": encoded(COLOUR, "GIF"),
        "gif of frames": encoded(
            COLOUR, "GIF", save_all=True, append_images=[COLOUR.rotate(90)]
        ),
        "gif transparent": encoded(COLOUR.quantize(16), "GIF", transparency=3),
        "webp": encoded(COLOUR, "WEBP"),
        "webp transparent": encoded(WITH_ALPHA, "WEBP", lossless=True),
        "tiff packed": encoded(WITH_ALPHA, "TIFF", compression="tiff_lzw"),
    }
    for mode in ("RGB", "L", "P", "1"):
        found[f"bmp {mode}"] = encoded(COLOUR.convert(mode), "BMP")
    for mode in ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK"):
        found[f"tiff {mode}"] = encoded(WITH_ALPHA.convert(mode), "TIFF")
    return found


def accepted():
    """All of them."""
    return jpegs() | pngs() | others()


def refused():
    """Files by name, each with what its error says."""
    whole = jpegs()["jpeg RGB"]
    packed = pngs()["png RGB"]
    deep_colour = np.repeat(DEEP[..., np.newaxis], 3, axis=-1)
    # The precision stands four bytes behind the frame's marker.
    frame = whole.index(b"\xff\xc0")
    twelve = whole[: frame + 4] + b"\x0c" + whole[frame + 5 :]
    clear = bytearray(pngs()["png transparent colour"])
    clear[clear.index(b"tRNS") + 5] ^= 1
    return {
        "png of other transparency": (bytes(clear), "tRNS"),
        "png of 16 bits": (encoded(Image.fromarray(DEEP), "PNG"), "16 bits"),
        "png of 16 bits colour": (
            cv2.imencode(".png", deep_colour)[1].tobytes(),
            "16 bits",
        ),
        "tiff of 16 bits": (encoded(Image.fromarray(DEEP), "TIFF"), "16 bits"),
        "tiff of 16 bits colour": (
            cv2.imencode(".tiff", deep_colour)[1].tobytes(),
            "16 bits",
        ),
        "tiff of floats": (
            encoded(Image.fromarray(DEEP / np.float32(3136)), "TIFF"),
            "not unsigned integers",
        ),
        "jpeg of 12 bits": (twelve, "12 bits"),
        "jpeg cut": (whole[: len(whole) * 2 // 3], "cut off"),
        "jpeg without its end": (whole[:-2], "cut off"),
        "jpeg cut and filled": (whole[:-300] + b"\0" * 400, "cut off"),
        "jpeg of no pixels": (
            b"\xff\xd8\xff no image \xff\xd9",
            "cannot be read",
        ),
        "png cut": (packed[:-300], "cut off"),
        "png without its end": (packed[:-4], "cut off"),
        "png of other pixels": (
            packed[:60] + b"\0\1" + packed[62:],
            "cannot decode",
        ),
        "gif cut": (encoded(COLOUR, "GIF")[:-300], "truncated"),
        "bmp cut": (encoded(COLOUR, "BMP")[:-300], "truncated"),
        "tiff cut": (encoded(COLOUR, "TIFF")[:-300], "truncated"),
        "webp cut": (encoded(COLOUR, "WEBP")[:-100], "OSError"),
        "ppm": (encoded(COLOUR, "PPM"), "none of the formats"),
        "text": (b"no image", "none of the formats"),
        "empty": (b"", "empty"),
        "huge png": (png(8, 0, b"\0", (1 << 14, 1 << 13)), "pixels or more"),
    }
