"""What people hand over as an image: orientation, 16 bits, odd arrays, folders, files too large and no files."""

import json
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from posekit import models
from posekit.data import images as image_files
from posekit.data import open_dataset
from posekit.data.images import DataError, as_array, images_in, read_image
from posekit.inference import Predictor
from posekit.layouts import LAYOUTS

SCENE = np.random.default_rng(0).integers(0, 255, (6, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)  # 48 x 32
# How an upright scene is stored so that a viewer that obeys the orientation shows it upright (EXIF 2.3, table 6)
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
FORMATS = {".jpg": {"quality": 100, "subsampling": 0}, ".png": {}, ".webp": {"lossless": True}, ".tif": {}}


def phone(path, number, scene=SCENE):
    exif = Image.Exif()
    exif[0x0112] = number
    Image.fromarray(np.ascontiguousarray(STORED[number](scene))).save(path, exif=exif, **FORMATS[path.suffix])
    return path


def write_folder(root, images):
    """COCO's format: images (file name, width, height) with a person each; the pictures are not written."""
    rows = [{"id": i, "file_name": name, "width": w, "height": h} for i, (name, w, h) in enumerate(images, 1)]
    people = [
        {
            "id": i,
            "image_id": i,
            "category_id": 1,
            "iscrowd": 0,
            "bbox": [2, 2, 20, 20],
            "area": 200,
            "num_keypoints": 17,
            "keypoints": [5, 5, 2] * 17,
        }
        for i in range(1, len(rows) + 1)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(LAYOUTS["coco"].keypoints)}
    (root / "images").mkdir(exist_ok=True)
    content = {"images": rows, "annotations": people, "categories": [category]}
    (root / "people.json").write_text(json.dumps(content))


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_orientation_comes_out_upright(tmp_path, number, suffix):
    path = phone(tmp_path / f"a{suffix}", number)
    loaded = Image.open(path)
    loaded.load()
    for given_as in (path, str(path), Image.open(path), loaded):
        got = as_array(given_as).astype(int)
        assert got.shape == SCENE.shape and np.abs(got - SCENE).max() <= 6  # JPEG's loss at quality 100
    if suffix != ".tif":  # its decoders turn it in any case
        assert np.abs(read_image(path).astype(int) - STORED[number](SCENE)).max() <= 6


def test_a_size_that_the_orientation_explains_is_named(tmp_path):
    write_folder(tmp_path, [("a.jpg", 32, 48)])
    phone(tmp_path / "images" / "a.jpg", 6)
    with pytest.raises(DataError, match=r"is 48 x 32 pixels, but .* 32 x 48: its EXIF orientation 6 .* upright"):
        open_dataset(tmp_path, "val").image(0)
    phone(tmp_path / "images" / "a.jpg", 3)
    write_folder(tmp_path, [("a.jpg", 48, 32)])
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path, "val").image(0)
    assert "EXIF" not in str(error.value)  # 3 does not swap the sides


RAMP = (np.arange(256, dtype=np.uint16) * 257)[None].repeat(4, 0)  # 0, 257, ... 65535
EIGHT = (RAMP >> 8).astype(np.uint8)[..., None].repeat(3, 2)


def pil(array, mode=None):
    image = Image.fromarray(array)
    return image.convert(mode) if mode else image


@pytest.mark.parametrize(
    "deep",
    [
        pil(RAMP),
        pil(RAMP.astype(">u2")),
        pil(RAMP.astype(np.int32)),
        pil(RAMP.astype(np.float32)),
        pil(EIGHT[..., 0], "I"),
        pil(EIGHT[..., 0], "F"),
        pil((RAMP / 65535).astype(np.float32)),
        RAMP,
        RAMP.astype(np.int64),
        RAMP[..., None],
        RAMP[..., None].repeat(3, 2),
        EIGHT[..., 0],
        EIGHT[..., :1],
        EIGHT.astype(np.float32),
        EIGHT / 255,
        EIGHT.astype(np.int64),
        (EIGHT / 255).astype(np.float16),
        np.dstack([EIGHT, np.full(RAMP.shape, 7, np.uint8)]),
        EIGHT.tolist(),
    ],
)
def test_any_depth_becomes_the_same_eight_bits(deep):
    got = as_array(deep)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, EIGHT)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_a_16_bit_file_and_its_pil_image_are_the_same(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), RAMP)
    np.testing.assert_array_equal(as_array(path), EIGHT)
    np.testing.assert_array_equal(as_array(Image.open(path)), EIGHT)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (np.zeros((0, 0, 3), np.uint8), r"\(0, 0, 3\), has no pixels"),
        (np.zeros((0, 5), np.uint8), r"has no pixels"),
        (Image.new("RGB", (0, 5)), r"has no pixels"),
        (np.zeros(5, np.uint8), r"not \(5,\) of uint8"),
        (np.zeros((5, 5, 2), np.uint8), r"not \(5, 5, 2\) of uint8"),
        (np.zeros((3, 5, 6), np.uint8), r"channels come first, give array.transpose\(1, 2, 0\)"),
        (np.zeros((2, 5, 5, 3), np.uint8), r"give a list, list\(array\)"),
        (np.zeros((5, 5, 3), bool), r"of bool"),
        (np.full((5, 5, 3), -1.0), r"from -1.0 to -1.0: bring them to 0 to 255"),
        (np.full((5, 5, 3), np.nan), r"from nan to nan"),
        (np.full((5, 5, 3), 1e9), r"to 1000000000.0"),
        (np.array([[None]]), r"of object"),
        (None, "None was given in place of an image"),
        ((frame for frame in ()), r"this is a generator; for a video .* stream\(frames\)"),
        (cv2.VideoCapture(), "of type VideoCapture; for a video"),
        (0, "of type int"),
        ("film.MP4", r"'film.MP4' is a video and not an image: .* stream\(frames\)"),
        ("nothing.jpg", "there is no image 'nothing.jpg'"),
        ("a\0b.jpg", "is not a path"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("", "there is no image"),
    ],
)
def test_what_is_no_image_gives_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        as_array(wrong)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(models.build("poet_tiny", num_queries=5))


