"""The cache of drawn scenes: drawn once, checked when it is opened, whole or not there."""

import numpy as np
import pytest

from posekit.data.drawn import cache
from posekit.data.drawn.scenes import Scenes


def test_cache_is_drawn_once_and_holds_what_is_drawn_lazily(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "BLOCK", 3)
    lazy, stored = (
        Scenes(seed=3, count=7, size=32),
        Scenes(seed=3, count=7, size=32, cache=tmp_path, workers=2),
    )
    monkeypatch.setattr(cache, "_draw", lambda *_: pytest.fail("a whole cache was drawn again"))
    again = Scenes(seed=3, count=7, size=32, cache=tmp_path)
    for i in (0, 2, 3, 6, -1):
        for other in (stored, again):
            np.testing.assert_array_equal(lazy.image(i), other.image(i))
            for name, value in lazy.target(i).items():
                np.testing.assert_array_equal(value, other.target(i)[name])
    assert lazy.fingerprint == stored.fingerprint != Scenes(seed=4, count=7, size=32).fingerprint
    assert lazy.ground_truth == stored.ground_truth
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "note"])
def test_a_damaged_cache_is_drawn_again_with_a_warning(tmp_path, damage):
    whole = Scenes(seed=1, count=3, size=32, cache=tmp_path, workers=1)
    picture = np.array(whole.image(1))
    home = next(tmp_path.iterdir())
    images = home / "images.npy"
    if damage == "flip":
        data = bytearray(images.read_bytes())
        data[-500] ^= 1
        images.write_bytes(data)
    elif damage == "truncate":
        images.write_bytes(images.read_bytes()[:2000])
    elif damage == "remove":
        (home / "cache.json").unlink()
    else:
        (home / "annotations.npz").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="cache of drawn scenes .* is damaged .* drawing it again"):
        repaired = Scenes(seed=1, count=3, size=32, cache=tmp_path, workers=1)
    np.testing.assert_array_equal(repaired.image(1), picture)


def test_an_interrupted_drawing_leaves_no_cache(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "draw_block", stop)
    with pytest.raises(KeyboardInterrupt):
        Scenes(seed=1, count=3, size=32, cache=tmp_path, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_fit_says_so(tmp_path):
    with pytest.raises(OSError, match="choose another cache folder or a smaller count"):
        Scenes(count=10**6, size=4096, cache=tmp_path)
