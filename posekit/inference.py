"""From a name and a picture to poses: `Predictor(load("poet_tiny", "scenes"))("photo.jpg")`.

Keypoints come back in pixels of the picture that was given (COCO's frame).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from posekit import models, runs
from posekit.data.images import as_array, frames_of, images_in
from posekit.evaluation.nms import THRESHOLD, gather
from posekit.layouts import LAYOUTS, layout_for
from posekit.poses import Poses
from posekit.training.build import evaluation_loader, plain_options
from posekit.training.recipes import from_record

WEIGHTS = "data/weights"  # our own reference models, shipped with the repository


def load(name: str, weights: str | Path | None = None, **overrides) -> nn.Module:
    """A model in evaluation mode.

    weights: None = random; "scenes" = our reference model, trained on drawn people; a run folder; or a file
    (.safetensors, or a published checkpoint). `overrides` go to the model's builder. RTMO's and ViTPose's weights
    without a `run.json` beside them are taken for published ones, see `Input.pixel_centre`.

    Raises:
        ValueError: an unknown name, or weights of another model (the sentence says what differs).
        FileNotFoundError: no such weights.
    """
    if weights is None:
        return models.build(name, **overrides).eval()
    from posekit.models.checkpoints import load_weights

    path = runs.resolve(Path(WEIGHTS) / name if weights == "scenes" else weights)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {runs.relative(path)}; train them, or give another path")
    record, recipe = path.with_name("run.json"), None
    if record.is_file():  # what the run changed about the model
        recipe = from_record({"model": name} | runs.load_run(record)["parameters"], runs.relative(record))
        queries = {"num_queries": recipe.num_queries} if recipe.num_queries else {}
        overrides = queries | plain_options(recipe.model_options) | overrides
    model = models.build(name, **overrides)
    load_weights(model, path)
    if not recipe and name.startswith(("rtmo", "vitpose")):
        model.input = replace(model.input, pixel_centre=0.0)
    if recipe and recipe.size and model.input.fit == "letterbox":  # it sees pictures as it was trained to
        model.input = replace(model.input, size=recipe.size)
    return model.eval()


class Predictor:
    """A model with everything around it: reading, resizing, batching, decoding.

    `size`: input size in pixels, 0 = the model's own. `threshold`: people with a lower score are left out. A top-down
    model needs `people`: another `Predictor`, or anything else called with a list of pictures, whose `Poses` say by
    their boxes and scores where people are.

    Raises:
        ValueError: a top-down model without `people`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int = 0,
        threshold: float = 0.0,
        device: str | torch.device = "cpu",
        people: Callable[[list[np.ndarray]], list[Poses]] | None = None,
    ) -> None:
        if people is None and model.input.fit == "crop":
            raise ValueError(
                "a top-down model looks at one person at a time and must be told where people are: give "
                'people=Predictor(load("rtmo_tiny", "scenes")), or another function from pictures to Poses'
            )
        self.model, self.size, self.threshold, self.device = model.eval().to(device), size, threshold, device
        self.people = people

    def __call__(self, images, batch_size: int = 8) -> Poses | list[Poses]:
        """Poses for one picture, or a list of them for several.

        images: a path, a folder, an array (H, W, 3) uint8 RGB, a PIL image, or a list of these; see `as_array`. People
        are found in the image as a viewer shows it: its EXIF orientation is applied.

        Raises:
            ValueError: something else, the frames of a video for example: these go to `stream`. `DataError`: a file
                that cannot be read, or is too large (`posekit.data.images.MAX_PIXELS`).
        """
        if isinstance(images, str | os.PathLike) and os.path.isdir(images):
            images = images_in(images)
        if isinstance(images, list | tuple):
            return list(self.stream(images, batch_size))
        return next(self.stream([images], 1))

    def stream(self, images: Iterable, batch_size: int = 8) -> Iterator[Poses]:
        """The same for any iterable, the frames of a video for example: a batch at a time, in order."""
        images = frames_of(images)
        while group := [as_array(image) for image in islice(images, batch_size)]:
            if self.people is not None:
                for poses in self.of_crops(group):
                    yield poses.select(poses.scores >= self.threshold)
                continue
            for outputs, batch in self.forward(group):
                for poses in finite(decode(self.model, outputs, batch)):
                    yield poses.select(poses.scores >= self.threshold)

    @torch.inference_mode()
    def forward(self, arrays: list[np.ndarray], **options) -> list[tuple[dict, dict]]:
        """The model's raw outputs and the batch, once for all arrays; `options` go to the model (`attention=True`)."""
        loader = evaluation_loader(
            Pictures(arrays, self.model.num_keypoints), self.model, size=self.size, batch_size=len(arrays),
            device=self.device,
        )  # fmt: skip
        return [(self.model(batch["images"], batch["padding_mask"], **options), batch) for batch in loader.epoch(0)]

    def of_crops(self, arrays: list[np.ndarray]) -> list[Poses]:
        """The poses of the people that `people` finds, one pass for the crops of all arrays."""
        dataset = Pictures(arrays, self.model.num_keypoints)
        loader = evaluation_loader(dataset, self.model, boxes=self.people(arrays), device=self.device)
        return poses_of_crops(self.model, loader, dataset.ids)


