"""The methods of POET's speed comparison (Fig. 1) as `timing.measure` runs them.

All weights are random: for fixed input shapes a dense network costs the same with any weights. What weights would
decide is pinned: how many queries are people (POET), how many proposals and boxes the detector finds (Mask R-CNN), and
what bottom-up networks put out (`bottom_up.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posebook.benchmarks.timing import Method, Scene, Stage
from posekit.data.crops import box_matrices, crop_people
from posekit.data.drawn.scenes import Scenes
from posekit.data.transforms import invert, normalise
from posekit.layouts import COCO
from posekit.poses import Poses, join
from posekit.topdown import merge_crops


def same_number(found: int, pinned: int) -> None:
    if found != pinned:
        raise RuntimeError(f"{pinned} people were pinned and {found} came out")


def poet_method(model, device: str = "cpu", threshold: float = 0.5, forward: Callable | None = None) -> Method:
    """POET: F = normalisation and forward, P = decoding and choice of people; n queries are pinned.

    `forward`: the network in another form, such as `cuda_graph` makes.
    """
    model = model.eval().to(device)

    def network(scene: Scene, _) -> dict[str, Tensor]:
        return (forward or model)(normalise(scene.image[None], model.input.mean, model.input.std, device))

    def people(scene: Scene, outputs: dict[str, Tensor]) -> Poses:
        logits = outputs["logits"].clone()
        n = min(len(scene.boxes), logits.shape[2])
        logits[-1] = torch.tensor([-9.0, -9.0, 9.0], device=device)
        logits[-1, 0, :n] = torch.tensor([-9.0, 9.0, -9.0], device=device)
        poses = model.decode(outputs | {"logits": logits}, torch.tensor([scene.image.shape[1::-1]]))[0]
        found = poses.select(poses.scores >= threshold)
        same_number(len(found), n)
        return found

    return {"F": network, "P": people}


def cuda_graph(model, example: Tensor) -> Callable[[Tensor], Any]:
    """`model` for inputs shaped as `example`, recorded once on the GPU and replayed: no launches from Python.

    What it returns is overwritten by the next call.
    """
    given, stream = example.clone(), torch.cuda.Stream()
    with torch.inference_mode():
        with torch.cuda.stream(stream):  # libraries choose their kernels before the recording
            for _ in range(3):
                model(given)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = model(given)

    def replay(images: Tensor) -> Any:
        given.copy_(images)
        graph.replay()
        return outputs

    return replay


def top_down_method(model, detector: Stage | None = None, device: str = "cpu", batched: bool = True) -> Method:
    """A pose network on the scene's boxes: D = detector, if any; C = crops, normalised; T = network; P = decoding.

    `batched`: all crops of an image at once; else one forward pass per person.
    """
    model = model.eval().to(device)
    size = model.crop_size

    def crops(scene: Scene, _) -> Tensor | None:
        if not len(scene.boxes):
            return None
        pixels = crop_people(scene.image, box_matrices(scene.boxes, size), size)
        return normalise(pixels, model.input.mean, model.input.std, device)

    def network(scene: Scene, crops: Tensor) -> dict[str, Tensor]:
        outputs = [model(chunk) for chunk in ([crops] if batched else crops.split(1))]
        return {name: torch.cat([one[name] for one in outputs]) for name in outputs[0]}

    def people(scene: Scene, outputs: dict[str, Tensor]) -> Poses:
        boxes, n = scene.boxes, len(scene.boxes)
        poses = join(model.decode(outputs, torch.tensor([size] * n)))
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        return merge_crops(poses, invert(box_matrices(boxes, size)), boxes, np.ones(n), areas, COCO.sigmas, None)

    return ({"D": detector} if detector else {}) | {"C": crops, "T": network, "P": people}


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
    def __call__(self, scene: Scene, _=None) -> list[dict[str, Tensor]]:
        """torchvision's detections: the boxes of the scene, with masks."""
        from torchvision.models.detection.roi_heads import maskrcnn_inference
        from torchvision.models.detection.transform import resize_boxes

        net, heads = self.network, self.network.roi_heads
        device = self.proposals.device
        pixels = torch.from_numpy(scene.image).permute(2, 0, 1).float().div(255).to(device)
        boxes = torch.from_numpy(scene.boxes).to(device)
        whole = [tuple(pixels.shape[1:])]
        images, _ = net.transform([pixels])
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


def drawn_scenes(people: tuple[int, ...], count: int, size: int, seed: int) -> dict[int, list[Scene]]:
    """`count` drawn images for every number of people n, from seed + n.

    For n = 0 the image shows one person all the same: what is in an image does not change what it costs.
    """
    result = {}
    for n in people:
        drawn = Scenes(style="people", seed=seed + n, count=count, size=size, people=(max(n, 1),) * 2, workers=1)
        boxes = [np.array(drawn.target(i)["boxes"][:n]) for i in range(count)]
        if wrong := [len(some) for some in boxes if len(some) != n]:
            raise RuntimeError(f"an image with {n} people was to be drawn and has {wrong[0]}")
        result[n] = [Scene(np.array(drawn.image(i)), boxes[i]) for i in range(count)]
    return result
