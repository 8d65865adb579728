"""Batches: pictures read, augmented and stacked, every one a pure function of (seed, epoch, index).

An epoch's order depends on (seed, epoch) and each picture's augmentation on (seed, epoch, index) alone, so
that a run resumed at step `start` of an epoch sees exactly the batches that it would have seen, with any
number of workers.

Shapes: B images in a batch, padded at the right and the bottom to the largest H and W among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from posekit.data.augment import Augment
from posekit.data.images import DataError
from posekit.data.transforms import frame_of, mask_padding, normalise, stack
from posekit.input_spec import IMAGENET
from posekit.protocols import PoseDataset

WHOLE = {"sizes": "size", "to_original": "to_original"}  # what a batch holds of all its targets


class Loader:
    """`Loader(dataset, Augment("scenes", size=128), batch_size=16).epoch(0)` yields batches.

    A batch is a dict: `images` float32 (B, 3, H, W), RGB, (x / 255 - mean) / std, 0 in the padding; `padding_mask` bool
    (B, H, W), True = padding, or None if nothing is padded; `sizes` (B, 2) = (width, height) without padding;
    `to_original` (B, 2, 3), network input -> image; `targets`: per image a dict of tensors `keypoints` (n, K, 2) px of
    the network input, `visibility` (n, K), `boxes` (n, 4), `areas` (n,), `ignore` (m, 4), `size` (2,), `to_original`
    (2, 3), and `image_id` (an int); `number`: its place in the epoch, from 0 (batches of which no image can be read are
    missing).

    `augment`: anything called with (image, target, rng); None leaves pictures as they are. An object with a
    method `mix(dataset, index, rng) -> (image, target, to_original, broken)` reads its pictures itself, because
    it needs several (see mosaic.py). `augment.size`, if set, is the side of the square, or the (height, width),
    that every picture is padded to. `workers=0` works in this process; more
    start processes, kept from epoch to epoch. `device`: images travel there as bytes and are normalised
    there; targets stay on the CPU.

    `sizes`: every batch is resized bilinearly to one of them, with keypoints, boxes, areas, `size` and
    `to_original`; which one depends on (seed, epoch, number of the batch) alone. A number is the longer side (the
    other one keeps the shape as well as a multiple of 32 can); a pair is (height, width).

    `drop_last` leaves out an incomplete batch, unless it is the only one. `rank` of `world` processes gets its share.

    A picture that cannot be read stops with its `DataError`; if the data set was opened with on_error="skip"
    it is left out of its batch (a mosaic takes another partner) and added to `dataset.skipped`.
    """

    def __init__(
        self,
        dataset: PoseDataset,
        augment=None,
        batch_size: int = 16,
        seed: int = 0,
        shuffle: bool = True,
        workers: int = 0,
        drop_last: bool = False,
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
        sizes: Sequence[int | tuple[int, int]] = (),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if any(min(frame_of(size)) < 1 for size in sizes):
            raise ValueError(f"sizes are whole numbers of pixels, at least 1, not {list(sizes)}")
        augment = augment or Augment("none", dataset.layout)
        mine, theirs = len(getattr(augment, "layout", dataset.layout)), len(dataset.layout)
        if mine != theirs:
            raise ValueError(
                f"the augmentation is made for {mine} keypoints, the data set has {theirs}: "
                "give Augment(..., layout=dataset.layout)"
            )
        self.dataset, self.augment, self.batch_size = dataset, augment, batch_size
        self.seed, self.shuffle, self.workers = seed, shuffle, workers
        self.drop_last = drop_last and len(dataset) // world > batch_size
        self.rank, self.world, self.sizes = rank, world, tuple(sizes)
        self.device = torch.device(device)
        self.mean, self.std = mean, std
        self._items = Items(dataset, self.augment, seed)
        self._plan = Plan()
        self._pool = None

    def __len__(self) -> int:
        """Batches in an epoch (of this process)."""
        whole, rest = divmod(len(self.dataset) // self.world, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """The dataset indices of this process in this epoch's order: every `world`-th, equally many for all."""
        indices = np.arange(len(self.dataset))
        if self.shuffle:
            # The spawn key keeps this stream apart from the items': numpy pads (seed, epoch) to (seed, epoch,
            # 0).
            stream = np.random.SeedSequence((self.seed, epoch), spawn_key=(1,))
            np.random.default_rng(stream).shuffle(indices)
        return indices[self.rank :: self.world][: len(indices) // self.world]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        """The batches of an epoch, from batch `start` on."""
        order = self.order(epoch)
        batches = [
            [(epoch, int(i)) for i in order[first : first + self.batch_size]]
            for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size)
        ]
        for number, raw in enumerate(self._stacks(batches), start):
            batch = self._finish(raw, self.size_of(epoch, number))
            if batch is not None:
                yield {**batch, "number": number}

    def size_of(self, epoch: int, number: int) -> int | tuple[int, int] | None:
        """The entry of `sizes` that batch `number` of an epoch gets, the same in all processes."""
        if not self.sizes:
            return None
        stream = np.random.SeedSequence((self.seed, epoch, number), spawn_key=(2,))
        return self.sizes[np.random.default_rng(stream).integers(len(self.sizes))]

    def _stacks(self, batches: list) -> Iterator[dict]:
        if not self.workers:
            for batch in batches:
                yield stack_items([self._items[key] for key in batch])
            return
        if self._pool is None:
            self._pool = torch.utils.data.DataLoader(
                self._items,
                batch_sampler=self._plan,
                num_workers=self.workers,
                collate_fn=stack_items,
                persistent_workers=True,
                worker_init_fn=_quiet_worker,
            )
        self._plan.batches = batches
        try:
            yield from self._pool
        except RuntimeError as error:
            if "DataLoader worker" in str(error):
                self._pool = None
                raise RuntimeError(
                    f"a data worker died while reading '{self.dataset.name}' ({error}); "
                    "if memory is short, use fewer workers (workers=0 reads in this process)"
                ) from None
            raise

    def _finish(self, raw: dict, size: int | tuple[int, int] | None = None) -> dict | None:
        """Count the failures, normalise the images, resize the batch to `size`."""
        for index, sentence in raw["failures"]:
            if getattr(self.dataset, "on_error", "raise") != "skip":
                raise DataError(sentence)
            self.dataset.skip(index, sentence)
        if not raw["targets"]:
            return None
        images, targets = normalise(raw["pixels"], self.mean, self.std, self.device), raw["targets"]
        sizes = raw["sizes"]
        if size is not None:
            new = resized(images.shape[3], images.shape[2], size)
            images, sizes = resize_batch(images, sizes, targets, new)
        mask = mask_padding(images, sizes)
        whole = {name: torch.stack([target[key] for target in targets]) for name, key in WHOLE.items()}
        return {"images": images, "padding_mask": mask, "targets": targets, **whole}


