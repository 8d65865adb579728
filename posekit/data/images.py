"""Images from files and from whatever people hand over -> (H, W, 3) uint8 RGB; one sentence for what is wrong.

A data set's images come as the stored pixels, because COCO annotated these; what a person hands over is turned
upright as its EXIF orientation says (TIFF decoders always do). Grey, palette, CMYK and 16-bit images become 8-bit
RGB, transparency is dropped. The header tells how large an image is, so that one that would not fit into memory is
refused before it is decoded.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

# Pixels that an image may have unless the reader allows more: 400 MB as 8-bit RGB
MAX_PIXELS = int(os.environ.get("POSEKIT_MAX_PIXELS", 2**27))
BYTES_PER_PIXEL = 8  # at most, of a file: four channels of 16 bits, not compressed
# What OpenCV decodes and Pillow names the size of
SUFFIXES = tuple(".jpg .jpeg .jpe .png .bmp .webp .tif .tiff .gif .jp2 .avif .pbm .pgm .ppm .pnm .ras .sr".split())
VIDEOS = tuple(".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv .flv .3gp .mts".split())
FRAMES = "use stream(frames), which takes a video's path, a camera's number or any iterable of frames"
WANTED = "an image is an array (H, W, 3) of uint8 RGB"
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright, 5 to 8 lie on their side


class DataError(ValueError):
    """A file of a data set cannot be used; the message is one sentence that names it."""


def read_image(path: Path | str, what: str = "image", upright: bool = False) -> np.ndarray:
    """(H, W, 3) uint8 RGB. `what` names the image in the error. `upright`: turned as the EXIF orientation says.

    Raises:
        DataError: missing, not a regular file, truncated, unreadable, or of more than `MAX_PIXELS` pixels.
    """
    raw = _read_file(path, what)
    header_size(raw, path, what)
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        reason = " ".join(str(getattr(error, "err", "") or "out of memory").split())
        raise DataError(f"{what}: '{path}' cannot be decoded: {reason}") from None
    if pixels is None:
        raise _not_an_image(raw, path, what)
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


def check_file(row: dict, path: Path | str) -> None:
    """Check by header and end alone that a file can be used and is as large as its COCO `images` row says.

    Raises:
        DataError: it is not.
    """
    what = f"image {row['id']}"
    check_size(row, path, *header_size(_read_file(path, what), path, what))


def check_size(row: dict, path: Path | str, width: int, height: int) -> None:
    """Raise DataError if the image is not as large as its COCO `images` row says."""
    wanted = row["width"], row["height"]
    if wanted == (width, height):
        return
    sentence = (
        f"image {row['id']}: '{path}' is {width} x {height} pixels, but the annotations say {wanted[0]} x {wanted[1]}"
    )
    orientation = 1
    with suppress(Exception), warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        orientation = image.getexif().get(ORIENTATION, 1)
    if wanted == (height, width) and orientation in range(5, 9):
        sentence += (
            f": its EXIF orientation {orientation} makes viewers show it turned, and COCO's annotations are of the "
            "stored pixels; store it upright (PIL.ImageOps.exif_transpose, then save), or annotate it as it is stored"
        )
    raise DataError(sentence)


def _read_file(path: Path | str, what: str) -> bytes:
    """The bytes of a regular file that does not end too early; a pipe or a device is not opened, it might never end."""
    label, limit = f"{what}: '{path}'", BYTES_PER_PIXEL * MAX_PIXELS
    try:
        found = os.stat(path)
        regular = stat.S_ISREG(found.st_mode)
        raw = Path(path).read_bytes() if regular and found.st_size <= limit else b""
    except FileNotFoundError:
        raise DataError(f"{what}: there is no image '{path}'") from None
    except OSError as error:
        raise DataError(f"{label} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{what}: {str(path)!r} is not a path: {error}") from None
    if not regular:
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise DataError(f"{label} is {kind}, not an image file")
    if found.st_size > limit:
        raise DataError(f"{label} has {found.st_size:,} bytes, {_too_large()}")
    if is_truncated(raw):
        raise DataError(f"{label} is truncated ({len(raw)} bytes, no end marker); fetch it again")
    return raw


def header_size(raw: bytes, path: Path | str, what: str = "image") -> tuple[int, int]:
    """(width, height) as the file's header states them, by Pillow (0.06 ms).

    Raises:
        DataError: not an image, or of more than `MAX_PIXELS`.
    """
    label = f"{what}: '{path}'"
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(raw)) as image:
            size = image.size
    except Image.DecompressionBombError as error:
        sentence = f"{label} is refused by Pillow ({str(error).split(',')[0]})"
        raise DataError(f"{sentence}; if it is no mistake, set PIL.Image.MAX_IMAGE_PIXELS higher") from None
    except Exception:  # whatever Pillow's readers stumble over in a broken header: struct.error, SyntaxError, ...
        raise _not_an_image(raw, path, what) from None
    return _check_limit(size, label)


def is_truncated(raw: bytes) -> bool:
    """Whether a JPEG or PNG ends before its end marker.

    Some decoders fill the missing rows of such a file with grey and say nothing. In a JPEG the end marker (EOI) must
    come after the last start of scan (SOS): an embedded thumbnail has an EOI of its own, but earlier.
    """
    if raw.startswith(b"\xff\xd8"):
        return not raw.endswith(b"\xff\xd9") and raw.rfind(b"\xff\xd9") < raw.rfind(b"\xff\xda")
    return raw.startswith(b"\x89PNG") and b"IEND" not in raw[-64:]


def _not_an_image(raw: bytes, path: Path | str, what: str) -> DataError:
    return DataError(f"{what}: '{path}' is not an image that OpenCV can decode ({len(raw)} bytes)")


def _check_limit(size: tuple[int, int], label: str) -> tuple[int, int]:
    if size[0] * size[1] > MAX_PIXELS:
        raise DataError(f"{label}: its header states {size[0]:,} x {size[1]:,} pixels, {_too_large()}")
    return size


def _too_large() -> str:
    return (
        f"more than an image of {MAX_PIXELS:,} pixels can have; if it is no mistake, set the environment variable "
        "POSEKIT_MAX_PIXELS, or posekit.data.images.MAX_PIXELS, higher"
    )


def as_array(image) -> np.ndarray:
    """A path, an array or a PIL image -> (H, W, 3) uint8 RGB.

    The EXIF orientation of files and PIL images is applied. Arrays: (H, W), (H, W, 1), (H, W, 3) or, the fourth channel
    dropped, (H, W, 4); RGB. uint16 stands for 16 bits; of other types but uint8 the largest value tells the scale:
    fractions up to 1 mean that 1 is white, numbers up to 255 are 8-bit values, up to 65,535 16-bit ones.

    Raises:
        ValueError: something else, or without pixels (`DataError`: a file or PIL image that cannot be read).
    """
    if isinstance(image, str | os.PathLike):
        _check_no_video(image)
        return read_image(image, upright=True)
    if isinstance(image, Image.Image):
        return _rgb(_pil_to_array(image))
    if image is None:
        raise ValueError("None was given in place of an image, as cameras and videos give where they have no frame")
    if not hasattr(image, "__array__") and not isinstance(image, list | tuple):
        what = "a generator" if isinstance(image, Iterator) else f"of type {type(image).__name__}"
        raise ValueError(f"an image is a path, an array or a PIL image, and this is {what}; for a video {FRAMES}")
    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{WANTED}, and a {type(image).__name__} does not become one: {_first_line(error)}") from None
    return _rgb(array)


def images_in(folder: str | os.PathLike) -> list[Path]:
    """The image files of a folder by name; a line is printed about what else is in it.

    Raises:
        DataError: there are none.
    """
    entries = sorted(Path(folder).iterdir())
    kept = [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file()]
    others = sorted({path.name for path in entries} - {path.name for path in kept})
    named = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    if not kept:
        holds = f"only {named}" if others else "nothing"
        raise DataError(f"the folder '{folder}' holds {holds}, no image: those read end in {' '.join(SUFFIXES)}")
    if others:
        name = Path(folder).resolve().name
        print(f"{name}: {len(kept)} images; {len(others)} entries are none by their suffix and left out: {named}")
    return kept


def _pil_to_array(image: Image.Image) -> np.ndarray:
    label = f"the PIL image '{getattr(image, 'filename', '') or image.mode}'"
    _check_limit(image.size, label)
    try:
        with warnings.catch_warnings(action="ignore"):
            image = ImageOps.exif_transpose(image)
            # Pillow's own conversion clips 16 bits at 255: white
            deep = image.mode in ("I", "F") or image.mode.startswith("I;")
            return np.asarray(image if deep else image.convert("RGB"))
    except Exception as error:  # whatever a broken file makes Pillow's decoders stumble over
        raise DataError(f"{label} cannot be decoded: {_first_line(error)}") from None


def _rgb(array: np.ndarray) -> np.ndarray:
    """Any array of an image -> (H, W, 3) uint8."""
    array = array[..., None] if array.ndim == 2 else array
    numbers = array.dtype.kind in "uif"
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not numbers:
        remedy = "; of several images give a list, list(array)" if array.ndim == 4 else ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4) and numbers:
            remedy = "; if its channels come first, give array.transpose(1, 2, 0)"
        raise ValueError(f"{WANTED}, not {array.shape} of {array.dtype}{remedy}")
    if not array.size:
        raise ValueError(f"{WANTED}, and this one, {array.shape}, has no pixels")
    array = _eight_bits(array[..., :3])
    return array if array.shape[2] == 3 else np.repeat(array, 3, 2)


def _eight_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)  # as OpenCV reads such files
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 65535):  # NaN too
        raise ValueError(
            f"{WANTED}, and the values of this one, {array.shape} of {array.dtype}, reach from {low} to {high}: bring "
            "them to 0 to 255"
        )
    if array.dtype.kind == "f" and high <= 1:
        array = array * 255
    elif high > 255:
        array = array // 256
    return np.rint(array).astype(np.uint8)


def _check_no_video(path: str | os.PathLike) -> None:
    if Path(path).suffix.lower() in VIDEOS:
        raise ValueError(f"'{path}' is a video and not an image: {FRAMES}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
