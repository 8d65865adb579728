"""ViTPose's data code: box to crop, targets, decoding, flip test, augmentation and the loss, against published values.

Everything is replayed through the package's own functions. Those speak COCO's frame; the files count pixel middles as
whole numbers. Boxes, joints and matrices are the same numbers in both; where a crop's pixels are meant, half a pixel is
added or taken away here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from golden.report import Report
from posekit.data.crop_augment import half_body, random_scale, random_turn, upper_body
from posekit.data.crops import box_matrices, crop_people, window_matrices, windows
from posekit.data.heatmaps import heatmap_targets
from posekit.data.transforms import normalise, opencv_matrix
from posekit.layouts import COCO
from posekit.losses.heatmap import heatmap_loss
from posekit.models.heatmap_decoding import flip_merge, locate, to_crop
from posekit.models.spec import IMAGENET

SIZE, HEATMAP = (192, 256), (48, 64)
PUBLISHED = 0.0  # where the published code has the middle of a picture's first pixel


def crop(file: Path, report: Report) -> None:
    """`crop.npz`: windows, matrices and resampled pixels of boxes in a picture that a formula makes."""
    known = report.arrays(file)
    boxes = corners(known["boxes"])
    centres, extents = windows(boxes, SIZE)
    report.compare(file, "center_scale", np.hstack([centres, extents / 200]), known["center_scale"], atol=1e-5)
    matrices = box_matrices(boxes, SIZE, udp=True)
    report.compare(file, "warp", opencv_matrix(matrices, PUBLISHED), known["warp"], atol=1e-4)
    crops = crop_people(picture(), matrices, SIZE, pixel_centre=PUBLISHED, smooth=False)
    report.compare(file, "cv2_uint8_thumb", crops[:, ::8, ::8], known["cv2_uint8_thumb"])
    sample = normalise(crops, *IMAGENET).contiguous().numpy().ravel()[known["index"]]
    report.compare(file, "cv2_value", sample, known["cv2_value"], atol=2e-5)
    scipy = np.abs(sample - known["scipy_value"])
    note = "mean; SciPy resamples the border of the picture differently"
    report.at_most(file, "scipy_value", scipy.mean(), 0.01, note)
    report.at_most(file, "scipy_value, median", np.median(scipy), 1e-2, "one step of a byte is 0.017")
    degrees = known["rot_deg"]
    centres, extents = np.tile([100.0, 60.0], (len(degrees), 1)), np.tile([120.0, 160.0], (len(degrees), 1))
    turned = window_matrices(centres, extents, SIZE, degrees, udp=True)
    report.compare(file, "udp_matrix", opencv_matrix(turned, PUBLISHED), known["udp_matrix"], atol=1e-4)
    plain = window_matrices(centres, extents, SIZE, -degrees)
    note = "turns the other way than UDP's; the window's middle goes to pixel index W / 2, ours to COCO's W / 2"
    report.compare(file, "plain_matrix", plain, known["plain_matrix"], atol=1e-4, note=note)


def picture(width: int = 320, height: int = 240) -> np.ndarray:
    """The picture that the boxes of `crop.npz` lie in."""
    y, x = np.mgrid[:height, :width]
    channels = (127.5 + 127.5 * np.sin(x / 17 + y / 29), 127.5 + 127.5 * np.cos(x / 23 - y / 11), (3 * x + 5 * y) % 256)
    return np.floor(np.stack(channels, -1)).astype(np.uint8)


def corners(boxes: np.ndarray) -> np.ndarray:
    """x, y, width, height -> x0 y0 x1 y1."""
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def in_picture(maps: np.ndarray, boxes: np.ndarray, udp: bool = True, **options) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) in picture pixels and values (N, K), by the published inverse of the box's matrix."""
    points, values = locate(maps, udp=udp, **options)
    points = to_crop(points, maps.shape[:1:-1], SIZE, udp).astype(np.float64) - (0.0 if udp else 0.5)
    matrices = box_matrices(corners(boxes), SIZE, udp=udp)
    linear = np.linalg.inv(matrices[:, :, :2])
    return np.einsum("nij,nkj->nki", linear, points - matrices[:, None, :, 2]), values


def decode(file: Path, report: Report) -> None:
    """`decode.npz`: the same maps by every published decoder, and by Hugging Face's."""
    known = report.arrays(file)
    maps, boxes = known["heatmaps"].astype(np.float32), known["boxes"]
    cases = {
        "pub_udp11": {},
        "pub_udp17": {"kernel": 17},
        "pub_default": {"method": "quarter", "udp": False},
        "pub_none": {"method": "argmax", "udp": False},
        "pub_dark": {"udp": False},
        "hf_keypoints": {"style": "transformers"},
    }
    for name, options in cases.items():
        points, values = in_picture(maps, boxes, **options)
        report.compare(file, name, points, known[name], atol=1e-3)
    report.compare(file, "pub_score", values[..., None], known["pub_score"])
    report.compare(file, "hf_scores", values, known["hf_scores"])
    centres, extents = windows(corners(boxes), SIZE)
    points, _ = locate(maps)
    error = np.linalg.norm(points - known["true_xy_heatmap"], axis=-1)
    report.at_most(file, "true_xy_heatmap", np.median(error), 0.1, "median distance of our points in heatmap cells")
    report.compare(file, "hf_bbox", hugging_face_box(centres, extents), known["hf_bbox"], atol=1e-3,
                   note="made of centre and scale, not of the box: not used by us")  # fmt: skip


