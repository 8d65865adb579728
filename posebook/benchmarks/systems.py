"""The methods of POET's speed comparison (Fig. 1) as `timing.measure` runs them, and `speed_rows`, which does.

All weights are random: for fixed input shapes a dense network costs the same with any weights. What weights would
decide is pinned: how many queries are people (POET), how many proposals and boxes the detector finds (Mask R-CNN).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from posebook.benchmarks import timing
from posebook.benchmarks.timing import Clock, Method, Scene, Speed
from posekit import models
from posekit.data.crops import box_matrices, crop_people
from posekit.data.drawn.scenes import Scenes
from posekit.data.transforms import invert, normalise
from posekit.layouts import COCO
from posekit.models.simple_baseline import simple_baseline_r50
from posekit.poses import join
from posekit.topdown import merge_crops

POET, TOP_DOWN_GT_BOXES, TOP_DOWN_DETECTOR = "poet_r50", "simple_baseline_r50", "mask_rcnn_simple_baseline_r50"


def same_number(found: int, pinned: int) -> None:
    if found != pinned:
        raise RuntimeError(f"{pinned} people were pinned and {found} came out")


def poet_method(model, device: str = "cpu", threshold: float = 0.5) -> Method:
    """POET: F = normalisation and forward, P = decoding and choice of people; n queries are pinned."""
    model = model.eval().to(device)

    def run(scene: Scene, clock: Clock) -> None:
        images = normalise(scene.image[None], model.input.mean, model.input.std, device)
        outputs = model(images)
        clock.lap("F")
        n = min(len(scene.boxes), outputs["logits"].shape[2])
        outputs["logits"] = outputs["logits"].clone()
        outputs["logits"][-1] = torch.tensor([-9.0, -9.0, 9.0], device=device)
        outputs["logits"][-1, 0, :n] = torch.tensor([-9.0, 9.0, -9.0], device=device)
        poses = model.decode(outputs, torch.tensor([scene.image.shape[1::-1]]))[0]
        found = poses.select(poses.scores >= threshold)
        clock.lap("P")
        same_number(len(found), n)

    return run


def top_down_method(model, detector=None, device: str = "cpu", batched: bool = True) -> Method:
    """SimpleBaseline on the scene's boxes: D = detector, if any; C = crops, normalised; T = network; P = decoding.

    `batched`: all crops of a picture at once; else one forward pass per person.
    """
    model = model.eval().to(device)

    def run(scene: Scene, clock: Clock) -> None:
        if detector is not None:
            picture = torch.from_numpy(scene.image).permute(2, 0, 1).float().div(255).to(device)
            detector(picture, torch.from_numpy(scene.boxes).to(device))
            clock.lap("D")
        if len(scene.boxes):
            matrices = box_matrices(scene.boxes, model.crop_size)
            crops = crop_people(scene.image, matrices, model.crop_size)
            crops = normalise(crops, model.input.mean, model.input.std, device)
            clock.lap("C")
            chunks = [crops] if batched else crops.split(1)
            maps = torch.cat([model(chunk)["heatmaps"] for chunk in chunks])
            clock.lap("T")
            poses = join(model.decode({"heatmaps": maps}, torch.tensor([model.crop_size] * len(crops))))
            back, areas, ones = invert(matrices), (scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(1), np.ones(len(crops))
            merge_crops(poses, back, scene.boxes, ones, areas, COCO.sigmas, None)
            clock.lap("P")

    return run


class PinnedMaskRCNN:
    """torchvision's Mask R-CNN R50-FPN with random weights, a fixed number of proposals and given boxes.

    Everything runs as in the real detector, but the proposals are drawn from a seed and the detections are the
    caller's: random weights would find an arbitrary number of both. A trained detector spends a little more on the
    final suppression, which has next to no candidates here.
    """

    def __init__(self, size: int = 512, proposals: int = 1000, device: str = "cpu", seed: int = 0) -> None:
        from torchvision.models.detection import maskrcnn_resnet50_fpn

        # differs from torchvision's 800/1333: POET resized every image to 512 x 512.
        network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=size, max_size=size)
        self.network = network.eval().to(device)
        rng = np.random.default_rng(seed)
        corner = rng.uniform(0, 0.8, (proposals, 2)) * size
        extent = rng.uniform(0.05, 0.5, (proposals, 2)) * size
        boxes = np.concatenate([corner, np.minimum(corner + extent, size)], axis=1)
        self.proposals = torch.tensor(boxes, dtype=torch.float32, device=device)

    @torch.inference_mode()
    def __call__(self, picture: Tensor, boxes: Tensor) -> list[dict[str, Tensor]]:
        """picture (3, H, W) in [0, 1], boxes (n, 4) pixels of it -> torchvision's detections."""
        from torchvision.models.detection.roi_heads import maskrcnn_inference
        from torchvision.models.detection.transform import resize_boxes

        net, heads = self.network, self.network.roi_heads
        whole = [tuple(picture.shape[1:])]
        images, _ = net.transform([picture])
        features = net.backbone(images.tensors)
        net.rpn(images, features)
        pooled = heads.box_roi_pool(features, [self.proposals], images.image_sizes)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        heads.postprocess_detections(logits, deltas, [self.proposals], images.image_sizes)
        found = resize_boxes(boxes.float(), whole[0], images.image_sizes[0])
        labels = torch.ones(len(found), dtype=torch.int64, device=found.device)
        masks = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, [found], images.image_sizes)))
        result = {"boxes": found, "labels": labels, "scores": torch.ones(len(found), device=found.device)}
        result["masks"] = maskrcnn_inference(masks, [labels])[0]
        return net.transform.postprocess([result], images.image_sizes, whole)


