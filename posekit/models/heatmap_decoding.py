"""From heatmaps to joints: argmax, quarter shift, DARK (Zhang et al. 2020, Eq. 9), and DARK as UDP uses it (Huang et
al. 2020), with the flip test and rescoring of top-down pose estimation (Xiao, Wu, Wei 2018, section 2).

Two frames meet here, and only `to_crop` passes from one to the other:
- *heatmap index*: the middle of cell (r, c) is (c, r). `locate` and everything below it works in it, as the published
  code does. It stretches to the crop's pixel index by (W - 1) / (w - 1) with UDP and by W / w without.
- COCO's frame of the crop: pixel index + .5. `to_crop`, `crop_poses` and every model's `decode` speak it.

Legend: N crops, K keypoints, (h, w) heatmap, (H, W) crop. Pure functions of arrays: no model, no loop over people.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from posekit.pixels import from_pixel_index
from posekit.poses import Poses

METHODS = ("argmax", "quarter", "dark")
STYLES = ("published", "transformers")
RESCORE = 0.2  # joints above this value count in a person's score (published evaluation)


def locate(
    heatmaps: Tensor | np.ndarray, method: str = "dark", udp: bool = True, kernel: int = 11, style: str = "published"
) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, K, 2) in heatmap index (not COCO's frame: see `to_crop`) and the maps' highest values (N, K).

    method: "argmax", "quarter" (a quarter of a cell towards the larger neighbour), or "dark": one Newton step on the
        logarithm of the blurred map; `udp` chooses the published step (True: second differences at distance 1, maps
        continued at the border; False: at distance 2, peaks within two cells of the border stay).
    kernel: odd width of the Gaussian blur. style: "published" = OpenCV's sigma for that width (2.0 for 11);
        "transformers" = sigma 0.8 and another border, as Hugging Face's processor blurs.

    A map without a positive value gives the point (-1, -1) and keeps its value, as in the published code.

    Raises:
        ValueError: an unknown method or style, an even kernel, wrong shapes, NaN.
    """
    for name, value, known in (("method", method, METHODS), ("style", style, STYLES)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known)}")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"the blur kernel is {kernel} cells wide; give an odd number, 11 for example")
    maps, columns, rows, values = _peaks(heatmaps)
    points = np.stack([columns, rows], -1).astype(np.float32)
    if method != "argmax" and len(maps):
        x, y = columns.ravel(), rows.ravel()
        newton = _newton_udp if udp else _newton
        step = _quarter(maps, x, y) if method == "quarter" else newton(maps, x, y, kernel, style)
        points += step.reshape(points.shape)
    return np.where(values[..., None] > 0, points, np.float32(-1)), values


def unit(heatmap_size: tuple[int, int], crop_size: tuple[int, int], udp: bool = True) -> np.ndarray:
    """Crop pixels per heatmap cell in x and y; both sizes are (width, height)."""
    heat, crop = np.asarray(heatmap_size, float), np.asarray(crop_size, float)
    return (crop - 1) / np.maximum(heat - 1, 1) if udp else crop / heat


def to_crop(
    points: np.ndarray, heatmap_size: tuple[int, int], crop_size: tuple[int, int], udp: bool = True
) -> np.ndarray:
    """Points (..., 2) in heatmap index -> pixels of the crop in COCO's frame, float32: the one conversion of decoding.

    The middle of crop pixel (r, c), which the published code calls (c, r), is (c + .5, r + .5).
    """
    return from_pixel_index(points * unit(heatmap_size, crop_size, udp)).astype(np.float32)


def flip_merge(heatmaps: Tensor, flipped: Tensor, order, shift: bool = False) -> Tensor:
    """Flip test: mean of the maps (N, K, h, w) and of the mirrored crop's maps, brought back.

    order: (K,) which keypoint is whose mirror image (`Layout.flip`). shift: move the flipped maps one cell to the
    right, as the published code does for maps that are not UDP's.
    """
    back = flipped[:, torch.as_tensor(np.asarray(order), device=flipped.device)].flip(-1)
    if shift:
        back = torch.cat([back[..., :1], back[..., :-1]], -1)
    return 0.5 * (heatmaps + back)


