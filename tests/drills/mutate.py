"""Files as other tools and bad disks write them: random changes that know the structure of JSON and of images."""

from __future__ import annotations

import copy
import json
import struct
import zlib

import numpy as np

NAN, INFINITE = float("nan"), float("inf")


def nested(depth: int) -> list:
    result: list = []
    for _ in range(depth):
        result = [result]
    return result


VALUES = [
    None,
    True,
    False,
    0,
    1,
    2,
    3,
    -1,
    7,
    0.5,
    -0.5,
    1.0,
    1e-300,
    1e308,
    -1e308,
    2**31,
    2**63,
    10**30,
    10**400,
    NAN,
    INFINITE,
    -INFINITE,
    "",
    "1",
    "1.0",
    "x",
    " ",
    "nose",
    "é" * 30,
    "\0",
    "x" * 3000,
    "../a.png",
    "/dev/zero",
    ".",
    [],
    {},
    [[]],
    [None],
    [0],
    [1, 2, 3],
    ["a"],
    {"id": 1},
    {"a": {}},
    nested(60),
    [NAN] * 51,
    [0] * 51,
    [1] * 4,
]


def tree(rng: np.random.Generator, value, changes: int = 0):
    """A JSON value with one to three (or `changes`) random changes."""
    value = copy.deepcopy(value)
    for _ in range(changes or rng.integers(1, 4)):
        value = _change(rng, value)
    return value


def text(rng: np.random.Generator, value) -> bytes:
    """The JSON text of a changed value; of one in six, the text is damaged as well."""
    raw = json.dumps(tree(rng, value)).encode()
    how = rng.integers(24)
    if how == 0:
        return raw[: rng.integers(len(raw))]
    if how == 1:
        return damaged(rng, raw)
    if how == 2:
        return [b"\xef\xbb\xbf" + raw, raw.decode().encode("utf-16"), b"\xff" + raw, raw + b"\0"][rng.integers(4)]
    if how == 3:
        return [b"", b"null", b"[]", b"{}", b"1", b'"x"', b"[" * 100_000, b'{"a":' * 100_000][rng.integers(8)]
    return raw


def _change(rng: np.random.Generator, value):
    """One change, somewhere: walk down from the top, so that long lists of numbers do not draw all of them."""
    if isinstance(value, dict | list) and len(value) and rng.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[rng.integers(len(keys))]
        how = rng.integers(16)
        if how == 0:
            del value[key]
        elif how == 1 and isinstance(value, list):
            value.insert(int(rng.integers(len(value) + 1)), copy.deepcopy(value[key]))
        elif how == 1:
            value[["id", "ID", f"{key} ", "", "image_id", "x" * 300][rng.integers(6)]] = value.pop(key)
        elif how == 2:
            other = keys[rng.integers(len(keys))]
            value[key], value[other] = value[other], value[key]
        elif how == 3 and isinstance(value, list) and len(value) < 100:
            value.extend(copy.deepcopy(value[key]) for _ in range(rng.integers(1, 40)))
        else:
            value[key] = _change(rng, value[key])
        return value
    how = rng.integers(4)
    if how == 0:
        return _retyped(value)
    if how == 1 and isinstance(value, int | float) and abs(value) < 1e300:  # beyond, Python's own division fails
        return [value + 1, -value, value * 1000, value / 7, value + 0.5, value * 10**20][rng.integers(6)]
    if how == 2:
        return [value] if rng.random() < 0.5 else {"value": value}
    return copy.deepcopy(VALUES[rng.integers(len(VALUES))])


def _retyped(value):
    """The same thing as another type: what spreadsheets and other languages make of it."""
    if isinstance(value, str):
        return [value] if not value.isdigit() else int(value)
    if isinstance(value, list):
        return dict(enumerate(value)) if len(value) % 2 else json.dumps(value)
    if isinstance(value, dict):
        return list(value.items())
    return str(value)


def damaged(rng: np.random.Generator, raw: bytes) -> bytes:
    """Bytes with one to four changes: cut, flipped, overwritten, repeated, filled."""
    data = bytearray(raw)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 1 + min(64, len(data))))
        how = rng.integers(7)
        if how == 0:
            del data[at:]
        elif how == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif how == 2:
            data[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif how == 3:
            word = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\x4e\x20"]
            data[at : at + 4] = word[rng.integers(5)]
        elif how == 4:
            del data[at : at + length]
        elif how == 5:
            data[at:at] = data[at : at + length]
        else:
            data[at:] = bytes(len(data) - at)
    return bytes(data)


def resized(rng: np.random.Generator, raw: bytes) -> bytes:
    """An image file whose header states another size, right in form (a PNG's checksum too)."""
    big = [0, 1, 65_535, 20_000, 30_000, 2**20, 2**31 - 1, 2**32 - 1]
    width, height = (big[rng.integers(len(big))] for _ in range(2))
    data = bytearray(raw)
    if raw.startswith(b"\x89PNG"):
        struct.pack_into(">II", data, 16, width, height)
        struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    elif raw.startswith(b"GIF"):
        struct.pack_into("<HH", data, 6, width % 65536, height % 65536)
    elif raw.startswith(b"BM"):
        struct.pack_into("<II", data, 18, width, height)
    elif raw.startswith(b"\xff\xd8"):
        at = max(raw.find(b"\xff\xc0"), raw.find(b"\xff\xc2"))
        struct.pack_into(">HH", data, at + 5, height % 65536, width % 65536)
    elif raw.startswith(b"II*\0"):
        first = struct.unpack_from("<I", raw, 4)[0]
        for entry in range(struct.unpack_from("<H", raw, first)[0]):
            at = first + 2 + 12 * entry
            tag = struct.unpack_from("<H", raw, at)[0]
            if tag in (256, 257):  # width, height
                struct.pack_into("<HII", data, at + 2, 4, 1, width if tag == 256 else height)
    elif raw.startswith((b"P5", b"P6")):
        return raw[:2] + f"\n{width} {height}\n255\n".encode() + raw[15:]
    elif raw[8:16] == b"WEBPVP8X":
        data[24:30] = struct.pack("<I", width % 2**24)[:3] + struct.pack("<I", height % 2**24)[:3]
    return bytes(data)
