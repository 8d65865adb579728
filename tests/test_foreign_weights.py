"""Weights that somebody else wrote, or damaged: archives that unpack to too much, absurd shapes, halved constants."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
import torch

from posekit import files, models, torch_files
from posekit.models import checkpoints
from posekit.models.coordinate_classifier import CoordinateClassifier
from posekit.training.weights import load

LIMIT = 10_000_000  # bytes that the bombs below would unpack to at least


def bomb(path, compression=zipfile.ZIP_DEFLATED):
    """A checkpoint whose first tensor is megabytes of zeros, compressed."""
    plain = io.BytesIO()
    torch.save({"a": torch.zeros(LIMIT // 4), "b": torch.ones(3)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", compression) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    return path


@pytest.mark.parametrize("read", [checkpoints.read, files.load_checkpoint, lambda path: load("rtmo_tiny", path)])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, read):
    def never(*_, **__):
        raise AssertionError("unpacked")

    path = bomb(tmp_path / "a.pth")
    assert path.stat().st_size < LIMIT / 100
    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(ValueError, match="a.pth is not a whole checkpoint") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_what_a_bomb_states_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"its [\d,]+ bytes would unpack to 10,00\d,\d+, which no weights do"):
        torch_files.check_archive(bomb(tmp_path / "a.pth"))


def test_a_stored_archive_and_one_that_hardly_shrinks_are_read(tmp_path):
    stored = bomb(tmp_path / "stored.pth", zipfile.ZIP_STORED)
    assert checkpoints.read(stored)["b"].tolist() == [1, 1, 1]
    small = tmp_path / "small.pth"  # compressed by somebody, and far from the limit
    torch.save({"a": torch.zeros(1000)}, small)
    with zipfile.ZipFile(small) as source, zipfile.ZipFile(tmp_path / "again.pth", "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert checkpoints.read(tmp_path / "again.pth")["a"].shape == (1000,)


def test_entries_that_share_their_bytes_count_each(tmp_path):
    """The overlapping kind of bomb: nothing is compressed, and the directory names the same bytes many times."""
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(100_000))
        first = archive.infolist()[0]
        for number in range(50):
            again = zipfile.ZipInfo(f"archive/data/{number}")
            again.header_offset, again.file_size, again.compress_size = first.header_offset, 100_000, 100_000
            again.CRC = first.CRC
            archive.filelist.append(again)
    with pytest.raises(ValueError, match="would unpack to 5,100,000"):
        torch_files.check_archive(path)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.98])
def test_a_truncated_file_is_one_sentence_wherever_it_ends(tmp_path, name, share):
    state = models.build("rtmo_tiny").state_dict()
    path = tmp_path / name
    files.save_tensors(path, state) if name.endswith("s") else torch.save(state, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=f"{name} is (not a whole|damaged)") as error:
        load("rtmo_tiny", path)
    assert "\n" not in str(error.value)


def header_only(path, **entries):
    """A safetensors file of this header and no values."""
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize("shape", [[2**40], [2**32, 2**32], [-1], [2**63], "x", None, [1.5]])
def test_absurd_shapes_in_a_safetensors_header(tmp_path, shape):
    path = tmp_path / "a.safetensors"
    header_only(path, a={"dtype": "F32", "shape": shape, "data_offsets": [0, 0]})
    with pytest.raises(ValueError, match="a.safetensors is not a whole safetensors file"):
        checkpoints.read(path)


def test_a_sentence_does_not_quote_the_whole_file(tmp_path):
    header_only(tmp_path / "a.safetensors", a="x" * 5000)
    with pytest.raises(ValueError, match="not a whole safetensors file") as caught:
        checkpoints.read(tmp_path / "a.safetensors")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(1).expand(2**40), r"entry 'a' states the shape \(1099511627776,\), more than the file holds"),
        (torch.eye(3).to_sparse_csr(), "no tensor of plain real numbers"),
        (torch.zeros(3, device="meta"), "no tensor of plain real numbers"),
        (torch.zeros(3, dtype=torch.complex64), "no tensor of plain real numbers"),
    ],
)
def test_tensors_that_no_weights_are(tmp_path, value, words):
    torch.save({"a": value}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=words):
        checkpoints.read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("rtmo_tiny", "backbone.stem.conv.conv.weight"),
        ("rtmo_tiny", "head.out_kpt_vis.0.weight"),
        ("vitpose_tiny", "backbone.pos_embed"),
        ("vitpose_tiny", "backbone.patch_embed.proj.weight"),
        ("poet_tiny", "query_embed.weight"),
        ("poet_tiny", "transformer.encoder.layers.0.linear1.weight"),
    ],
)
@pytest.mark.parametrize("load_into", [checkpoints.load_weights, checkpoints.start_from])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (1, 2, 3, 4, 5)])
def test_entries_of_another_shape_than_their_names_say(built, model, name, load_into, shape):
    if load_into is checkpoints.start_from and "kpt_vis" in name and shape:
        return  # other keypoints: an RTMO may start from these, and this entry stays new
    state = built[model].state_dict() | {name: torch.zeros(shape)}
    with pytest.raises(ValueError) as error:
        load_into(built[model], state)
    assert "\n" not in str(error.value) and str(error.value).startswith("this state dict")


@pytest.fixture(scope="module")
def built():
    return {name: models.build(name) for name in ("rtmo_tiny", "vitpose_tiny", "poet_tiny")}


def test_half_a_transformers_file_is_one_sentence(built):
    part = {"backbone.encoder.layer.0.attention.attention.query.weight": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match="another shape or kind than its name says"):
        checkpoints.load_weights(built["vitpose_tiny"], part)


def halves(state):
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


def with_bins(model, half=0.5):
    """The state dict as files held it once: the bins among the weights, all in half precision."""
    counts = {f"classifier.{name}": len(getattr(model.classifier, name)) for name in ("x_bins", "y_bins")}
    return halves(model.state_dict() | {name: torch.linspace(-half, half, n) for name, n in counts.items()})


@pytest.mark.parametrize("decoding", ["dcc", "cc+dba", "cc"])
def test_bins_are_whole_whatever_the_file_holds(decoding):
    model = models.build("rtmo_tiny", decoding=decoding)
    half = model.input.size / 2 if decoding == "cc" else 0.5
    for load_into in (checkpoints.load_weights, checkpoints.start_from, lambda m, s: m.load_state_dict(s)):
        fresh = models.build("rtmo_tiny", decoding=decoding)
        load_into(fresh, with_bins(model, half))
        for name in ("x_bins", "y_bins"):
            bins = getattr(fresh.classifier, name)
            assert bins.dtype == torch.float32 and torch.equal(bins, torch.linspace(-half, half, len(bins)))
    assert any("bins" in name for name in model.state_dict()) == (decoding == "cc")  # else constants, not in the file


def test_bins_of_a_fixed_range_are_the_files(built):
    """Their range is the picture's size that the weights were trained for."""
    model = models.build("rtmo_tiny", decoding="cc")
    checkpoints.load_weights(model, with_bins(model, 208.0))
    assert model.classifier.x_bins[0] == -208 and model.classifier.x_bins[-1] == 208


def test_another_decoding_is_refused_by_its_bins():
    fixed, moving = (models.build("rtmo_tiny", decoding=name) for name in ("cc", "cc+dba"))
    tries = (moving, fixed.state_dict(), "decoding='cc'"), (fixed, with_bins(moving), r"decoding='cc\+dba'")
    for model, state, words in tries:
        with pytest.raises(ValueError, match=words):
            checkpoints.load_weights(model, state)


def test_the_shipped_weights_have_whole_bins():
    bins = load("rtmo_tiny", "scenes").classifier.x_bins
    np.testing.assert_array_equal(bins, torch.linspace(-0.5, 0.5, len(bins)))


def test_every_buffer_that_is_no_statistic_stays_out_of_the_files(built):
    """Constants would come back rounded to half precision; what is left are batch norms' statistics."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    for model in built.values():
        persistent = set(model.state_dict()) - {name for name, _ in model.named_parameters()}
        assert all(name.endswith(statistics) for name in persistent)
    assert isinstance(built["rtmo_tiny"].classifier, CoordinateClassifier)