@pytest.mark.parametrize("wrong", [None, "film.avi", "a.jpg", EIGHT, 3.5, 99, [None], [np.zeros((0, 0, 3), np.uint8)]])
def test_stream_wants_several_images(predictor, wrong):
    with pytest.raises(ValueError, match="None was given|video|camera 99|several images|no pixels"):
        next(predictor.stream(wrong))


def test_a_folder_says_what_it_leaves_out(predictor, tmp_path, capsys):
    for name in ("a.jpg", "b.TIF", "c.tiff", "d.gif", "e.ppm"):
        Image.fromarray(SCENE).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "more").mkdir()
    assert [path.name[0] for path in images_in(tmp_path)] == list("abcde")
    said = capsys.readouterr().out
    assert "5 images; 2 entries" in said and "more, notes.txt" in said and str(tmp_path) not in said
    assert len(predictor(tmp_path)) == 5
    (tmp_path / "notes.txt").unlink()
    for path in tmp_path.glob("?.*"):
        path.unlink()
    with pytest.raises(DataError, match="holds only more, no image: those read end in .jpg"):
        predictor(tmp_path)


def png(width, height):
    """A small PNG whose header states this size."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def never(*_):
    raise AssertionError("decoded")


@pytest.mark.parametrize("number", range(9))
def test_too_large_images_are_refused_by_their_header(tmp_path, monkeypatch, number):
    """The pixels are not decoded; the limit can be raised."""
    suffix = (".jpg", ".png", ".webp", ".tif", ".gif", ".bmp", ".ppm", ".jp2", ".avif")[number]
    path = tmp_path / f"a{suffix}"
    Image.fromarray(SCENE).save(path)
    monkeypatch.setattr(image_files, "MAX_PIXELS", 32 * 48)
    assert read_image(path).shape == as_array(Image.open(path)).shape == SCENE.shape
    monkeypatch.setattr(image_files, "MAX_PIXELS", 32 * 48 - 1)
    monkeypatch.setattr(cv2, "imdecode", never)
    monkeypatch.setattr(Image.Image, "convert", never)
    for given_as in (path, Image.open(path)):
        with pytest.raises(DataError, match=r"32 x 48 pixels, more than .* of 1,535 pixels .*POSEKIT_MAX_PIXELS"):
            as_array(given_as)


def test_a_bomb_is_refused_by_default_and_skipped_in_a_folder(tmp_path):
    write_folder(tmp_path, [("bomb.png", 20_000, 20_000), ("good.png", 32, 48), ("none.png", 5, 5), ("bomb.gif", 9, 9)])
    (tmp_path / "images" / "bomb.png").write_bytes(png(20_000, 20_000))
    (tmp_path / "images" / "none.png").write_bytes(png(0, 5))
    Image.fromarray(SCENE).save(tmp_path / "images" / "good.png")
    gif = tmp_path / "images" / "bomb.gif"
    Image.fromarray(SCENE).save(gif)
    gif.write_bytes(gif.read_bytes()[:6] + b"\xff\xff\xff\xff" + gif.read_bytes()[10:])  # Pillow's limit
    for name in ("bomb.png", "bomb.gif"):
        with pytest.raises(DataError, match="refused by Pillow .*MAX_IMAGE_PIXELS"):
            read_image(tmp_path / "images" / name)
    folder = open_dataset(tmp_path, "val", on_error="skip")
    assert folder.ids == [2] and len(folder.skipped) == 3 and "not an image" in folder.skipped[1]
    np.testing.assert_array_equal(folder.image(0), SCENE)


def test_the_environment_raises_the_limit():
    code = "from posekit.data.images import MAX_PIXELS; print(MAX_PIXELS)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "POSEKIT_MAX_PIXELS": "1000"}, capture_output=True, text=True
    )
    assert run.stdout.strip() == "1000"


def test_only_regular_files_are_opened(tmp_path):
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["sh", "-c", ': > "$0"', pipe])  # ends a reader that waits at the pipe
    try:
        for path, kind in ((pipe, "a pipe"), (tmp_path, "a folder"), ("/dev/zero", "device")):
            with pytest.raises(DataError, match=kind):
                read_image(path)
    finally:
        writer.kill()
        writer.wait()


def test_a_sparse_file_is_not_read(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match="has 1,099,511,627,776 bytes, more than"):
        read_image(tmp_path / "a.jpg")


def fail(*_):
    raise cv2.error("OpenCV: no\nmemory")


@pytest.mark.parametrize("decoder", [fail, lambda *_: None])
def test_what_opencv_raises_is_a_data_error(tmp_path, monkeypatch, decoder):
    Image.fromarray(SCENE).save(tmp_path / "a.png")
    monkeypatch.setattr(cv2, "imdecode", decoder)
    with pytest.raises(DataError, match=r"a.png' (cannot be decoded|is not an image that OpenCV)") as error:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".gif"])
def test_a_damaged_pil_image_is_a_data_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match="cannot be decoded") as error:
        as_array(Image.open(path))
    assert "\n" not in str(error.value)
