"""Whatever people hand over as an image -> (H, W, 3) uint8 RGB, upright: paths, arrays, PIL images, folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from posekit.data.pictures import SUFFIXES, DataError, check_limit, read_image

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts")
FRAMES = "hand its frames as RGB arrays to stream(frames), which takes any iterable and gives the poses one by one"
WANTED = "an image is an array (H, W, 3) of uint8 RGB"


def as_array(image) -> np.ndarray:
    """A path, an array or a PIL image -> (H, W, 3) uint8 RGB.

    The EXIF orientation of files and PIL images is applied. Arrays: (H, W), (H, W, 1), (H, W, 3) or, the fourth channel
    dropped, (H, W, 4); RGB, in the numbers that `eight_bits` knows.

    Raises:
        ValueError: something else, or without pixels (`DataError`: a file or PIL image that cannot be read).
    """
    if isinstance(image, str | os.PathLike):
        _no_video(image)
        return read_image(image, upright=True)
    from PIL import Image

    if isinstance(image, Image.Image):
        return _of_pil(image)
    if image is None:
        raise ValueError("None was given in place of an image, as cameras and videos give where they have no frame")
    if not hasattr(image, "__array__") and not isinstance(image, list | tuple):
        what = "a generator" if isinstance(image, Iterator) else f"of type {type(image).__name__}"
        raise ValueError(f"an image is a path, an array or a PIL image, and this is {what}; of a video {FRAMES}")
    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{WANTED}, and a {type(image).__name__} does not become one: {_line(error)}") from None
    return _of_array(array)


def frames_of(images: Iterable) -> Iterator:
    """The iterator over several images. Raises ValueError for one image and for a path, whose letters are no images."""
    if isinstance(images, str | os.PathLike):
        _no_video(images)
        raise ValueError(f"stream takes several images, and '{images}' is one path: give [path]")
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise ValueError(f"stream takes several images, and this is one array {images.shape}: give [array]")
    try:
        return iter(images)
    except TypeError:
        kind = type(images).__name__
        raise ValueError(f"stream takes several images, a list or another iterable, not a {kind}") from None


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


def _of_pil(image) -> np.ndarray:
    from PIL import ImageOps

    label = f"the PIL image '{getattr(image, 'filename', '') or image.mode}'"
    check_limit(image.size, label)
    try:
        with warnings.catch_warnings(action="ignore"):
            image = ImageOps.exif_transpose(image)
            # Pillow's own conversion clips 16 bits at 255: white
            deep = image.mode in ("I", "F") or image.mode.startswith("I;")
            array = np.asarray(image if deep else image.convert("RGB"))
    except Exception as error:  # whatever a broken file makes Pillow's decoders stumble over
        raise DataError(f"{label} cannot be decoded: {_line(error)}") from None
    return _of_array(array)


def _of_array(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.dtype.kind not in "uif":
        raise ValueError(f"{WANTED}, not {array.shape} of {array.dtype}{_remedy(array)}")
    if not array.size:
        raise ValueError(f"{WANTED}, and this one, {array.shape}, has no pixels")
    array = eight_bits(array[..., :3])
    return array if array.shape[2] == 3 else np.repeat(array, 3, 2)


def _remedy(array: np.ndarray) -> str:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.dtype.kind in "uif":
        return "; if its channels come first, give array.transpose(1, 2, 0)"
    return "; of several images give a list, list(array)" if array.ndim == 4 else ""


def eight_bits(array: np.ndarray) -> np.ndarray:
    """An array of grey or colour values -> uint8. uint16: the upper eight bits, as OpenCV reads such files.

    Of other types the largest value tells the scale: fractions up to 1 mean that 1 is white, numbers up to 255 are
    8-bit values, up to 65,535 16-bit ones.

    Raises:
        ValueError: negative, larger or not finite values.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
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


def _no_video(path: str | os.PathLike) -> None:
    if Path(path).suffix.lower() in VIDEOS:
        raise ValueError(f"'{path}' is a video and not an image: open it, with OpenCV for example, and {FRAMES}")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
