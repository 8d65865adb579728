"""Batches: images read, augmented and stacked, every one a pure function of (seed, epoch, index).

An epoch's order depends on (seed, epoch) and each image's augmentation on (seed, epoch, index) alone, so that a run
resumed at step `start` of an epoch sees exactly the batches that it would have seen, with any number of workers.

Shapes: B images in a batch, padded at the right and the bottom to the largest H and W among them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from functools import cached_property

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from posekit.data.augment import Augment
from posekit.data.images import DataError
from posekit.data.transforms import frame_of, mask_padding, normalise, stack
from posekit.input_spec import IMAGENET
from posekit.protocols import PoseDataset


class Loader:
    """`Loader(dataset, Augment("scenes", size=128), batch_size=16).epoch(0)` yields batches.

    A batch is a dict: `images` float32 (B, 3, H, W), RGB, (x / 255 - mean) / std, 0 in the padding; `padding_mask` bool
    (B, H, W), True = padding, or None if nothing is padded; `sizes` (B, 2) = (width, height) without padding;
    `to_original` (B, 2, 3), network input -> image; `targets`: per image a dict of tensors `keypoints` (n, K, 2) px of
    the network input, `visibility` (n, K), `boxes` (n, 4), `areas` (n,), `ignore` (m, 4), `size` (2,), `to_original`
    (2, 3), and `image_id` (an int); `number`: its place in the epoch, from 0 (batches of which no image can be read are
    missing).

    `augment`: anything called with (image, target, rng); None leaves images as they are. An object with a method
    `mix(dataset, index, rng) -> (image, target, to_original, broken)` reads its images itself, because it needs several
    (see mosaic.py). `augment.size`, if set, is the side of the square, or the (height, width), that every image is
    padded to. `workers=0` works in this process; more start processes, kept from epoch to epoch. `device`: images
    travel there as bytes and are normalised there; targets stay on the CPU.

    `sizes`: the longer side of every batch becomes one of them by bilinear resizing, with keypoints, boxes, areas,
    `size` and `to_original`; which one depends on (seed, epoch, number of the batch) alone. The other side keeps the
    shape as well as a multiple of 32 can.

    `drop_last` leaves out an incomplete batch, unless it is the only one. `rank` of `world` processes gets its share.

    An image that cannot be read stops with its `DataError`; if the data set was opened with on_error="skip" it is left
    out of its batch (a mosaic takes another partner) and added to `dataset.skipped`.
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
        sizes: Sequence[int] = (),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if any(size < 1 for size in sizes):
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
        self.mean, self.std, self.device = mean, std, torch.device(device)
        self._keys: list[tuple[int, int]] = []  # what the pool reads next: (epoch, index in the data set)

    def __len__(self) -> int:
        """Batches in an epoch (of this process)."""
        whole, rest = divmod(len(self.dataset) // self.world, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """The dataset indices of this process in this epoch's order: every `world`-th, equally many for all."""
        indices = np.arange(len(self.dataset))
        if self.shuffle:
            # The spawn key keeps this stream apart from the images': numpy pads (seed, epoch) to (seed, epoch, 0).
            stream = np.random.SeedSequence((self.seed, epoch), spawn_key=(1,))
            np.random.default_rng(stream).shuffle(indices)
        return indices[self.rank :: self.world][: len(indices) // self.world]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        """The batches of an epoch, from batch `start` on."""
        self._keys[:] = [(epoch, int(index)) for index in self.order(epoch)[start * self.batch_size :]]
        try:
            for number, (pixels, targets, failures) in enumerate(self._pool, start):
                for index, sentence in failures:
                    if getattr(self.dataset, "on_error", "raise") != "skip":
                        raise DataError(sentence)
                    self.dataset.skip(index, sentence)
                if targets:
                    yield self._batch(pixels, targets, self.size_of(epoch, number)) | {"number": number}
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            del self._pool
            raise RuntimeError(
                f"a data worker died while reading '{self.dataset.name}' ({error}); "
                "if memory is short, use fewer workers (workers=0 reads in this process)"
            ) from None

    def size_of(self, epoch: int, number: int) -> int | None:
        """The entry of `sizes` that batch `number` of an epoch gets, the same in all processes."""
        if not self.sizes:
            return None
        stream = np.random.SeedSequence((self.seed, epoch, number), spawn_key=(2,))
        return self.sizes[np.random.default_rng(stream).integers(len(self.sizes))]

    @cached_property
    def _pool(self) -> DataLoader:
        items = Items(self.dataset, self.augment, self.seed)
        return DataLoader(
            items,
            self.batch_size,
            sampler=self._keys,
            drop_last=self.drop_last,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=items.stack,
            worker_init_fn=_quiet_worker,
            generator=torch.Generator(),  # it draws a seed for the workers, and the model's stream must not notice
        )

    def _batch(self, pixels: Tensor, targets: list[dict], longest: int | None) -> dict:
        images = normalise(pixels, self.mean, self.std, self.device)
        if longest is not None:
            images = resize_batch(images, targets, longest)
        sizes, to_original = (torch.stack([target[name] for target in targets]) for name in ("size", "to_original"))
        mask = mask_padding(images, sizes)
        return {"images": images, "padding_mask": mask, "targets": targets, "sizes": sizes, "to_original": to_original}


def resize_batch(images: Tensor, targets: list[dict], longest: int) -> Tensor:
    """Images (B, 3, H, W) resized bilinearly so that their longer side is `longest`; `targets` change with them."""
    height, width = images.shape[2:]
    shorter = max(round(longest * min(width, height) / max(width, height) / 32) * 32, 32)
    new = (longest if width >= height else shorter, longest if height >= width else shorter)
    if (width, height) == new:
        return images
    x, y = new[0] / width, new[1] / height
    factor = torch.tensor([x, y])
    for target in targets:
        target["keypoints"] = target["keypoints"] * factor
        target["boxes"], target["ignore"] = target["boxes"] * factor.repeat(2), target["ignore"] * factor.repeat(2)
        target["areas"] = target["areas"] * (x * y)
        w, h = target["size"].tolist()
        target["size"] = torch.tensor([round(w * x), round(h * y)])
        back = target["to_original"]
        target["to_original"] = torch.cat([back[:, :2] / factor, back[:, 2:]], dim=1)
    return F.interpolate(images, size=new[::-1], mode="bilinear", align_corners=False)


class Items(Dataset):
    """`items[epoch, index]`: (image, target as tensors, failures), and how they become a batch.

    A failure is (index, sentence): of the image itself, which then is None, or of a partner that was replaced.
    """

    def __init__(self, dataset: PoseDataset, augment, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray | None, dict, list[tuple[int, str]]]:
        epoch, index = key
        rng, broken = np.random.default_rng((self.seed, epoch, index)), []
        try:
            if hasattr(self.augment, "mix"):
                image, target, to_original, broken = self.augment.mix(self.dataset, index, rng)
            else:
                image = self.dataset.image(index)
                image, target, to_original = self.augment(image, self.dataset.target(index), rng)
        except DataError as error:
            return None, {}, [(index, str(error))]
        tensors = {name: torch.from_numpy(values) for name, values in (target | {"to_original": to_original}).items()}
        return image, tensors | {"image_id": int(self.dataset.ids[index])}, broken

    def stack(self, items: list[tuple]) -> tuple[Tensor, list[dict], list[tuple[int, str]]]:
        """(pixels uint8 (B, H, W, 3), targets, failures)."""
        size = getattr(self.augment, "size", None)
        frame = (0, 0) if size is None else frame_of(size)
        read = [(image, target) for image, target, _ in items if image is not None]
        pixels = torch.from_numpy(stack([image for image, _ in read], frame))
        return pixels, [target for _, target in read], [failure for *_, failures in items for failure in failures]


def _quiet_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the first one decides
    cv2.setNumThreads(0)  # one thread per worker: the processes are the parallelism
