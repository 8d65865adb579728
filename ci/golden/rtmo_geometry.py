"""RTMO's geometry: letterbox, the random map of the mosaic, crops turned about a point, and where mosaics paste.

The published matrices act on pixel indices, ours on COCO's frame; the formulas are the same, so the numbers are
compared as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from golden.report import Report
from posekit.data import transforms
from posekit.data.augment import Augment
from posekit.data.mosaic import paste

ATOL = 1e-3  # px; the reference solves for its matrices in float32


def geometry(file: Path, report: Report) -> None:
    """All lists of `geometry.json`."""
    fields = report.fields(file)
    _letterbox(file, report, fields["letterbox"])
    _perspective(file, report, fields["perspective_matrix"])
    _affine(file, report, fields["affine_matrix"])
    _paste(file, report, fields["mosaic_paste"])


def _letterbox(file: Path, report: Report, rows: list[dict]) -> None:
    """The centred letterbox as `Augment` draws it, there and back."""
    for number, row in enumerate(rows):
        (width, height), size = row["image_wh"], tuple(row["input_wh"])
        augment = Augment("none", size=size[::-1], pad=114, align="centre")
        matrix, frame, _, _ = augment.draw(width, height, np.random.default_rng(0))
        back = transforms.invert(matrix)
        name = f"letterbox {number}: {width}x{height}"
        report.equal(file, f"{name}, input", list(frame), row["input_wh"])
        report.compare(file, f"{name}, matrix", matrix, row["warp_2x3"], atol=ATOL)
        inside = transforms.transform_points(matrix, np.array(row["points"]))
        report.compare(file, f"{name}, points", inside, row["points_in_input"], atol=ATOL)
        original = transforms.transform_points(back, np.array(row["points_in_input"]))
        report.compare(file, f"{name}, points back", original, row["points_back"], atol=ATOL)
        resized = matrix[[0, 1], [0, 1]] * (width, height)
        report.compare(file, f"{name}, picture in the input", resized, row["resized_wh"], atol=ATOL)
        middle = transforms.transform_points(back, np.array(size) / 2)
        report.compare(file, f"{name}, centre", middle, row["input_center"], atol=ATOL)
        report.compare(
            file, f"{name}, extent of the input", np.array(size) * back[[0, 1], [0, 1]], row["input_scale"], atol=ATOL
        )


def _perspective(file: Path, report: Report, rows: list[dict]) -> None:
    for number, row in enumerate(rows):
        end = np.add(row["center"], row["translate"])
        ours = transforms.move_about(row["center"], end, row["scale"], row["rot_deg"], row["shear_deg"])
        ours = np.vstack([ours, [0, 0, 1]])
        report.compare(file, f"perspective_matrix {number}", ours, row["matrix"], atol=ATOL)


def _affine(file: Path, report: Report, rows: list[dict]) -> None:
    """A window of `scale` pixels turned about `center`, brought upright into the output: its width counts."""
    for number, row in enumerate(rows):
        width, height = row["output_wh"]
        factor = width / row["scale"][0]
        ours = transforms.move_about(row["center"], (width / 2, height / 2), factor, -row["rot_deg"], (0, 0))
        report.compare(file, f"affine_matrix {number}", ours, row["matrix"], atol=ATOL)


def _paste(file: Path, report: Report, rows: list[dict]) -> None:
    """Pasted on a canvas of twice 640 pixels; whole numbers, so exactly."""
    for number, row in enumerate(rows):
        shown, cut = paste(row["loc"], row["center_xy"], row["patch_wh"], (1280, 1280))
        report.equal(file, f"mosaic_paste {number}: {row['loc']}, canvas", list(shown), row["paste_xyxy"])
        report.equal(file, f"mosaic_paste {number}: {row['loc']}, patch", list(cut), row["crop_xyxy"])


HANDLERS = [("geometry*.json", geometry)]