def speed_rows(people, scenes=5, size=512, batched=True, seed=0, threads=1, device="cpu", **protocol) -> Speed:
    """Figure 1: POET-R50, SimpleBaseline-R50 with given boxes, and the same behind Mask R-CNN; all weights are random.

    Args:
        people: numbers of people; scenes: different images for each; size: of the drawn images, size x size.
        batched: see `top_down_method`. protocol: repeats, warmup, budget_s of `timing.measure`.
    """
    drawn = drawn_scenes(people, scenes, size, seed)
    torch.manual_seed(seed)
    crops = simple_baseline_r50()
    methods = {
        POET: poet_method(models.build("poet_r50"), device),
        TOP_DOWN_GT_BOXES: top_down_method(crops, None, device, batched),
        TOP_DOWN_DETECTOR: top_down_method(crops, PinnedMaskRCNN(size, device=device, seed=seed), device, batched),
    }
    raw = timing.measure(methods, drawn, seed=seed, threads=threads, device=device, **protocol)
    clock = timing.choose_clock(raw, threads) if device == "cpu" else "wall"
    meet = timing.crossing(raw, POET, TOP_DOWN_GT_BOXES, clock, seed)
    settings = {"weights": "random", "clock": clock, "threads": threads, "device": device, "precision": "float32"}
    settings |= {"batch": 1, "size": size, "crops": "one batch" if batched else "one by one", "proposals": 1000}
    settings |= {"flip test": False, "rounds": int(raw["round"].max()) + 1, "seed": seed, "torch": torch.__version__}
    rows = timing.summary(raw, clock)
    rows = pd.concat([rows[rows.method == name] for name in methods], ignore_index=True)
    return Speed(rows, raw, timing.fit_lines(raw, clock, seed), settings, meet)


def drawn_scenes(people: tuple[int, ...], count: int, size: int, seed: int) -> dict[int, list[Scene]]:
    """`count` drawn pictures for every number of people n, from seed + n.

    For n = 0 the picture shows one person all the same: what is in a picture does not change what it costs.
    """
    result = {}
    for n in people:
        drawn = Scenes(style="people", seed=seed + n, count=count, size=size, people=(max(n, 1),) * 2, workers=1)
        boxes = [np.array(drawn.target(i)["boxes"][:n]) for i in range(count)]
        if wrong := [len(some) for some in boxes if len(some) != n]:
            raise RuntimeError(f"an image with {n} people was to be drawn and has {wrong[0]}")
        result[n] = [Scene(np.array(drawn.image(i)), boxes[i]) for i in range(count)]
    return result
