"""What a data set, a pose model and a criterion are: the interfaces that training, inference and evaluation rely on.

B images, n people, K keypoints, (H, W) pixels. Any object with these members will do; no base class is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from posekit.layouts import Layout
from posekit.poses import Poses

if TYPE_CHECKING:
    from torch import Tensor

    from posekit.input_spec import InputSpec


class PoseDataset(Protocol):
    """Images with annotated people."""

    name: str
    layout: Layout
    ids: list[int]  # COCO's image ids
    category_id: int  # of people in COCO's files
    area_scale: float  # by how much areas are smaller than COCO's: medium and large are scored accordingly

    @property
    def fingerprint(self) -> str:
        """Changes whenever the content does."""

    @property
    def ground_truth(self) -> dict[str, Any]:
        """COCO's JSON as Python objects."""

    def __len__(self) -> int: ...

    def image(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""

    def target(self, i: int) -> dict[str, np.ndarray]:
        """`keypoints` (n, K, 2) px, `visibility` (n, K), `boxes` (n, 4), `areas` (n,), `ignore` (m, 4)."""

    def skip(self, i: int, sentence: str) -> None:
        """Leaves out an image that cannot be read, for a data set opened with on_error="skip"."""


class PoseModel(Protocol):
    """A module from images (B, 3, H, W) to a dict of outputs, and from outputs to poses."""

    input: InputSpec
    num_keypoints: Any  # of one data set; ViTPose+ has a sequence of them
    crop_size: tuple[int, int]  # (width, height) px, of top-down models
    stride: int  # px of a crop per cell of a heatmap, of top-down models

    def __call__(self, images: Tensor, *inputs: Any, **options: Any) -> dict[str, Tensor]: ...

    def decode(self, outputs: Mapping[str, Tensor], image_sizes: Any, **options: Any) -> list[Poses]:
        """Poses in pixels of the network input, COCO's frame; `image_sizes` (B, 2) = (width, height)."""

    def parameters(self) -> Iterator[Tensor]: ...

    def eval(self) -> Self: ...

    def to(self, *args: Any, **kwargs: Any) -> Self: ...


@dataclass(frozen=True)
class Losses:
    """Unweighted scalar terms of a loss and, under the same names, their coefficients in the total."""

    terms: dict[str, Tensor]
    weights: dict[str, float]

    @property
    def total(self) -> Tensor:
        """The weighted sum of the terms."""
        total: Tensor = sum(self.weights[name] * term for name, term in self.terms.items())
        return total


class Criterion(Protocol):
    """A module that scores the outputs of the model that it was built for."""

    def __call__(self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]) -> Losses: ...
