"""The bottom-up methods of POET's speed comparison: associative embedding and OpenPose, as `timing.measure` runs them.

F = normalisation and forward of the network with random weights, whose maps are thrown away; P = grouping of maps that
were rendered before (rendered.py): with random weights there would be dozens of people.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from posebook.benchmarks.rendered import part_maps, rendered, side_by_side, tag_maps
from posebook.benchmarks.timing import Clock, Method, Scene
from posekit.data.drawn.scenes import Scenes
from posekit.data.transforms import normalise
from posekit.layouts import COCO
from posekit.models.associative_embedding import flip_test

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
    drawn = Scenes(style="people", seed=seed, count=PEOPLE, size=512, people=(1, 1), workers=1)
    people = [np.asarray(drawn.target(i)["keypoints"][0], float) for i in range(PEOPLE)]
    maps: dict[int, tuple[dict[str, Tensor], int]] = {}  # id of a scene -> rendered outputs, people
    for count, images in scenes.items():
        for number, scene in enumerate(images):
            size = scene.image.shape[0]

            def arranged(attempt: int, count=count, size=size) -> np.ndarray:
                rng = np.random.default_rng((seed, count, attempt))
                return side_by_side([people[i] for i in rng.choice(PEOPLE, count, replace=False)], size, rng)

            def decode(outputs: dict[str, Tensor], size=size):
                return model.decode(outputs, [[size, size]], **options)[0]

            def drawn_maps(keypoints: np.ndarray, rng: np.random.Generator, size=size) -> dict[str, Tensor]:
                return render(keypoints, size, rng)

            outputs = rendered(drawn_maps, decode, count, arranged, seed + 1000 * number)
            maps[id(scene)] = {name: value.to(device) for name, value in outputs.items()}, count

    def run(scene: Scene, clock: Clock) -> None:
        forward(normalise(scene.image[None], model.input.mean, model.input.std, device))
        clock.lap("F")
        outputs, count = maps[id(scene)]
        poses = model.decode(outputs, [list(scene.image.shape[1::-1])], **options)[0]
        clock.lap("P")
        if len(poses) != count:
            raise RuntimeError(f"{count} people were rendered and {len(poses)} came out")

    return run
