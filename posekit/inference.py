"""From a name and an image to poses: `Predictor(load("poet_tiny", "scenes"))("photo.jpg")`.

Keypoints come back in COCO pixels of the image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
import torch

from posekit.data.crops import box_faults
from posekit.data.images import as_array
from posekit.data.transforms import decode, make_batch
from posekit.data.video import frames_of, paths_of
from posekit.layouts import layout_of
from posekit.poses import Poses, Source, drop_not_finite
from posekit.protocols import PoseModel
from posekit.topdown import poses_of_boxes


class Predictor:
    """A model with everything around it: reading, resizing, batching, decoding.

    `size`: input size in pixels, 0 = the model's own. `threshold`: people with a lower score are left out. A top-down
    model needs a `detector`: another `Predictor`, or anything else called with a list of images, whose `Poses` say by
    their boxes and scores where people are. `flip_test`: a top-down model's heatmaps are averaged with those of the
    mirrored crops, as in published scores, for twice the time.

    Raises:
        ValueError: a top-down model without a `detector`, or a flip test of another model.
    """

    def __init__(
        self,
        model: PoseModel,
        *,
        size: int = 0,
        threshold: float = 0.0,
        device: str | torch.device = "cpu",
        detector: Callable[[list[np.ndarray]], list[Poses]] | None = None,
        flip_test: bool = False,
    ) -> None:
        if flip_test and model.input.fit != "crop":
            raise ValueError("flip_test is for top-down models, and this one sees whole images: leave it out")
        if detector is None and model.input.fit == "crop":
            raise ValueError(
                "a top-down model looks at one person at a time and needs their boxes: give "
                'detector=Predictor(load("rtmo_tiny", "scenes")), or another function from images to Poses'
            )
        self.model, self.size, self.threshold, self.device = model.eval().to(device), size, threshold, device
        self.detector, self.flip_test, self.layout = detector, flip_test, getattr(model, "layout", None)

    def __call__(self, images, batch_size: int = 8) -> Poses | list[Poses]:
        """Poses for one image, or a list of them for several.

        images: a path, an array (H, W, 3) uint8 RGB, a PIL image, or a list of these, see `as_array`; a folder, or a
        pattern such as "photos/*.jpg". People are found in the image as a viewer shows it: its EXIF orientation is
        applied.

        Raises:
            ValueError: something else, a video for example: it goes to `stream`. `DataError`: a file that cannot be
                read, or is too large (`posekit.data.images.MAX_PIXELS`).
        """
        if isinstance(images, list | tuple) or (paths := paths_of(images)) is not None:
            return list(self.stream(images if isinstance(images, list | tuple) else paths, batch_size))
        return next(self.stream([images], 1))

    def stream(self, images, batch_size: int = 8, pixels: bool = False) -> Iterator[Poses]:
        """The poses one by one, in order, a batch at a time: of a video's path, a camera's number, a folder, a pattern,
        or any iterable of what a call takes.

        pixels: poses of a file hold its pixels and are drawn without reading it again; otherwise its path alone. What
        was read is dropped as soon as its poses are.
        """
        images = frames_of(images)
        while given := list(islice(images, batch_size)):
            group = [as_array(image) for image in given]
            found = self.whole_images(group) if self.detector is None else self.crops(group, self.detector(group))
            for image, array, poses in zip(given, group, found, strict=True):
                poses = poses.select(poses.scores >= self.threshold)
                poses.layout = self.layout
                path = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
                read = partial(np.asarray, array) if pixels or not path else partial(as_array, path)
                poses.source = Source(path, read)
                yield poses

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
        layout, rows = self.layout or layout_of(self.model.num_keypoints), []
        flip = layout.flip if self.flip_test else None
        for image, found in zip(arrays, people, strict=True):
            good = np.isfinite(found.scores)
            good[list(box_faults(found.boxes))] = False
            rows.append((image, found.boxes[good].astype(np.float64), found.scores[good]))
        return poses_of_boxes(self.model, rows, layout.sigmas, device=self.device, flip=flip)