def rescore(values: np.ndarray, box_scores: np.ndarray | float = 1.0, threshold: float = RESCORE) -> np.ndarray:
    """(N,) box score times the mean of the joint values (N, K) above the threshold; 0 where none is above."""
    counted = values > threshold
    mean = np.where(counted, values, 0).sum(1) / np.maximum(counted.sum(1), 1)
    return (mean * box_scores).astype(np.float32)


def crop_poses(
    heatmaps: Tensor | np.ndarray,
    crop_sizes,
    method: str = "dark",
    udp: bool = True,
    kernel: int = 11,
    style: str = "published",
) -> list[Poses]:
    """One person per crop, in pixels of the crop (COCO's frame); what a top-down model's `decode` returns.

    crop_sizes: (N, 2) or (2,) = (width, height). A joint's visibility is its map's highest value, cut to [0, 1]; the
    person's score the mean of those above 0.2. The box is the whole crop. No crops give an empty list.
    """
    points, values = locate(heatmaps, method, udp, kernel, style)
    sizes = np.broadcast_to(np.asarray(crop_sizes, np.float64), (len(points), 2))
    heat = heatmaps.shape[:1:-1]
    keypoints = to_crop(points, heat, sizes[:, None], udp)
    values = values.clip(0, 1)
    scores = rescore(values)
    boxes = np.concatenate([np.zeros_like(sizes), sizes], axis=1).astype(np.float32)
    people = (np.split(array, max(len(points), 1)) for array in (keypoints, values, scores, boxes))
    return [Poses(*person) for person in zip(*people, strict=True)][: len(points)]


