"""What a `Predictor` streams: folders, videos and cameras as images; and images written as a video, by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import cv2
import numpy as np

from posekit.data.images import VIDEOS, DataError, images_in

CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".avi": "MJPG", ".mkv": "MJPG"}
FPS = 25.0  # of a video whose source does not tell


def paths_of(source) -> list | None:
    """The images of a folder, or those that a pattern fits; None where the source is neither."""
    if not isinstance(source, str | os.PathLike):
        return None
    if os.path.isdir(source):
        return images_in(source)
    return None if os.path.exists(source) else sorted(glob(os.fspath(source))) or None


def is_video(source) -> bool:
    """A camera's number, or the path of a video by its suffix."""
    if isinstance(source, int | np.integer) and not isinstance(source, bool):
        return True
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in VIDEOS


def frames_of(images) -> Iterator:
    """The iterator over several images: of a folder, of a pattern such as "photos/*.jpg", of a video's path or a
    camera's number, or of any iterable.

    Raises:
        ValueError: one image, or nothing to iterate over. DataError: there is no such file.
    """
    if is_video(images):
        return iter(Video(images))
    if (paths := paths_of(images)) is not None:
        return iter(paths)
    if isinstance(images, str | os.PathLike):
        raise ValueError(f"stream takes several images, and '{images}' is one path: give [path]")
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise ValueError(f"stream takes several images, and this is one array {images.shape}: give [array]")
    try:
        return iter(images)
    except TypeError:
        kind = type(images).__name__
        raise ValueError(f"stream takes several images, a list or another iterable, not a {kind}") from None


class Video:
    """The frames (H, W, 3) uint8 RGB of a video file, or of the camera of this number, one after the other.

    `frames`: how many there are, as the file says; 0 = unknown. `fps`: frames per second. Iterating reads on from where
    it stopped; the file is closed at its end.

    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, source: str | os.PathLike | int) -> None:
        camera = not isinstance(source, str | os.PathLike)
        self.name = f"camera {source}" if camera else f"'{source}'"
        if not camera and not Path(source).is_file():
            raise DataError(f"there is no video {self.name}")
        self.capture = cv2.VideoCapture(int(source) if camera else str(source))
        if not self.capture.isOpened():
            reason = "none is there, or another program has it" if camera else "OpenCV knows no decoder for it"
            raise DataError(f"{self.name} cannot be opened: {reason}")
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or FPS
        self.frames = 0 if camera else max(int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[np.ndarray]:
        try:
            while (read := self.capture.read())[0]:
                yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        finally:
            self.capture.release()


class VideoWriter:
    """Writes frames (H, W, 3) uint8 RGB of one size; the suffix of the path decides the codec.

    Raises:
        ValueError: a suffix that is not written, or a frame of another size. DataError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike, fps: float = FPS) -> None:
        self.path, self.fps = Path(path), fps
        self.writer: cv2.VideoWriter | None = None
        if self.path.suffix.lower() not in CODECS:
            raise ValueError(f"videos are written as {', '.join(CODECS)}, not as '{self.path.name}'")

    def close(self) -> None:
        """Ends the file; without a frame there is none."""
        if self.writer is not None:
            self.writer.release()

    def write(self, frame: np.ndarray) -> None:
        """The next frame."""
        size = frame.shape[1::-1]
        if self.writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
            writer, self.size = cv2.VideoWriter(str(self.path), codec, self.fps, size), size
            if not writer.isOpened():
                raise DataError(f"'{self.path}' cannot be written: no room there, or OpenCV has no encoder for it")
            self.writer = writer
        if size != self.size:
            sizes = " and ".join(f"{width} x {height}" for width, height in (self.size, size))
            raise ValueError(f"the frames of a video have one size, and these have {sizes}")
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
