"""ViTPose's data code: box to crop, targets, decoding, flip test, augmentation and the loss, against published values.

Everything is replayed through the package's own functions. Those use COCO's frame; the files count pixel centres as
integers. Boxes, joints and matrices are the same numbers in both; where a crop's pixels are meant, half a pixel is
added or taken away here. Sizes follow from the arrays: heatmaps have a stride of 4, the stored crops one of 8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from golden.checks import Check, Directory, Entries
from posekit.data.crop_augment import half_body, random_scale, random_turn, upper_body
from posekit.data.crops import box_matrices, crop_people, window_matrices, windows
from posekit.data.heatmaps import heatmap_targets
from posekit.data.transforms import normalise
from posekit.input_spec import IMAGENET
from posekit.layouts import COCO, LAYOUTS, layout_for
from posekit.losses.heatmap import heatmap_loss
from posekit.models.heatmap_decoding import flip_merge, locate, to_crop

PUBLISHED = 0.0  # where the published code has the centre of an image's first pixel
HALF = np.array([0, 0, 0.5])  # taken from our matrices: the published ones count pixel centres in crops, too
SIZE = (192, 256)
IMAGES = ((320, 240), (200, 150), (150, 200))  # (width, height): of the first set, and of the second in either order


def crop(file: Path, directory: Directory) -> Iterator[Check]:
    """`crop.npz`: centres, scales, matrices and resampled pixels of boxes in an image that a formula makes."""
    known = directory.open(file)
    boxes, thumbnail = corners(known["boxes"]), known["cv2_uint8_thumb"]
    size = (8 * thumbnail.shape[2], 8 * thumbnail.shape[1])
    centres, extents = windows(boxes, size)
    yield known.check("center_scale", np.hstack([centres, extents / 200]), atol=1e-5)
    matrices = box_matrices(boxes, size, udp=True)
    yield known.check("warp", matrices - HALF, atol=1e-4)

    def crops_of(image_size: tuple[int, int]) -> np.ndarray:
        return crop_people(pattern(*image_size), matrices, size, pixel_centre=PUBLISHED, smooth=False)

    def distance(image_size: tuple[int, int]) -> float:
        return np.abs(crops_of(image_size)[:, ::8, ::8] - thumbnail.astype(float)).mean()

    crops = crops_of(min(image_sizes(known, directory), key=distance))
    yield known.check("cv2_uint8_thumb", crops[:, ::8, ::8])
    sample = normalise(crops, *IMAGENET).contiguous().numpy().ravel()[known["index"]]
    yield known.check("cv2_value", sample, atol=2e-5)
    if "scipy_value" in known:
        difference = np.abs(sample - known["scipy_value"])
        note = "mean; SciPy resamples the border of the picture differently"
        yield known.at_most("scipy_value", difference.mean(), 0.01, note)
        yield known.at_most("scipy_value, median", np.median(difference), 1e-2, "one step of a byte is 0.017")
    if "rot_deg" in known:
        yield from _check_rotations(known, known["rot_deg"], size)


def _check_rotations(known: Entries, degrees: np.ndarray, size: tuple[int, int]) -> Iterator[Check]:
    """Matrices of one region under several rotations, for an output of 192 x 256 or of the crops' size."""
    centres, extents = np.tile([100.0, 60.0], (len(degrees), 1)), np.tile([120.0, 160.0], (len(degrees), 1))
    turned = {out: window_matrices(centres, extents, out, degrees, udp=True) - HALF for out in {SIZE, size}}
    out = min(turned, key=lambda out: np.abs(turned[out] - known.get("udp_matrix", turned[SIZE])).max())
    yield known.check("udp_matrix", turned[out], atol=1e-4)
    note = "turns the other way than UDP's; the window's middle goes to pixel index W / 2, ours to COCO's W / 2"
    yield known.check("plain_matrix", window_matrices(centres, extents, out, -degrees), atol=1e-4, note=note)


