"""Batches: exact resumption, padding, normalisation, workers; what a bad picture or a dead worker says."""

import multiprocessing
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from posekit.data.augment import POLICIES, Augment
from posekit.data.images import DataError
from posekit.data.loader import Loader, resize_batch
from posekit.data.mosaic import Mosaic
from posekit.input_spec import IMAGENET
from posekit.layouts import COCO, CROWDPOSE


class Pictures:
    """Ten random pictures; those in `bad` cannot be read, `deadly` kills the process that reads it."""

    layout, name = COCO, "pictures"

    def __init__(self, sizes=((40, 30),), bad=(), deadly=None, on_error="raise"):
        rng = np.random.default_rng(5)
        self.pixels = [
            rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for w, h in (sizes[i % len(sizes)] for i in range(10))
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


AUGMENT = Augment(replace(POLICIES["scenes"], rotation=20, rotation_p=0.5), size=32)


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
    seen = [[target["image_id"] for batch in loader.epoch(e) for target in batch["targets"]] for e in range(3)]
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
    expected = (np.stack(data.pixels) / 255 - IMAGENET[0]) / IMAGENET[1]
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
    for batch in Loader(Pictures(sizes=((40, 30), (24, 48))), Augment("none", size=64), 1, shuffle=False).epoch(0):
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


class Mixing:
    """A `mix` that reads the picture and the next one; `broken` partners are reported."""

    size, layout = (32, 40), COCO

    def mix(self, dataset, index, rng):
        image, broken = dataset.image(index), []
        partner = (index + 1) % len(dataset)
        try:
            image = (image // 2 + dataset.image(partner) // 2)[:32, :40]
        except DataError as error:
            if dataset.on_error != "skip":
                raise
            broken.append((partner, str(error)))
        target = {**dataset.target(index), "size": np.array([40, 32])}
        noise = rng.integers(0, 9, (32, 40, 3), dtype=np.uint8)
        noise[: image.shape[0]] += image[:32, :40] // 2
        return noise, target, np.float32([[1, 0, 0], [0, 1, 0]]), broken


@pytest.mark.parametrize("workers", [0, 1])
def test_an_augmentation_may_read_other_pictures(workers):
    whole = list(Loader(Pictures(), Mixing(), 3, seed=4).epoch(7))
    assert [batch["images"].shape for batch in whole] == [(3, 3, 32, 40)] * 3 + [(1, 3, 32, 40)]
    assert all(batch["padding_mask"] is None for batch in whole)
    assert same(list(Loader(Pictures(), Mixing(), 3, seed=4, workers=workers).epoch(7, 2)), whole[2:])
    assert not same(list(Loader(Pictures(), Mixing(), 3, seed=5).epoch(7)), whole)
    assert not same(list(Loader(Pictures(), Mixing(), 3, seed=4).epoch(8)), whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_partner_follows_the_data_set(workers):
    with pytest.raises(DataError, match="image 105: 'x.jpg' is truncated"):
        list(Loader(Pictures(bad=[5]), Mixing(), 2, shuffle=False, workers=workers).epoch(0))
    data = Pictures(bad=[5], on_error="skip")
    batches = list(Loader(data, Mixing(), 2, shuffle=False, workers=workers).epoch(0))
    ids = [target["image_id"] for batch in batches for target in batch["targets"]]
    assert ids == [100, 101, 102, 103, 104, 106, 107, 108, 109]  # the partner is left out, the picture is not
    assert set(data.left_out) == {5} and "truncated" in data.skipped[0]


def test_mosaics_resume_exactly():
    def loader(workers=0):
        return Loader(Pictures(), Mosaic("rtmo", size=(64, 96)), 3, seed=2, workers=workers, sizes=(64, 96, 128))

    whole = list(loader().epoch(3))
    assert whole[0]["padding_mask"] is None and len({batch["images"].shape[2:] for batch in whole}) > 1
    assert same(list(loader(workers=1).epoch(3, 1)), whole[1:])


def test_sizes_are_a_pure_function_of_seed_epoch_and_batch():
    sizes = tuple(range(480, 801, 32))
    loader = Loader(Pictures(), None, 2, seed=3, sizes=sizes)
    drawn = [loader.size_of(epoch, number) for epoch in range(20) for number in range(20)]
    assert set(drawn) == set(sizes)
    other = Loader(Pictures(), None, 2, seed=3, sizes=sizes, rank=1, world=2)
    assert drawn == [other.size_of(epoch, number) for epoch in range(20) for number in range(20)]
    assert Loader(Pictures(), None, 2, seed=3).size_of(0, 0) is None
    with pytest.raises(ValueError, match="sizes are whole numbers of pixels, at least 1, not .*0"):
        Loader(Pictures(), None, 2, sizes=(0,))


FITS = [None, Augment("none", size=64), Augment("none", size=(48, 64), pad=114, align="centre")]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [96, 32])
def test_a_resized_batch_takes_its_targets_along(fit, size):
    data = Pictures(sizes=((40, 30), (24, 48)))
    (before,) = Loader(data, fit, 10, shuffle=False).epoch(0)
    (after,) = Loader(data, fit, 10, shuffle=False, sizes=(size,)).epoch(0)
    old, new = before["images"].shape[:1:-1], after["images"].shape[:1:-1]
    assert max(new) == size
    x, y = new[0] / old[0], new[1] / old[1]
    assert torch.allclose(
        after["images"].mean((2, 3))[2], before["images"].mean((2, 3))[2], atol=0.35
    )  # the same picture
    for one, two in zip(before["targets"], after["targets"], strict=True):
        factor = torch.tensor([x, y])
        assert torch.allclose(two["keypoints"], one["keypoints"] * factor)
        assert torch.allclose(two["boxes"], one["boxes"] * factor.repeat(2))
        assert torch.allclose(two["ignore"], one["ignore"] * factor.repeat(2))
        assert torch.allclose(two["areas"], one["areas"] * x * y)
        assert (two["size"] - one["size"] * factor).abs().max() <= 0.5
        back = [t["keypoints"] @ t["to_original"][:, :2].T + t["to_original"][:, 2] for t in (one, two)]
        assert torch.allclose(*back, atol=1e-3)
    mask = after["padding_mask"]
    assert (mask is None) == (before["padding_mask"] is None)
    if mask is not None:
        areas = [int(target["size"].prod()) for target in after["targets"]]
        assert (~mask).sum((1, 2)).tolist() == areas
        assert (after["images"].permute(0, 2, 3, 1)[mask] == 0).all()


def test_resizing_is_bilinear_in_the_frame_of_corners():
    """A ramp stays a ramp: pixel centres, not corners, are what a resize by s moves to s x."""
    ramp = torch.arange(64.0).add(0.5).expand(1, 3, 64, 64)
    target = {"keypoints": torch.zeros(0, 17, 2), "boxes": torch.zeros(0, 4), "ignore": torch.zeros(0, 4)}
    target |= {"areas": torch.zeros(0), "to_original": torch.eye(2, 3), "size": torch.tensor([64, 48])}
    resized = resize_batch(ramp, [target], 96)
    expected = (torch.arange(96.0) + 0.5) * 64 / 96
    assert (resized[0, 0, 5, 2:-2] - expected[2:-2]).abs().max() < 1e-4
    assert target["size"].tolist() == [96, 72]


def test_filled_pictures_have_no_mask():
    data = Pictures(sizes=((40, 30), (24, 48)))
    (batch,) = Loader(data, Augment("none", size=(32, 64), pad=114), 10, shuffle=False).epoch(0)
    assert batch["images"].shape == (10, 3, 32, 64) and batch["padding_mask"] is None
    grey = (torch.tensor(114 / 255) - torch.tensor(IMAGENET[0])) / torch.tensor(IMAGENET[1])
    assert torch.allclose(batch["images"][0, :, 5, -1], grey, atol=1e-5)
    assert all(target["size"].tolist() == [64, 32] for target in batch["targets"])
    (batch,) = Loader(data, Augment("none", size=(32, 64)), 10, shuffle=False).epoch(0)
    assert batch["images"].shape == (10, 3, 32, 64)
    assert (~batch["padding_mask"][0]).sum() == 32 * 43 and (~batch["padding_mask"][1]).sum() == 32 * 16


def test_batches_know_their_place_also_when_one_is_lost():
    lossy = Pictures(bad=(2, 3), on_error="skip")  # all of the second batch
    loader = Loader(lossy, None, 2, shuffle=False)
    assert [batch["number"] for batch in loader.epoch(0)] == [0, 2, 3, 4]
    again = [batch["targets"][0]["image_id"] for batch in loader.epoch(0, start=3)]
    assert again == [batch["targets"][0]["image_id"] for batch in loader.epoch(0)][2:]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C otherwise")
def test_data_workers_survive_ctrl_c(capfd):
    """The terminal sends it to every process; the first one decides what becomes of the work."""
    loader = Loader(Pictures(), None, 2, shuffle=False, workers=1)
    batches = loader.epoch(0)
    numbers = [next(batches)["number"]]
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGINT)
    assert numbers + [batch["number"] for batch in batches] == [0, 1, 2, 3, 4]
    assert "Traceback" not in capfd.readouterr().err
