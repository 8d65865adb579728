"""Reading one picture file, and saying in one sentence what is wrong with it.

A data set's pictures come as the stored pixels, because COCO annotated these; what a person hands over is turned
upright as its EXIF orientation says (TIFF decoders always do). Grey, palette, CMYK and 16-bit pictures become 8-bit
RGB, transparency is dropped. The header tells how large a picture is, so that one that would not fit into memory is
refused before it is decoded.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np

# Pixels that a picture may have unless the reader allows more: 400 MB as 8-bit RGB
MAX_PIXELS = int(os.environ.get("POSEKIT_MAX_PIXELS", 2**27))
BYTES_PER_PIXEL = 8  # at most, of a file: four channels of 16 bits, not compressed
# What OpenCV decodes and Pillow names the size of
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jp2", ".avif",
    ".pbm", ".pgm", ".ppm", ".pnm", ".ras", ".sr",
)  # fmt: skip

STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
UPRIGHT = cv2.IMREAD_COLOR_RGB
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright, 5 to 8 lie on their side


class DataError(ValueError):
    """A file of a data set cannot be used; the message is one sentence that names it."""


def read_image(path: Path | str, what: str = "picture", upright: bool = False) -> np.ndarray:
    """(H, W, 3) uint8 RGB. `what` names the picture in the error. `upright`: turned as the EXIF orientation says.

    Raises:
        DataError: missing, not a regular file, truncated, unreadable, or of more than `MAX_PIXELS` pixels.
    """
    raw = read_file(path, what)
    if is_truncated(raw):
        raise DataError(f"{what}: '{path}' is truncated ({len(raw)} bytes, no end marker); fetch it again")
    header_size(raw, path, what)
    try:
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), UPRIGHT if upright else STORED)
    except (cv2.error, MemoryError) as error:
        reason = " ".join(str(getattr(error, "err", "") or "out of memory").split())
        raise DataError(f"{what}: '{path}' cannot be decoded: {reason}") from None
    if pixels is None:
        raise DataError(f"{what}: '{path}' is not a picture that OpenCV can decode ({len(raw)} bytes)")
    return pixels


def read_or_skip(dataset, index: int) -> np.ndarray | None:
    """Image `index` of a data set; None, and counted there, if it cannot be read and the data set skips such images.

    Raises:
        DataError: it cannot be read, and the data set was opened with on_error="raise".
    """
    try:
        return dataset.image(index)
    except DataError as error:
        if getattr(dataset, "on_error", "raise") != "skip":
            raise
        dataset.skip(index, str(error))
        return None


def read_file(path: Path | str, what: str = "picture") -> bytes:
    """The bytes of a regular file; a pipe or a device is not opened, it might never end. Raises DataError."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
            raise DataError(f"{what}: '{path}' is {kind}, not a picture file")
        if found.st_size > BYTES_PER_PIXEL * MAX_PIXELS:
            raise DataError(f"{what}: '{path}' has {found.st_size:,} bytes, {too_large()}")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{what}: there is no picture '{path}'") from None
    except OSError as error:
        raise DataError(f"{what}: '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{what}: {str(path)!r} is not a path: {error}") from None


def header_size(raw: bytes, path: Path | str, what: str = "picture") -> tuple[int, int]:
    """(width, height) as the file's header states them; of a JPEG or PNG by its bytes (0.01 ms), else by Pillow.

    Raises:
        DataError: not a picture, without pixels, or of more than `MAX_PIXELS`.
    """
    if raw.startswith(b"\xff\xd8"):
        size = jpeg_size(raw)
    elif raw.startswith(b"\x89PNG\r\n\x1a\n") and raw[12:16] == b"IHDR" and len(raw) >= 24:
        size = struct.unpack_from(">II", raw, 16)
    else:
        size = _size_by_pillow(raw, path, what)
    if size is None:
        raise DataError(f"{what}: '{path}' is not a picture that OpenCV can decode ({len(raw)} bytes)")
    return check_limit(size, f"{what}: '{path}'")


def check_limit(size: tuple[int, int], label: str) -> tuple[int, int]:
    """The (width, height) that a header states, if a picture can be so large. Raises DataError."""
    if min(size) < 1:
        raise DataError(f"{label} has no pixels: its header states {size[0]} x {size[1]}")
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{label}: its header states {size[0]:,} x {size[1]:,} pixels, {too_large()}")
    return size


def too_large() -> str:
    return (
        f"more than a picture of {MAX_PIXELS:,} pixels can have; if it is no mistake, set the environment variable "
        "POSEKIT_MAX_PIXELS, or posekit.data.pictures.MAX_PIXELS, higher"
    )


def jpeg_size(raw: bytes) -> tuple[int, int] | None:
    """(width, height) in the start of frame (SOF) of a JPEG; None if there is none (ITU-T T.81, annex B)."""
    at = 2
    for _ in range(10_000):  # segments and fill bytes; real files have some dozens
        at = raw.find(b"\xff", at)
        if at < 0 or at + 9 > len(raw):
            return None
        marker = raw[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8 or not marker:  # without length
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", raw, at + 5)
            return width, height
        elif marker in (0xD9, 0xDA):
            return None
        else:
            at += 2 + struct.unpack_from(">H", raw, at + 2)[0]
    return None


def _size_by_pillow(raw: bytes, path: Path | str, what: str) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(raw)) as picture:
            return picture.size
    except Image.DecompressionBombError as error:
        sentence = f"{what}: '{path}' is refused by Pillow ({str(error).split(',')[0]})"
        raise DataError(f"{sentence}; if it is no mistake, set PIL.Image.MAX_IMAGE_PIXELS higher") from None
    except Exception:  # whatever Pillow's readers stumble over in a broken header: struct.error, SyntaxError, ...
        return None


def orientation(raw: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(raw)) as picture:
            found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # as above; it only explains an error
        return 1
    return found if found in range(1, 9) else 1


def is_truncated(raw: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end marker.

    Some decoders fill the missing rows of such a file with grey and say nothing. In a JPEG the end marker
    (EOI) must come after the last start of scan (SOS): an embedded thumbnail has an EOI of its own, but
    earlier.
    """
    if raw.startswith(b"\xff\xd8"):
        return not raw.endswith(b"\xff\xd9") and raw.rfind(b"\xff\xd9") < raw.rfind(b"\xff\xda")
    if raw.startswith(b"\x89PNG"):
        return b"IEND" not in raw[-64:]
    return False


def check_size(row: dict, path: Path | str, width: int, height: int) -> None:
    """Raise DataError if the picture is not as large as its COCO `images` row says."""
    if (width, height) != (row["width"], row["height"]):
        sentence = (
            f"image {row['id']}: '{path}' is {width} x {height} pixels, but the annotations say "
            f"{row['width']} x {row['height']}"
        )
        turned = (height, width) == (row["width"], row["height"])
        if turned and (how := orientation(read_file(path))) >= 5:
            sentence += (
                f": its EXIF orientation {how} makes viewers show it turned, and COCO's annotations are of the stored "
                "pixels; store it upright (PIL.ImageOps.exif_transpose, then save), or annotate it as it is stored"
            )
        raise DataError(sentence)


def quick_check(row: dict, path: Path | str) -> None:
    """Raise DataError if the file's header or end shows that it cannot be used; the pixels are not
    decoded."""
    what = f"image {row['id']}"
    raw = read_file(path, what)
    check_size(row, path, *header_size(raw, path, what))
    if is_truncated(raw):
        raise DataError(f"{what}: '{path}' is truncated; fetch it again")
