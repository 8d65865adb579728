"""From a name and an image to poses: `Predictor(load("poet_tiny", "scenes"))("photo.jpg")`.

Keypoints come back in COCO pixels of the image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from posekit.data.crops import box_faults
from posekit.data.images import as_array, frames_of, images_in
from posekit.data.transforms import decode, make_batch
from posekit.layouts import sigmas_for
from posekit.poses import Poses, drop_not_finite
from posekit.protocols import PoseModel
from posekit.topdown import poses_of_boxes


class Predictor:
    """A model with everything around it: reading, resizing, batching, decoding.

    `size`: input size in pixels, 0 = the model's own. `threshold`: people with a lower score are left out. A top-down
    model needs a `detector`: another `Predictor`, or anything else called with a list of images, whose `Poses` say by
    their boxes and scores where people are.

    Raises:
        ValueError: a top-down model without a `detector`.
    """

    def __init__(
        self,
        model: PoseModel,
        *,
        size: int = 0,
        threshold: float = 0.0,
        device: str | torch.device = "cpu",
        detector: Callable[[list[np.ndarray]], list[Poses]] | None = None,
    ) -> None:
        if detector is None and model.input.fit == "crop":
            raise ValueError(
                "a top-down model looks at one person at a time and needs their boxes: give "
                'detector=Predictor(load("rtmo_tiny", "scenes")), or another function from images to Poses'
            )
        self.model, self.size, self.threshold, self.device = model.eval().to(device), size, threshold, device
        self.detector = detector

    def __call__(self, images, batch_size: int = 8) -> Poses | list[Poses]:
        """Poses for one image, or a list of them for several.

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
            found = self.whole_images(group) if self.detector is None else self.crops(group, self.detector(group))
            for poses in found:
                yield poses.select(poses.scores >= self.threshold)

    @torch.inference_mode()
    def forward(self, arrays: list[np.ndarray], **options) -> tuple[dict, dict]:
        """The model's outputs and the batch (`transforms.make_batch`); `options` go to the model (`attention=True`)."""
        batch = make_batch(arrays, self.model.input, self.size, device=self.device)
        return self.model(batch["images"], batch["padding_mask"], **options), batch

    def whole_images(self, arrays: list[np.ndarray]) -> list[Poses]:
        """The poses of a model that sees whole images."""
        outputs, batch = self.forward(arrays)
        return drop_not_finite(decode(self.model, outputs, batch))

    def crops(self, arrays: list[np.ndarray], people: list[Poses]) -> Iterator[Poses]:
        """The poses of detected people, one pass for the crops of all arrays; `people`: who was found in each.

        Boxes without area, or with a number that is not finite, are left out.
        """
        (sigmas, _), rows = sigmas_for(None, self.model.num_keypoints), []
        for image, found in zip(arrays, people, strict=True):
            good = np.isfinite(found.scores)
            good[list(box_faults(found.boxes))] = False
            rows.append((image, found.boxes[good].astype(np.float64), found.scores[good]))
        return poses_of_boxes(self.model, rows, sigmas, device=self.device)
