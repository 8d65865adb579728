"""The fields of COCO's JSON that scoring reads, as typed records: msgspec skips all others (outlines) unread.

Format: cocodataset.org, "Data format" and "Results format". A file that does not fit these types is not wrong
for that reason: `posekit.data.coco_json` then reads it row by row.
"""

from __future__ import annotations

from typing import Any

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

__all__ = ["DecodeError", "decode_ground_truth", "decode_rows"]


class Row(Struct, gc=False):
    """One detection."""

    image_id: int | str
    category_id: int
    keypoints: list[float]
    score: float
    bbox: list[float] | None = None
    segmentation: Any = None


class Annotation(Struct, gc=False):
    """One annotated person or crowd region."""

    id: int
    image_id: int | str
    category_id: int
    keypoints: list[float]
    area: float | None = None
    bbox: list[float] | None = None
    iscrowd: int = 0
    num_keypoints: int | None = None


class Image(Struct, gc=False):
    id: int | str
    crowdIndex: float | None = None


class Category(Struct):
    id: int
    name: str = ""
    keypoints: list[str] = []


class GroundTruth(Struct):
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category] = []


decode_rows = Decoder(list[Row]).decode
decode_ground_truth = Decoder(GroundTruth).decode
