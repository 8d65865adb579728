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

from posekit.data.augment import Augment
from posekit.data.pictures import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Loader:
    """`Loader(dataset, Augment("scenes", size=128), batch_size=16).epoch(0)` yields batches.

    A batch is a dict: `images` float32 (B, 3, H, W), RGB, (x / 255 - mean) / std, 0 in the padding;
    `padding_mask` bool (B, H, W), True = padding, or None if nothing is padded; `targets`: per image a dict
    of tensors `keypoints` (n, K, 2) px of the network input, `visibility` (n, K), `boxes` (n, 4), `areas`
    (n,), `ignore` (m, 4), `size` (2,) = (width, height) without padding, `to_original` (2, 3), and `image_id`
    (an int).

    `augment`: anything called with (image, target, rng); None leaves pictures as they are. `augment.size`, if
    set, is the side of the square that every picture is padded to. `workers=0` works in this process; more
    start processes, kept from epoch to epoch. `device`: images travel there as bytes and are normalised
    there; targets stay on the CPU.

    `drop_last` leaves out an incomplete batch, unless it is the only one. `rank` of `world` processes gets its share.

    A picture that cannot be read stops with its `DataError`; if the data set was opened with on_error="skip"
    it is left out of its batch and added to `dataset.skipped`.
    """

    def __init__(
        self,
        dataset,
        augment=None,
        batch_size: int = 16,
        seed: int = 0,
        shuffle: bool = True,
        workers: int = 0,
        drop_last: bool = False,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
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
        self.rank, self.world = rank, world
        self.device = torch.device(device)
        self.mean = torch.tensor(mean, device=self.device).view(3, 1, 1) * 255
        self.scale = 1 / (torch.tensor(std, device=self.device).view(3, 1, 1) * 255)
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
        for stack in self._stacks(batches):
            batch = self._finish(stack)
            if batch is not None:
                yield batch

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

    def _finish(self, stack: dict) -> dict | None:
        """Count the failures, normalise the images."""
        for index, sentence in stack["failures"]:
            if getattr(self.dataset, "on_error", "raise") != "skip":
                raise DataError(sentence)
            self.dataset.skip(index, sentence)
        if not stack["targets"]:
            return None
        pixels, sizes = stack["pixels"].to(self.device, non_blocking=True), stack["sizes"]
        _, height, width, _ = pixels.shape
        images = torch.empty((len(sizes), 3, height, width), device=self.device)
        images.copy_(pixels.permute(0, 3, 1, 2))
        images.sub_(self.mean).mul_(self.scale)
        mask = None
        if any(size != (width, height) for size in sizes):
            mask = torch.ones((len(sizes), height, width), dtype=torch.bool, device=self.device)
            for b, (w, h) in enumerate(sizes):
                mask[b, :h, :w] = False
                images[b, :, h:] = 0
                images[b, :, :h, w:] = 0
        return {"images": images, "padding_mask": mask, "targets": stack["targets"]}


class Items:
    """`items[epoch, index]`: (picture, target, to_original, image id, padded size), or (index, why there is
    none)."""

    def __init__(self, dataset, augment, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple:
        epoch, index = key
        try:
            image = self.dataset.image(index)
        except DataError as error:
            return index, str(error)
        rng = np.random.default_rng((self.seed, epoch, index))
        image, target, to_original = self.augment(image, self.dataset.target(index), rng)
        return image, target, to_original, int(self.dataset.ids[index]), getattr(self.augment, "size", None)


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
    sizes = [(item[0].shape[1], item[0].shape[0]) for item in items]
    fixed = [item[4] or 0 for item in items]
    width = max([w for w, _ in sizes] + fixed, default=0)
    height = max([h for _, h in sizes] + fixed, default=0)
    full = all(size == (width, height) for size in sizes)
    pixels = (torch.empty if full else torch.zeros)((len(items), height, width, 3), dtype=torch.uint8)
    view, targets = pixels.numpy(), []
    for b, (image, target, to_original, image_id, _) in enumerate(items):
        view[b, : image.shape[0], : image.shape[1]] = image
        tensors = {name: torch.from_numpy(values) for name, values in target.items()}
        targets.append({**tensors, "to_original": torch.from_numpy(to_original), "image_id": image_id})
    return {"pixels": pixels, "sizes": sizes, "targets": targets, "failures": failures}


def _quiet_worker(_: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # one thread per worker: the processes are the parallelism