def image_sizes(known: Entries, directory: Directory) -> list[tuple[int, int]]:
    """Sizes (width, height) that the image of `crop.npz` may have: the file's own, or those that a README names."""
    if "image_wh" in known:
        return [tuple(known["image_wh"].tolist())]
    if "image_hw" in known:
        return [tuple(known["image_hw"].tolist()[::-1])]
    text = (directory.folder / "README.md").read_text() if "README.md" in directory else ""
    pairs = [(int(a), int(b)) for a, b in re.findall(r"(?<![\dx])(\d{2,4}) ?x ?(\d{2,4})(?![\dx])", text)]
    return list(dict.fromkeys([*IMAGES, *pairs, *(pair[::-1] for pair in pairs)]))


def pattern(width: int, height: int) -> np.ndarray:
    """The image that the boxes of `crop.npz` lie in."""
    y, x = np.mgrid[:height, :width]
    channels = (127.5 + 127.5 * np.sin(x / 17 + y / 29), 127.5 + 127.5 * np.cos(x / 23 - y / 11), (3 * x + 5 * y) % 256)
    return np.floor(np.stack(channels, -1)).astype(np.uint8)


def corners(boxes: np.ndarray) -> np.ndarray:
    """x, y, width, height -> x0 y0 x1 y1."""
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def crop_size(maps: np.ndarray) -> tuple[int, int]:
    """(width, height) of the crops that heatmaps (..., h, w) of stride 4 belong to."""
    return 4 * maps.shape[-1], 4 * maps.shape[-2]


def in_image(maps: np.ndarray, boxes: np.ndarray, udp: bool = True, **options) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) in image pixels and values (N, K), by the published inverse of the box's matrix."""
    points, values = locate(maps, udp=udp, **options)
    size = crop_size(maps)
    points = to_crop(points, maps.shape[:1:-1], size, udp).astype(np.float64) - (0.0 if udp else 0.5)
    matrices = box_matrices(corners(boxes), size, udp=udp)
    linear = np.linalg.inv(matrices[:, :, :2])
    return np.einsum("nij,nkj->nki", linear, points - matrices[:, None, :, 2]), values


def decode(file: Path, directory: Directory) -> Iterator[Check]:
    """`decode.npz`: the same maps by every published decoder, and by Hugging Face's."""
    known = directory.open(file)
    maps, boxes = known["heatmaps"].astype(np.float32), known["boxes"]
    kernels = sorted({11, 17, *(int(name[7:]) for name in known if re.fullmatch(r"pub_udp\d+", name))})
    cases = {f"pub_udp{kernel}": {"kernel": kernel} for kernel in kernels} | {
        "pub_default": {"method": "quarter", "udp": False},
        "pub_none": {"method": "argmax", "udp": False},
        "pub_dark": {"udp": False},
        "hf_keypoints": {"style": "transformers"},
    }
    for name, options in cases.items():
        points, values = in_image(maps, boxes, **options)
        yield known.check(name, points, atol=1e-3)
    yield known.check("pub_score", values[..., None])
    yield known.check("hf_scores", values)
    points, _ = locate(maps)
    if "true_xy_heatmap" in known:
        error = np.linalg.norm(points - known["true_xy_heatmap"], axis=-1)
        note = "median distance of our points in heatmap cells"
        yield known.at_most("true_xy_heatmap", np.median(error), 0.1, note)
    centres, extents = windows(corners(boxes), crop_size(maps))
    note = "made of centre and scale, not of the box: not used by us"
    yield known.check("hf_bbox", np.hstack([centres, centres + extents / 200 - 1]), atol=1e-3, note=note)


def decoded_with(file: Path, directory: Directory) -> Entries:
    """The entries of the `decode*.npz` that belongs to `<kind>*.npz`."""
    return directory.together(file, file.with_name(re.sub(r"^(decode_edge|targets|flip)", "decode", file.name)))[1]


