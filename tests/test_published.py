"""The table of published weights, and weights by name through the public door."""

import re

import pytest
import torch
from published_names import published_names
from torch import nn

import posekit
from posekit import models
from posekit.models import published
from posekit.models.checkpoints import load_weights
from posekit.models.published import WEIGHTS, Published
from posekit.models.vit import ViT
from posekit.training.weights import load, weights_file


@pytest.mark.parametrize("name", WEIGHTS)
def test_an_entry_has_a_model_an_address_and_a_protocol(name):
    one = WEIGHTS[name]
    assert name.partition(":")[0] == one.model in models.names()
    assert re.match(r"https?://|hf:[^/]+/[^/]+", one.url) and one.licence and one.protocol and one.source
    assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}|", one.sha256) and (one.ap is None or 40 < one.ap < 90)
    if "openmmlab" in one.url and "hrnet" not in one.url and "res50" not in one.url:
        assert one.sha256 and one.sha256 in one.url
    if one.options:
        with torch.device("meta"):
            assert isinstance(models.build(one.model, **one.options), nn.Module)


def test_a_model_without_a_variant_gets_its_first_entry():
    assert published.find("rtmo_s") is WEIGHTS["rtmo_s"]
    assert published.find("rtmo_t") is WEIGHTS["rtmo_t:body7"]
    assert published.find("rtmo_s", "crowdpose").options["num_keypoints"] == 14
    with pytest.raises(ValueError, match=r'rtmo_s has no published weights "published:halpe"; there are "published", '):
        published.find("rtmo_s", "halpe")
    with pytest.raises(ValueError, match="no weights of 'rtmo_tiny' are published here; there are some of rtmo_s"):
        published.find("rtmo_tiny")


def test_what_is_to_be_fetched_by_hand_says_from_where(monkeypatch, tmp_path):
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"poet_ckpt.pth is not .* fetch it from https://zenodo.* to .*poet_ckpt"):
        load("poet_r50", "published")


def test_weights_by_name_are_loaded_with_their_options(monkeypatch, tmp_path):
    """A file that OpenMMLab would name so, in the cache: the digits in its name must fit."""
    torch.manual_seed(0)
    model = models.build("rtmo_tiny", num_keypoints=14).eval()
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": model.state_dict(), "meta": {"epoch": 600}}, path)
    monkeypatch.setenv("POSEKIT_CACHE", str(tmp_path))
    entry = Published(
        "rtmo_tiny", "http://127.0.0.1:9/weights.pth", 50.0, "drawn", "", "", options={"num_keypoints": 14}
    )
    monkeypatch.setitem(WEIGHTS, "rtmo_tiny:small", entry)
    loaded = posekit.load("rtmo_tiny", "published:small")
    assert loaded.num_keypoints == 14 and loaded.input.pixel_centre == 0.0
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(model(images).values(), loaded(images).values(), strict=True):
            assert torch.equal(one, other)
    assert weights_file("published:small", "rtmo_tiny") == path
    wrong = Published("rtmo_tiny", entry.url, 50.0, "drawn", "", "", sha256="0badf00d")
    monkeypatch.setitem(WEIGHTS, "rtmo_tiny:wrong", wrong)
    (tmp_path / "weights.pth.sha256").unlink()
    with pytest.raises(ValueError, match="is not the file that was published"):
        posekit.load("rtmo_tiny", "published:wrong")


def test_a_vitpose_of_mmpose_gives_the_same_heatmaps():
    torch.manual_seed(0)
    one, other = (models.build("vitpose_tiny").eval() for _ in range(2))
    with torch.no_grad():
        for module in one.modules():  # nothing stays at 0 or 1
            if isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
        one.backbone.pos_embed[:, :1] = 0  # mmpose has no such place
    load_weights(other, published_names("ViTPose", one.state_dict()))
    crops = torch.rand(2, 3, 96, 72)
    with torch.inference_mode():
        assert torch.equal(one(crops)["heatmaps"], other(crops)["heatmaps"])
    assert isinstance(one.backbone, ViT)
    lacking = published_names("ViTPose", one.state_dict())
    del lacking["backbone.layers.1.ln2.weight"]
    with pytest.raises(ValueError, match="is of another model; 1 entries are missing"):
        load_weights(other, lacking)


def test_the_table_lists_every_model_and_all_its_weights():
    rows = published.table()
    assert {row["model"] for row in rows} == set(models.names())
    assert sum(row["weights"].startswith("published") for row in rows) == len(WEIGHTS)
    ours = {row["model"]: row for row in rows if row["weights"] == "scenes"}
    assert 50 < ours["rtmo_tiny"]["AP"] < 100 and ours["rtmo_tiny"]["data"] == "drawn people"
