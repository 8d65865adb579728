"""What `posekit predict` writes: images and videos with skeletons, a COCO file, a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posekit.data.video import FPS, VideoWriter
from posekit.draw import VISIBLE, draw
from posekit.files import write_bytes, write_json
from posekit.layouts import layout_of
from posekit.poses import Poses


class Saver:
    """Takes the poses of one image after the other and writes what it was asked for.

    Args:
        images: folder of the images with skeletons; video: path of a video of them, with `fps` frames per second.
        coco: path of a file in COCO's format: the images, and a person per annotation, with its score. csv: path of a
            table with a row per joint. results: path of COCO result rows, as scorers and COCO's server take them;
            images are numbered by the numbers that their files are called. These three are written by `close`, also of
            a run that was interrupted.
        threshold: people with a lower score are in the results alone.
    """

    def __init__(
        self,
        images: str | Path | None = None,
        video: str | Path | None = None,
        coco: str | Path | None = None,
        csv: str | Path | None = None,
        results: str | Path | None = None,
        fps: float = FPS,
        threshold: float = 0.3,
    ) -> None:
        paths = (path and Path(path) for path in (images, coco, csv, results))
        self.folder, self.coco, self.csv, self.results = paths
        self.video, self.threshold = VideoWriter(video, fps) if video else None, threshold
        self.images: list[dict] = []
        self.people: list[dict] = []
        self.tables: list = []
        self.rows: list[dict] = []
        self.layout = layout_of(0)

    def add(self, poses: Poses) -> None:
        """The poses of the next image, which they must know (`Poses.source`)."""
        number = len(self.images)
        name = Path(poses.source.name).name or f"{number:06d}.jpg"
        if self.results:
            self.rows += poses.to_coco(image_id_of(name))
        poses = poses.select(poses.scores >= self.threshold)
        pixels = poses.source.read() if self.folder or self.video or self.coco else None
        if self.folder or self.video:
            shown = draw(pixels, poses, threshold=self.threshold)
            if self.folder:
                write_image((self.folder / name).with_suffix(".jpg"), shown)
            if self.video:
                self.video.write(shown)
        size = {} if pixels is None else {"width": pixels.shape[1], "height": pixels.shape[0]}
        self.images.append({"id": number, "file_name": name, **size})
        self.layout = poses.layout or layout_of(poses.keypoints.shape[1])
        if self.coco:
            self.people += [
                row | {"id": len(self.people) + i} for i, row in enumerate(annotations_of(poses, number), 1)
            ]
        if self.csv:
            self.tables.append(poses.to_frame().assign(image=name))

    def close(self) -> list[Path]:
        """Writes the files of all images; returns everything that was written."""
        if self.video:
            self.video.close()
        if self.coco:
            category = {"id": 1, "name": "person", "keypoints": self.layout.keypoints}
            category["skeleton"] = [[a + 1, b + 1] for a, b in self.layout.limbs]
            content = {"images": self.images, "annotations": self.people, "categories": [category]}
            write_json(self.coco, content, indent=None)
        if self.csv and self.tables:
            import pandas as pd

            text = pd.concat(self.tables).to_csv(index=False, lineterminator="\n")
            write_bytes(self.csv, text.encode())
        if self.results:
            write_json(self.results, self.rows, indent=None)
        video = self.video and self.video.path
        return [path for path in (self.folder, video, self.coco, self.csv, self.results) if path]


def image_id_of(name: str) -> int:
    """The number that an image's file is called, as COCO's are: 000000000139.jpg -> 139.

    Raises:
        ValueError: another name.
    """
    stem = Path(name).stem
    if not (stem.isascii() and stem.isdecimal()):
        raise ValueError(
            f"COCO results name images by their numbers, and {name} is called by none (as 000000000139.jpg is): "
            "rename it, or write a file in COCO's format with --json"
        )
    return int(stem)


def annotations_of(poses: Poses, image_id: int) -> list[dict]:
    """People as COCO annotations with a score: joints the model calls visible have flag 2, others 1."""
    rows, flags = poses.to_coco(image_id), np.where(poses.visibility >= VISIBLE, 2, 1)
    for row, flag, (x0, y0, x1, y1) in zip(rows, flags.tolist(), poses.boxes.astype(float).tolist(), strict=True):
        row["keypoints"][2::3] = flag
        row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
        row["num_keypoints"] = len(flag)
    return rows


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Pixels (H, W, 3) uint8 RGB as an image file of the path's suffix."""
    import cv2

    write_bytes(path, cv2.imencode(path.suffix, pixels[..., ::-1])[1].tobytes())
