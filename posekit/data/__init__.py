"""Data sets, augmentation and batches. `open_dataset` opens drawn people, or any folder in COCO's format."""

from __future__ import annotations

from pathlib import Path

from posekit.files import resolve

DRAWN = ("people", "crowd", "macaque")
DRAWN_COUNT = {"train": 12_000, "val": 300}


def open_dataset(
    spec: str | Path,
    split: str = "train",
    count: int | None = None,
    size: int | None = None,
    seed: int = 0,
    cache: str | Path | None = "data/cache",
    people: tuple[int, int] | None = None,
    **options,
):
    """The data set that `spec` names.

    "people", "crowd", "macaque": drawn scenes (`posekit.data.drawn.scenes.Scenes`) of `size` pixels (128) with
    `people` = (fewest, most) in each, or as many as the style usually has; `count` images (12,000 for "train", 300 for
    "val"), kept in the folder `cache`. The splits never share an image: they use the seeds 2 * seed and 2 * seed + 1.

    Otherwise a folder in COCO's format, or its JSON (`posekit.data.coco.CocoFolder`, which takes the `options`
    annotations, images, layout, on_error, with_people, category, outside, sigmas, flip_pairs); `count` limits the
    number of images. By default "train" keeps only images with labelled people; `size`, `seed`, `cache` and `people` do
    not apply. Relative paths start at the repository root, wherever a notebook runs.

    Raises:
        ValueError: an unknown spec or split, or a folder that cannot be used (`DataError`).
    """
    if split not in ("train", "val"):
        raise ValueError(f"a data set has the splits 'train' and 'val', not '{split}'")
    if str(spec) in DRAWN:
        from posekit.data.drawn.scenes import Scenes

        return Scenes(
            style=str(spec),
            seed=2 * seed + (split == "val"),
            count=DRAWN_COUNT[split] if count is None else count,
            size=size or 128,
            people=people,
            cache=None if cache is None else resolve(cache),
            **options,
        )
    if not resolve(spec).exists():
        raise ValueError(
            f"unknown data set '{spec}': give {' or '.join(repr(name) for name in DRAWN)} (drawn scenes), "
            f"or the path of a folder in COCO format (there is no folder '{resolve(spec)}')"
        )
    from posekit.data.coco import CocoFolder

    return CocoFolder(resolve(spec), split=split, count=count, **{"with_people": split == "train", **options})
