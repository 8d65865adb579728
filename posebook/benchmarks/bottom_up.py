"""The bottom-up methods of POET's speed comparison: associative embedding and OpenPose, as `timing.measure` runs them.

F = normalisation and forward of the network with random weights, whose maps are thrown away; P = grouping of maps that
were rendered before (rendered.py): with random weights there would be dozens of people.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from posebook.benchmarks.rendered import part_maps, rendered, side_by_side, tag_maps
from posebook.benchmarks.timing import Method, Scene
from posekit.data.drawn.scenes import Scenes
from posekit.data.transforms import normalise
from posekit.layouts import COCO
from posekit.models.associative_embedding import flip_test
from posekit.poses import Poses

PEOPLE = 40  # drawn people of whom scenes are put together


def associative_embedding_method(
    model, scenes: dict[int, list[Scene]], mode: str = "paper", flip: bool = False, device: str = "cpu", seed: int = 0
) -> Method:
    """`mode`: of the grouping, see `posekit.models.tag_grouping`; flip: the flip test, two passes and two tags."""

    def forward(images: Tensor) -> dict[str, Tensor]:
        return flip_test(model, images, COCO.flip) if flip else model(images)

    def render(keypoints: np.ndarray, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        return tag_maps(keypoints, size, model.stride, 2 if flip else 1, rng)

    model = model.eval().to(device)
    return _method(model, forward, render, scenes, device, seed, mode=mode)


def openpose_method(model, scenes: dict[int, list[Scene]], device: str = "cpu", seed: int = 0) -> Method:
    def render(keypoints: np.ndarray, size: int, rng: np.random.Generator) -> dict[str, Tensor]:
        return part_maps(keypoints, size, model.stride, rng)

    model = model.eval().to(device)
    return _method(model, model, render, scenes, device, seed)


def _method(model, forward: Callable, render: Callable, scenes: dict, device: str, seed: int, **options) -> Method:
    def outputs_for(scene: Scene, number: int) -> dict[str, Tensor]:
        size = scene.image.shape[0]

        def grouped(outputs: dict[str, Tensor]) -> Poses:
            return model.decode(outputs, [[size, size]])[0]  # by the quick grouping: the people are the same

        drawn = rendered_people(
            lambda points, rng: render(points, size, rng), grouped, len(scene.boxes), size, number, seed
        )
        return {name: value.to(device) for name, value in drawn.items()}

    maps = {id(scene): outputs_for(scene, i) for images in scenes.values() for i, scene in enumerate(images)}

    def network(scene: Scene, _) -> dict[str, Tensor]:
        return forward(normalise(scene.image[None], model.input.mean, model.input.std, device))

    def people(scene: Scene, _) -> Poses:
        poses = model.decode(maps[id(scene)], [list(scene.image.shape[1::-1])], **options)[0]
        if len(poses) != len(scene.boxes):
            raise RuntimeError(f"{len(scene.boxes)} people were rendered and {len(poses)} came out")
        return poses

    return {"F": network, "P": people}


def rendered_people(render: Callable, grouped: Callable, count: int, size: int, number: int = 0, seed: int = 0):
    """Outputs for `count` drawn people side by side, of which the grouping finds as many; see `rendered`.

    number: of several scenes with as many people.
    """
    drawn = Scenes(style="people", seed=seed, count=PEOPLE, size=512, people=(1, 1), workers=1)

    def arranged(attempt: int) -> np.ndarray:
        rng = np.random.default_rng((seed, count, attempt))
        chosen = rng.choice(PEOPLE, count, replace=False)
        return side_by_side([np.asarray(drawn.target(i)["keypoints"][0], float) for i in chosen], size, rng)

    return rendered(render, grouped, count, arranged, seed + 1000 * number)