def resized(width: int, height: int, size: int | tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a batch of width x height when its longer side, or its (height, width), becomes `size`."""
    if not isinstance(size, (int, np.integer)):
        return frame_of(size)
    other = max(round(size * min(width, height) / max(width, height) / 32) * 32, 32)
    if width == height:
        return int(size), int(size)
    return (size, other) if width > height else (other, size)


def resize_batch(
    images: torch.Tensor, sizes: list[tuple[int, int]], targets: list[dict], new: tuple[int, int]
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Images (B, 3, H, W) resized bilinearly to `new` = (width, height), `sizes` and `targets` (in place) with
    them."""
    width, height = images.shape[3], images.shape[2]
    if (width, height) == new:
        return images, sizes
    images = F.interpolate(images, size=new[::-1], mode="bilinear", align_corners=False)
    x, y = new[0] / width, new[1] / height
    factor, sizes = torch.tensor([x, y]), [(round(w * x), round(h * y)) for w, h in sizes]
    for target, size in zip(targets, sizes, strict=True):
        target["keypoints"] = target["keypoints"] * factor
        target["boxes"], target["ignore"] = target["boxes"] * factor.repeat(2), target["ignore"] * factor.repeat(2)
        target["areas"] = target["areas"] * (x * y)
        target["size"] = torch.tensor(size)
        back = target["to_original"]
        target["to_original"] = torch.cat([back[:, :2] / factor, back[:, 2:]], dim=1)
    return images, sizes


class Items:
    """`items[epoch, index]`: (picture, target, to_original, image id, padded size, broken partners), or (index,
    why there is none)."""

    def __init__(self, dataset: PoseDataset, augment, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple:
        epoch, index = key
        rng, broken = np.random.default_rng((self.seed, epoch, index)), []
        try:
            if hasattr(self.augment, "mix"):
                image, target, to_original, broken = self.augment.mix(self.dataset, index, rng)
            else:
                image = self.dataset.image(index)
                image, target, to_original = self.augment(image, self.dataset.target(index), rng)
        except DataError as error:
            return index, str(error)
        size = getattr(self.augment, "size", None)
        return image, target, to_original, int(self.dataset.ids[index]), size, broken


class Plan:
    """The batch sampler of the worker pool: this epoch's lists of (epoch, index)."""

    def __init__(self) -> None:
        self.batches: list = []

    def __iter__(self) -> Iterator[list]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def stack_items(items: list) -> dict:
    """Items -> {pixels uint8 (B, H, W, 3), sizes [(w, h)], targets, failures}. Pictures touch the top-left
    corner."""
    failures = [item for item in items if len(item) == 2]
    items = [item for item in items if len(item) > 2]
    failures += [failure for item in items for failure in item[5]]
    sizes = [(item[0].shape[1], item[0].shape[0]) for item in items]
    frames = sizes + [frame_of(item[4]) for item in items if item[4] is not None]
    pixels, targets = stack([item[0] for item in items], frames), []
    for _, target, to_original, image_id, *_ in items:
        tensors = {name: torch.from_numpy(values) for name, values in target.items()}
        targets.append({**tensors, "to_original": torch.from_numpy(to_original), "image_id": image_id})
    return {"pixels": torch.from_numpy(pixels), "sizes": sizes, "targets": targets, "failures": failures}


def _quiet_worker(_: int) -> None:
    import signal

    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the first one decides
    cv2.setNumThreads(0)  # one thread per worker: the processes are the parallelism