def decode_edge(file: Path, directory: Directory) -> Iterator[Check]:
    """`decode_edge.npz`: the maps of decode.npz with two that are nowhere positive."""
    known, source = directory.open(file), decoded_with(file, directory)
    maps = source["heatmaps"].astype(np.float32)
    maps[0, 0], maps[1, 3] = -0.1, 0
    points, values = in_image(maps, source["boxes"])
    yield known.check("pub_udp11", points, atol=1e-3)
    yield known.check("scores", values[..., None])
    points, _ = in_image(maps, source["boxes"], style="transformers")
    yield known.check("hf_keypoints", points, atol=1e-3)


def targets(file: Path, directory: Directory) -> Iterator[Check]:
    """`targets.npz`: the four kinds of target, and the loss between UDP's and the maps of decode.npz."""
    known = directory.open(file)
    joints, visible = known["joints"][None, :, :2].astype(np.float64) + 0.5, known["visible"][None, :, 0]
    size, heatmap = crop_size(known["udp_target"]), known["udp_target"].shape[:0:-1]
    styles = {"msra": "msra", "msra_unbiased": "unbiased", "udp": "udp", "udp_combined": "combined"}
    for name, style in styles.items():
        maps, weights = heatmap_targets(joints, visible, size, heatmap, style, float(known.get("sigma", 2.0)))
        reference = known.get(f"{name}_target")
        half = reference is not None and reference.dtype == np.float16
        yield known.check(f"{name}_target", maps[0], atol=1e-3 if half else 1e-6)
        yield known.check(f"{name}_weight", weights[0][:, None])
    maps = torch.from_numpy(decoded_with(file, directory)["heatmaps"].astype(np.float32))
    target = torch.from_numpy(known["udp_target"])[None].expand_as(maps)
    weights = torch.from_numpy(known["udp_weight"])[None, :, 0].expand(len(maps), -1)
    for name, chosen in (("loss_weighted", weights), ("loss_unweighted", None)):
        yield known.check(name, heatmap_loss(maps, target, chosen).item(), atol=1e-8)


def flip_order(num_keypoints: int) -> np.ndarray:
    """Which keypoint is whose mirror image; of an unknown layout COCO's pairs, as the reference was run."""
    if any(len(layout) == num_keypoints for layout in LAYOUTS.values()):
        return np.array(layout_for(num_keypoints).flip)
    order = np.arange(num_keypoints)
    order[: len(COCO)] = COCO.flip[:num_keypoints]
    return order


def flip(file: Path, directory: Directory) -> Iterator[Check]:
    """`flip.npz`: the first crop's maps merged with the second's as if those were of the mirrored crop."""
    known = directory.open(file)
    maps = torch.from_numpy(decoded_with(file, directory)["heatmaps"].astype(np.float32))
    order = flip_order(maps.shape[1])
    yield known.check("merged_0_with_flipped_1", flip_merge(maps[:1], maps[1:2], order), atol=1e-6)
    yield known.check("pairs", [[i, int(j)] for i, j in enumerate(order) if i < j])


def augment(file: Path, directory: Directory) -> Iterator[Check]:
    """`augment.json`: scale, rotation and half-body regions of given random states."""
    fields = directory.open(file)
    points = np.array(fields["joints"])[:, :2]
    labelled = np.ones(len(points), bool)
    upper = upper_body(COCO) if len(points) == len(COCO) else np.arange(len(points)) <= 10
    for seed, known in fields["results"].items():
        rng = np.random.RandomState(int(seed))  # the published code's generator
        scale, turn = random_scale(rng.randn(), 0.5), random_turn(rng.randn(), 40.0)
        turn = turn if rng.rand() <= 0.6 else 0.0
        yield fields.check(f"seed {seed} scale", np.array([0.6, 0.8]) * scale, known["scale"], atol=1e-6)
        yield fields.check(f"seed {seed} rotation", turn, known["rotation"], atol=1e-9)
        rng = np.random.RandomState(int(seed))
        centre, extent = half_body(points, labelled, upper, rng.randn() < 0.5, SIZE)
        yield fields.check(f"seed {seed} half_center", centre, known["half_center"], atol=1e-4)
        yield fields.check(f"seed {seed} half_scale", extent / 200, known["half_scale"], atol=1e-5)
