"""Which images of a data set a page looks into, chosen by their annotation or by what a run scored on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from posekit.data.drawn.cache import scaled
from posekit.data.drawn.scenes import Scenes, draw
from posekit.evaluation.pairing import pair_people
from posekit.poses import Poses

SHARP = 384  # pixels of a drawn image in a figure


@dataclass
class Subset:
    """Some images of a data set, in the order of `indices`, as a data set."""

    whole: object
    indices: list[int]

    def __post_init__(self) -> None:
        self.name, self.layout, self.category_id = self.whole.name, self.whole.layout, self.whole.category_id
        self.ids = [self.whole.ids[i] for i in self.indices]
        self.area_scale = getattr(self.whole, "area_scale", 1.0)

    @property
    def ground_truth(self) -> dict:
        """The annotations of these images alone, as COCO has them."""
        whole, chosen = self.whole.ground_truth, set(self.ids)
        images = [row for row in whole["images"] if row["id"] in chosen]
        return whole | {"images": images, "annotations": [r for r in whole["annotations"] if r["image_id"] in chosen]}

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, place: int) -> np.ndarray:
        return self.whole.image(self.indices[place])

    def target(self, place: int) -> dict[str, np.ndarray]:
        return self.whole.target(self.indices[place])


def by_image(matches: pd.DataFrame) -> pd.DataFrame:
    """Mean OKS of the labelled people of each image, best first: image_id, oks, people."""
    people = matches[matches.labelled > 0].groupby("image_id", as_index=False)
    table = people.agg(oks=("oks", "mean"), people=("oks", "size"))
    return table.sort_values(["oks", "image_id"], ascending=[False, True], ignore_index=True)


def examples(files, count: int = 4, people: int = 2) -> tuple[list[tuple], list[tuple]]:
    """(best, worst): up to `count` images each by the mean OKS of their labelled people; no image is in both.

    Only images with at least `people` of them, where there are enough. Each as `example` makes it. files:
    `reports.RunFiles` of an evaluation.
    """
    ranked = by_image(files.table("matches"))
    if (ranked.people >= people).sum() >= 2 * count:
        ranked = ranked[ranked.people >= people]
    count, nobody = min(count, (len(ranked) + 1) // 2), Poses.nobody(len(files.data.layout))

    def shown(row) -> tuple:
        return example(files.data, row.image_id, files.predictions.get(row.image_id, nobody), row.oks)

    rows = list(ranked.itertuples())
    return [shown(row) for row in rows[:count]], [shown(row) for row in rows[count:][::-1][:count]]


def example(data, image_id: int, poses: Poses, oks: float) -> tuple:
    """(image, Poses, target, mean OKS) as `figures.people.gallery` takes it.

    Drawn people are drawn anew, `SHARP` pixels wide: the same scene, but what a tiny network sees is blurred on paper.
    """
    i = data.ids.index(image_id)
    image, target = data.image(i), data.target(i)
    if isinstance(data, Scenes) and data.size < SHARP:
        scale = SHARP / data.size
        image, _ = draw(data.style, data.seed, i, SHARP, data.people)
        poses, target = poses.transform(np.eye(2, 3) * scale), scaled(target, scale)
    return image, poses, target, oks


def thirds(files, indices: Iterable[int], count: int) -> dict[str, list[tuple]]:
    """{"best": ..., "median": ..., "worst": ...}: `count` examples each, by the mean OKS of an image's people.

    The run of `files` (`reports.RunFiles`) looks at these images of its data. People and poses are paired by the
    largest sum of OKS; images without a labelled person are left out.
    """
    data = files.data
    seen = [(i, target, poses) for i in indices for _, target, poses, *_ in files.run_model([i])]
    numbers, targets, found = zip(*seen, strict=True)
    pairs = pair_people(found, targets, data.layout.sigmas)
    labelled = (pairs.true_visibility > 0).any(1)
    means = pd.Series(pairs.oks[labelled]).groupby(pairs.image[labelled]).mean().sort_values(ascending=False)
    start = max((len(means) - count) // 2, 0)
    parts = {"best": means[:count], "median": means[start : start + count], "worst": means[::-1][:count]}
    return {
        name: [example(data, data.ids[numbers[i]], found[i], oks) for i, oks in part.items()]
        for name, part in parts.items()
    }


def crowded(data, people: int = 4, first: int = 0) -> int:
    """Index of the first image from `first` on with `people` people (or the nearest number, if none has).

    An image to look into: chosen by its annotation, not by how well a model does on it.
    """
    counts = np.array([len(data.target(i)["areas"]) for i in range(len(data))])
    off = np.abs(np.roll(counts, -first) - people)
    return int((first + off.argmin()) % len(data))
