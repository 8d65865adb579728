"""Batches: exact resumption, padding, normalisation, workers; what a bad picture or a dead worker says."""

import os
import signal

import numpy as np
import pytest
import torch

from posekit.data.augment import Augment
from posekit.data.loader import IMAGENET_MEAN, IMAGENET_STD, Loader
from posekit.data.pictures import DataError
from posekit.layouts import COCO, CROWDPOSE


class Pictures:
    """Ten random pictures; those in `bad` cannot be read, `deadly` kills the process that reads it."""

    layout, name = COCO, "pictures"

    def __init__(self, sizes=((40, 30),), bad=(), deadly=None, on_error="raise"):
        rng = np.random.default_rng(5)
        self.pixels = [
            rng.integers(0, 255, (h, w, 3), dtype=np.uint8)
            for w, h in (sizes[i % len(sizes)] for i in range(10))
        ]
        self.ids = list(range(100, 110))
        self.bad, self.deadly, self.on_error, self.skipped, self.left_out = bad, deadly, on_error, [], []

    def __len__(self):
        return len(self.pixels)

    def image(self, i):
        if i == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if i in self.bad:
            raise DataError(f"image {self.ids[i]}: 'x.jpg' is truncated")
        return self.pixels[i]

    def skip(self, i, sentence):
        self.left_out.append(i)
        self.skipped.append(sentence)

    def target(self, i):
        n = i % 3
        return {
            "keypoints": np.full((n, 17, 2), 8, np.float32),
            "visibility": np.full((n, 17), 2, np.uint8),
            "boxes": np.tile(np.float32([2, 2, 20, 20]), (n, 1)),
            "areas": np.full(n, 200, np.float32),
            "ignore": np.float32([[1, 1, 5, 5]]),
        }


def same(one, two):
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


AUGMENT = Augment("scenes", size=32, rotation=20, zoom=0.2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_gives_the_same_batches(workers):
    whole = list(Loader(Pictures(), AUGMENT, 3, seed=4).epoch(7))
    loader = Loader(Pictures(), AUGMENT, 3, seed=4, workers=workers)
    assert len(whole) == len(loader) == 4
    abandoned = loader.epoch(2)
    next(abandoned)
    del abandoned
    for start in range(4):
        assert same(list(loader.epoch(7, start)), whole[start:])
    assert not list(loader.epoch(7, 4))


def test_every_picture_once_per_epoch_in_a_new_order():
    loader = Loader(Pictures(), AUGMENT, 4, seed=1)
    seen = [
        [target["image_id"] for batch in loader.epoch(e) for target in batch["targets"]] for e in range(3)
    ]
    assert all(sorted(ids) == list(range(100, 110)) for ids in seen)
    assert seen[0] != seen[1] != seen[2]
    other = Loader(Pictures(), AUGMENT, 4, seed=2)
    assert (other.order(0) != loader.order(0)).any()
    plain = Loader(Pictures(), None, 4, shuffle=False)
    assert plain.order(5).tolist() == list(range(10))
    assert len(plain) == 3 and len(Loader(Pictures(), None, 4, drop_last=True)) == 2
    assert [len(b["targets"]) for b in Loader(Pictures(), None, 4, drop_last=True).epoch(0)] == [4, 4]
    assert [len(b["targets"]) for b in Loader(Pictures(), None, 64, drop_last=True).epoch(0)] == [10]


def test_order_and_first_picture_use_different_streams():
    shuffled = np.arange(10)
    np.random.default_rng((3, 1, 0)).shuffle(shuffled)
    assert (Loader(Pictures(), seed=3).order(1) != shuffled).any()


def test_normalisation_and_targets():
    data = Pictures()
    (batch,) = Loader(data, None, 10, shuffle=False).epoch(0)
    expected = (np.stack(data.pixels) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    assert batch["images"].dtype == torch.float32 and batch["images"].is_contiguous()
    assert np.abs(batch["images"].permute(0, 2, 3, 1).numpy() - expected).max() < 1e-5
    assert batch["padding_mask"] is None
    target = batch["targets"][2]
    shapes = {name: tuple(values.shape) for name, values in target.items() if name != "image_id"}
    assert shapes == {
        "keypoints": (2, 17, 2),
        "visibility": (2, 17),
        "boxes": (2, 4),
        "areas": (2,),
        "ignore": (1, 4),
        "size": (2,),
        "to_original": (2, 3),
    }
    assert target["image_id"] == 102 and target["size"].tolist() == [40, 30]
    assert target["to_original"].tolist() == [[1, 0, 0], [0, 1, 0]]


def test_padding_is_marked_and_zero():
    (batch,) = Loader(Pictures(sizes=((40, 30), (24, 48))), None, 10, shuffle=False).epoch(0)
    assert batch["images"].shape == (10, 3, 48, 40)
    mask = batch["padding_mask"]
    assert (~mask[0]).sum() == 40 * 30 and not mask[0, :30, :40].any()
    assert (~mask[1]).sum() == 24 * 48 and not mask[1, :48, :24].any()
    assert (batch["images"].permute(0, 2, 3, 1)[mask] == 0).all()
    assert (batch["images"][0, :, :30, :40] != 0).all()


def test_a_fixed_size_is_a_square_in_every_batch():
    for batch in Loader(
        Pictures(sizes=((40, 30), (24, 48))), Augment("none", size=64), 1, shuffle=False
    ).epoch(0):
        assert batch["images"].shape == (1, 3, 64, 64)
        width, height = batch["targets"][0]["size"].tolist()
        assert (~batch["padding_mask"]).sum() == width * height and max(width, height) == 64


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_picture_stops_with_one_sentence(workers):
    loader = Loader(Pictures(bad=[6]), None, 4, shuffle=False, workers=workers)
    with pytest.raises(DataError) as caught:
        list(loader.epoch(0))
    assert str(caught.value) == "image 106: 'x.jpg' is truncated"


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_pictures_can_be_left_out_and_are_counted(workers):
    data = Pictures(bad=[3, 4, 5], on_error="skip")
    batches = list(Loader(data, None, 3, shuffle=False, workers=workers).epoch(0))
    assert [target["image_id"] for b in batches for target in b["targets"]] == [
        100,
        101,
        102,
        106,
        107,
        108,
        109,
    ]
    assert data.left_out == [3, 4, 5] and len(data.skipped) == 3


def test_a_dead_worker_is_named():
    loader = Loader(Pictures(deadly=2), None, 4, shuffle=False, workers=1)
    with pytest.raises(RuntimeError, match="a data worker died while reading 'pictures' .*use fewer workers"):
        list(loader.epoch(0))


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        Loader(Pictures(), None, 0)


def test_the_augmentation_must_know_the_keypoints():
    with pytest.raises(ValueError, match="made for 14 keypoints, the data set has 17: give Augment.*layout"):
        Loader(Pictures(), Augment("none", CROWDPOSE))


def test_processes_share_the_pictures():
    data = Pictures()
    shares = [Loader(data, batch_size=2, rank=rank, world=3).order(4).tolist() for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    assert len({index for share in shares for index in share}) == 9