@dataclass
class Pictures:
    """Arrays (H, W, 3) uint8 RGB as a data set without annotations."""

    arrays: list[np.ndarray]
    num_keypoints: int
    name: str = "pictures"

    def __post_init__(self) -> None:
        k = self.num_keypoints
        known = any(len(layout) == k for layout in LAYOUTS.values())  # a model may have any number of keypoints
        self.layout = layout_for(k if known else [f"keypoint_{i}" for i in range(k)])
        self.ids = list(range(len(self.arrays)))

    def __len__(self) -> int:
        return len(self.arrays)

    def image(self, i: int) -> np.ndarray:
        return self.arrays[i]

    def target(self, i: int) -> dict[str, np.ndarray]:
        k = self.num_keypoints
        return {
            "keypoints": np.zeros((0, k, 2), np.float32), "visibility": np.zeros((0, k), np.uint8),
            "boxes": np.zeros((0, 4), np.float32), "areas": np.zeros(0, np.float32),
            "ignore": np.zeros((0, 4), np.float32),
        }  # fmt: skip


@torch.inference_mode()
def poses_of_crops(model: nn.Module, loader, ids: list[int], threshold: float | None = THRESHOLD) -> list[Poses]:
    """A top-down model over a loader of crops: the poses of the pictures `ids`, in that order.

    `threshold`: similarity above which the less sure of two poses is dropped; None keeps all.
    """
    poses, targets = [], []
    for batch in loader.epoch(0):
        outputs = model(batch["images"].to(loader.device))
        found = finite(model.decode(outputs, np.stack([target["size"] for target in batch["targets"]])))
        poses += [one for one in found if len(one)]
        targets += [target for one, target in zip(found, batch["targets"], strict=True) if len(one)]
    found = gather(poses, targets, loader.dataset.layout.sigmas, threshold, ids=ids)
    return [found[image_id] for image_id in ids]


def decode(model: nn.Module, outputs: dict[str, Tensor], batch: dict, layer: int = -1) -> list[Poses]:
    """The poses of a batch in pixels of the original images, in the numbers that the weights learnt."""
    sizes = torch.stack([torch.as_tensor(target["size"]) for target in batch["targets"]])
    poses = model.decode(outputs, sizes, layer=layer)
    # Crops are cut out with the model's `pixel_centre`, so their matrices hold it already
    lower = 0.0 if model.input.fit == "crop" else model.input.pixel_centre - 0.5
    back = [t["to_original"].cpu().numpy() + np.float32([0, 0, lower]) for t in batch["targets"]]
    return [p.transform(matrix) for p, matrix in zip(poses, back, strict=True)]


def finite(poses: list[Poses]) -> list[Poses]:
    """The same without people who have a number that is not finite; a warning counts them."""
    fine = [one.finite() for one in poses]
    if lost := sum(int((~kept).sum()) for kept in fine):
        warnings.warn(
            f"{lost} of {sum(map(len, poses))} poses hold NaN or infinity and are left out: the weights or these "
            "pictures are damaged; load other weights, or look at the pictures",
            stacklevel=2,
        )
    return [one.select(kept) for one, kept in zip(poses, fine, strict=True)]


def told(targets: list[dict]) -> dict[str, Tensor]:
    """What the model must know of its batch: `dataset` (M,) where the crops are of several data sets."""
    return {"dataset": torch.stack([target["dataset"] for target in targets])} if "dataset" in targets[0] else {}