def hugging_face_box(centres: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """The `bbox` that Hugging Face's post-processing returns: centre and scale, taken for x, y, width and height."""
    return np.hstack([centres, centres + extents / 200 - 1])


def decode_edge(file: Path, report: Report) -> None:
    """`decode_edge.npz`: the maps of decode.npz with two that are nowhere positive."""
    known, source = report.arrays(file), report.arrays(file.with_name("decode.npz"))
    maps = source["heatmaps"].astype(np.float32)
    maps[0, 0], maps[1, 3] = -0.1, 0
    points, values = in_picture(maps, source["boxes"])
    report.compare(file, "pub_udp11", points, known["pub_udp11"], atol=1e-3)
    report.compare(file, "scores", values[..., None], known["scores"])
    points, _ = in_picture(maps, source["boxes"], style="transformers")
    report.compare(file, "hf_keypoints", points, known["hf_keypoints"], atol=1e-3)


def targets(file: Path, report: Report) -> None:
    """`targets.npz`: the four kinds of target, and the loss between UDP's and the maps of decode.npz."""
    known = report.arrays(file)
    joints, visible = known["joints"][None, :, :2] + 0.5, known["visible"][None, :, 0]
    for name, style in (
        ("msra", "msra"), ("msra_unbiased", "unbiased"), ("udp", "udp"), ("udp_combined", "combined"),
    ):  # fmt: skip
        maps, weights = heatmap_targets(joints, visible, SIZE, HEATMAP, style)
        half = known[f"{name}_target"].dtype == np.float16
        report.compare(file, f"{name}_target", maps[0], known[f"{name}_target"], atol=1e-3 if half else 1e-6)
        report.compare(file, f"{name}_weight", weights[0][:, None], known[f"{name}_weight"])
    other = file.with_name("decode.npz")
    if not report.has(other):
        report.fail(file, "loss", "decode.npz belongs to it and is missing")
        return
    maps = torch.from_numpy(report.arrays(other)["heatmaps"].astype(np.float32))
    target = torch.from_numpy(known["udp_target"])[None].expand_as(maps)
    weights = torch.from_numpy(known["udp_weight"])[None, :, 0].expand(len(maps), -1)
    for name, chosen in (("loss_weighted", weights), ("loss_unweighted", None)):
        report.compare(file, name, heatmap_loss(maps, target, chosen).item(), known[name], atol=1e-8)


def flip(file: Path, report: Report) -> None:
    """`flip.npz`: the first crop's maps merged with the second's as if those were of the mirrored crop."""
    known, other = report.arrays(file), file.with_name("decode.npz")
    if not report.has(other):
        report.fail(file, "replay", "decode.npz belongs to it and is missing")
        return
    maps = torch.from_numpy(report.arrays(other)["heatmaps"].astype(np.float32))
    merged = flip_merge(maps[:1], maps[1:], COCO.flip)
    report.compare(file, "merged_0_with_flipped_1", merged, known["merged_0_with_flipped_1"], atol=1e-6)
    pairs = [[int(i), int(j)] for i, j in enumerate(COCO.flip) if i < j]
    report.equal(file, "pairs", pairs, known["pairs"].tolist())


def augment(file: Path, report: Report) -> None:
    """`augment.json`: scale, rotation and half-body windows of given random states."""
    fields = report.fields(file)
    points = np.array(fields["joints"])[:, :2]
    labelled, upper = np.ones(len(points), bool), upper_body(COCO)
    for seed, known in fields["results"].items():
        draw = np.random.RandomState(int(seed))  # the published code's generator
        scale, turn = random_scale(draw.randn(), 0.5), random_turn(draw.randn(), 40.0)
        turn = turn if draw.rand() <= 0.6 else 0.0
        report.compare(file, f"seed {seed} scale", np.array([0.6, 0.8]) * scale, known["scale"], atol=1e-6)
        report.compare(file, f"seed {seed} rotation", turn, known["rotation"], atol=1e-9)
        draw = np.random.RandomState(int(seed))
        centre, extent = half_body(points, labelled, upper, draw.randn() < 0.5, SIZE)
        report.compare(file, f"seed {seed} half_center", centre, known["half_center"], atol=1e-4)
        report.compare(file, f"seed {seed} half_scale", extent / 200, known["half_scale"], atol=1e-5)


HANDLERS = [
    ("crop.npz", crop),
    ("decode.npz", decode),
    ("decode_edge.npz", decode_edge),
    ("targets.npz", targets),
    ("flip.npz", flip),
    ("augment.json", augment),
]
