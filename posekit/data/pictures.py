"""Reading one picture file, and saying in one sentence what is wrong with it.

Pictures come as the stored pixels: EXIF orientation is ignored, grey, palette, CMYK and 16-bit pictures
become 8-bit RGB.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


class DataError(ValueError):
    """A file of a data set cannot be used; the message is one sentence that names it."""


READ_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: Path | str, what: str = "picture") -> np.ndarray:
    """(H, W, 3) uint8 RGB. `what` names the picture in the error. Raises DataError: missing, truncated or
    unreadable."""
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{what}: there is no picture '{path}'") from None
    except OSError as error:
        raise DataError(f"{what}: '{path}' cannot be read: {error.strerror}") from None
    if is_truncated(raw):
        raise DataError(f"{what}: '{path}' is truncated ({len(raw)} bytes, no end marker); fetch it again")
    pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), READ_FLAGS) if raw else None
    if pixels is None:
        raise DataError(f"{what}: '{path}' is not a picture that OpenCV can decode ({len(raw)} bytes)")
    return pixels


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
        raise DataError(
            f"image {row['id']}: '{path}' is {width} x {height} pixels, but the annotations say "
            f"{row['width']} x {row['height']}"
        )


def quick_check(row: dict, path: Path | str) -> None:
    """Raise DataError if the file's header or end shows that it cannot be used; the pixels are not
    decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"image {row['id']}: '{path}' is not a picture: {error}") from None
    check_size(row, path, width, height)
    if is_truncated(Path(path).read_bytes()):
        raise DataError(f"image {row['id']}: '{path}' is truncated; fetch it again")
