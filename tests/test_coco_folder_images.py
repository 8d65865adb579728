"""Images of a COCO folder: of every kind, damaged, or gone."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_coco_folder import H, W, content, resize, truncate, write

from posekit.data.coco import CocoFolder
from posekit.data.images import DataError, is_truncated


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "I;16", "exif"])
def test_pictures_of_every_kind(tmp_path, mode):
    data = content()
    png = mode in ("P", "RGBA", "I;16")
    data["images"][0]["file_name"] = "a.png" if png else "a.jpg"
    write(tmp_path, data)
    ramp = np.tile(np.linspace(20, 230, W).astype(np.uint8), (H, 1))
    picture = Image.fromarray(np.stack([ramp] * 3, axis=2))
    options = {}
    if mode == "exif":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6  # "turn me by 90 degrees": COCO annotates the stored pixels
    elif mode == "I;16":
        picture = Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode, palette=Image.Palette.ADAPTIVE)
    picture.save(tmp_path / "train2017" / data["images"][0]["file_name"], **options)
    pixels = CocoFolder(tmp_path, on_error="skip").image(0)
    assert pixels.shape == (H, W, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels[..., 0].astype(int) - ramp).mean() < 12


def test_channels_are_red_green_blue(tmp_path):
    write(tmp_path, content())
    Image.new("RGB", (W, H), (250, 10, 60)).save(tmp_path / "train2017" / "0001.jpg")
    assert np.abs(CocoFolder(tmp_path).image(0)[5, 5].astype(int) - (250, 10, 60)).max() < 6


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncate, r"image 2: '.*0002.jpg' is truncated"),
        (resize, r"image 2: '.*0002.jpg' is 61 x 40 pixels, but the annotations say 60 x 40"),
        (lambda path: path.write_bytes(b"hello"), r"image 2: '.*0002.jpg' is not an image"),
        (lambda path: path.write_bytes(b""), r"image 2: '.*0002.jpg' is not an image"),
        (Path.unlink, r"image 2: there is no (picture|image) '.*0002.jpg'"),
    ],
)
def test_bad_pictures(tmp_path, damage, sentence):
    write(tmp_path, content())
    damage(tmp_path / "train2017" / "0002.jpg")
    with pytest.raises(DataError, match=sentence) as caught:
        CocoFolder(tmp_path).image(1)
    assert "\n" not in str(caught.value)
    folder = CocoFolder(tmp_path, on_error="skip")
    assert folder.ids == [1, 3] and len(folder.skipped) == 1
    assert {row["image_id"] for row in folder.ground_truth["annotations"]} == {1}


def test_a_picture_that_vanishes_later(tmp_path):
    write(tmp_path, content())
    folder = CocoFolder(tmp_path)
    (tmp_path / "train2017" / "0001.jpg").unlink()
    with pytest.raises(DataError, match=r"image 1: there is no (picture|image)"):
        folder.image(0)


def test_truncation_looks_behind_the_thumbnail(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)
    jpeg, png = (cv2.imencode(kind, picture)[1].tobytes() for kind in (".jpg", ".png"))
    thumbnail = b"\xff\xd8\xff\xe1" + jpeg[2:]
    assert not is_truncated(jpeg) and not is_truncated(jpeg + b"\0\0camera maker's note")
    assert is_truncated(jpeg[:-2]) and is_truncated(jpeg[: len(jpeg) // 2])
    assert is_truncated(thumbnail + jpeg[2:-40])
    assert not is_truncated(png) and is_truncated(png[: len(png) // 2])