def _peaks(heatmaps: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The maps (N, K, h, w) float32, and of the highest cell of each map: column, row and value (N, K)."""
    if isinstance(heatmaps, Tensor):
        heatmaps = heatmaps.detach().float().cpu().numpy()
    maps = np.ascontiguousarray(heatmaps, np.float32)
    if maps.ndim != 4 or 0 in maps.shape[1:]:
        raise ValueError(f"heatmaps have shape (crops, keypoints, h, w) with h, w > 0, not {maps.shape}")
    flat = maps.reshape(*maps.shape[:2], maps.shape[2] * maps.shape[3])
    where = flat.argmax(2)  # NaN, where there is one, is the argmax
    values = np.take_along_axis(flat, where[..., None], 2)[..., 0]
    if np.isnan(values).any():
        crop, joint = np.argwhere(np.isnan(values))[0]
        raise ValueError(
            f"the heatmap of keypoint {joint} of crop {crop} holds NaN: the weights or the image are damaged"
        )
    rows, columns = np.divmod(where, maps.shape[3])
    return maps, columns, rows, values


def _quarter(maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N K, 2) steps of -.25, 0 or .25; peaks near the border stay (the published bounds: 1 < x < w - 1)."""
    height, width = maps.shape[2:]
    flat, base = maps.reshape(-1), np.arange(len(x)) * (height * width)
    row, column = base + y * width, base + x
    right, left = flat[row + (x + 1).clip(max=width - 1)], flat[row + (x - 1).clip(0)]
    below, above = flat[column + (y + 1).clip(max=height - 1) * width], flat[column + (y - 1).clip(0) * width]
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    return 0.25 * np.stack([np.sign(right - left), np.sign(below - above)], -1) * inside[:, None]


def _newton_udp(maps: np.ndarray, x: np.ndarray, y: np.ndarray, kernel: int, style: str) -> np.ndarray:
    """(N K, 2) Newton step -H^-1 g on log(blurred map cut to [.001, 50]), the map continued by its edge values."""
    height, width = maps.shape[2:]
    near = _blurred(maps, x, y, 1, kernel, "reflect" if style == "published" else "mirror", style)
    for line, row, column in ((0, 0, 0), (2, height - 1, width - 1)):
        near[y == row, line] = near[y == row, 1]
        near[x == column, :, line] = near[x == column, :, 1]
    near = np.log(near.clip(1e-3, 50))
    middle, left, right, above, below = near[:, 1, 1], near[:, 1, 0], near[:, 1, 2], near[:, 0, 1], near[:, 2, 1]
    gradient = np.stack([right - left, below - above], -1) / 2
    dxx, dyy = right - 2 * middle + left, below - 2 * middle + above
    dxy = (near[:, 2, 2] - right - below + 2 * middle - left - above + near[:, 0, 0]) / 2
    tiny = np.finfo(np.float32).eps
    return _solve(dxx + tiny, dxy, dyy + tiny, gradient)


def _newton(maps: np.ndarray, x: np.ndarray, y: np.ndarray, kernel: int, style: str) -> np.ndarray:
    """(N K, 2) Newton step on log(max(blurred map, 1e-10)); zeros beyond the map.

    # differs from the published code: there the blurred map is first scaled to its old maximum, a constant in the log
    """
    height, width = maps.shape[2:]
    near = np.log(_blurred(maps, x, y, 2, kernel, "zero", style).clip(1e-10))
    gradient = np.stack([near[:, 2, 3] - near[:, 2, 1], near[:, 3, 2] - near[:, 1, 2]], -1) / 2
    dxx = (near[:, 2, 4] - 2 * near[:, 2, 2] + near[:, 2, 0]) / 4
    dyy = (near[:, 4, 2] - 2 * near[:, 2, 2] + near[:, 0, 2]) / 4
    dxy = (near[:, 3, 3] - near[:, 1, 3] - near[:, 3, 1] + near[:, 1, 1]) / 4
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    return _solve(dxx, dxy, dyy, gradient) * inside[:, None]


def _solve(dxx: np.ndarray, dxy: np.ndarray, dyy: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """-H^-1 g for 2 x 2 matrices; 0 where H has no inverse."""
    determinant = dxx * dyy - dxy * dxy
    inverse = np.divide(-1.0, determinant, out=np.zeros_like(determinant), where=determinant != 0)
    gx, gy = gradient.T
    return np.stack([dyy * gx - dxy * gy, dxx * gy - dxy * gx], -1) * inverse[:, None]


def _blurred(
    maps: np.ndarray, x: np.ndarray, y: np.ndarray, reach: int, kernel: int, border: str, style: str
) -> np.ndarray:
    """Values (N K, 2 reach + 1, 2 reach + 1), float64, of the blurred maps around the cells (x, y).

    Only windows around the peaks are blurred, not the maps: a hundredth of the work. border: "reflect" without and
    "mirror" with the edge cell repeated, "zero".
    """
    height, width = maps.shape[2:]
    radius = kernel // 2 + reach
    offsets = np.arange(-radius, radius + 1)
    rows, columns = y[:, None] + offsets, x[:, None] + offsets
    row, column = _inside(rows, height, border), _inside(columns, width, border)
    start = np.arange(len(x))[:, None, None] * (height * width)
    windows = maps.reshape(-1).take(start + row[:, :, None] * width + column[:, None, :])
    if border == "zero":
        windows = windows * ((rows == row)[:, :, None] & (columns == column)[:, None, :])
    if style == "published":
        weights = cv2.getGaussianKernel(kernel, 0, cv2.CV_64F)[:, 0]
    else:
        weights = np.exp(-0.5 * (np.arange(kernel) - kernel // 2) ** 2 / 0.8**2)
        weights /= weights.sum()
    band = np.stack([np.roll(np.pad(weights, (0, 2 * reach)), line) for line in range(2 * reach + 1)])
    return band @ windows.astype(np.float64) @ band.T


def _inside(index: np.ndarray, length: int, border: str) -> np.ndarray:
    """Where the border rule sends the cells `index` of an axis of this length."""
    if border == "zero" or length == 1:
        return index.clip(0, length - 1)
    period = 2 * length if border == "mirror" else 2 * (length - 1)
    index = index % period
    return np.minimum(index, period - (border == "mirror") - index)
