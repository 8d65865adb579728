"""The weights that others have published for the models of this book: where they are and what they are said to score.

    posekit.load("rtmo_s", "published")          the first entry of that model in this table
    posekit.load("rtmo_s", "published:body7")    another one, by what follows the model's name

AP in per cent, as the source states it. Files of OpenMMLab carry the first eight digits of their sha256 in their names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from posekit.download import cache_folder, fetch
from posekit.files import read_json, relative, resolve
from posekit.models.sizes import multiply_adds, parameters

MMPOSE = "https://download.openmmlab.com/mmpose/"
TOP_DOWN = MMPOSE + "v1/body_2d_keypoint/topdown_heatmap/coco/"
ORIGINALS = "hf:nielsr/vitpose-original-checkpoints/"  # copies of the authors' files, which lie behind a login
COCO, CROWDPOSE = "COCO val2017", "CrowdPose test"
APACHE, NON_COMMERCIAL = "Apache-2.0", "CC BY-NC 4.0"
DETECTED = "256 x 192, boxes of a detector with AP 56 for people, flip test"
UNKNOWN = ""  # of a checksum: see `posekit.download.fetch`


@dataclass(frozen=True)
class Published:
    """Published weights. `model`: a name of `posekit.models`, `options`: of its builder. `url`: as
    `posekit.download.fetch` takes it; or a page, where the file `by_hand` is to be fetched from. `ap`: on `data`,
    tested as `protocol` says; None where no AP is stated."""

    model: str
    url: str
    ap: float | None
    data: str
    protocol: str
    source: str
    licence: str = APACHE
    sha256: str = UNKNOWN
    options: Mapping = field(default_factory=lambda: MappingProxyType({}))
    by_hand: str = ""

    def path(self) -> Path:
        """The local copy, downloaded if it is not there.

        Raises ConnectionError: it cannot be downloaded; ValueError: another file came, see `posekit.download.fetch`.
        """
        if not self.by_hand:
            return fetch(self.url, sha256=self.sha256)
        path = cache_folder() / self.by_hand
        if not path.is_file():
            raise ConnectionError(f"{self.by_hand} is not to be had by a program: fetch it from {self.url} to {path}")
        return path


def _mmpose(model: str, path: str, ap: float | None, protocol: str, source: str, data: str = COCO, **options):
    url = path if path.startswith("http") else MMPOSE + path
    digits = re.search(r"-([0-9a-f]{8})_\d{8}\.pth$|-([0-9a-f]{8})\.pth$", url)
    sha256 = (digits[1] or digits[2]) if digits else UNKNOWN
    return Published(model, url, ap, data, protocol, source, sha256=sha256, options=MappingProxyType(options))


def _rtmo(model: str, file: str, ap: float, data: str = COCO, **options):
    size = 416 if model == "rtmo_t" else 640
    path = f"v1/projects/rtmo/{file}.pth"
    return _mmpose(model, path, ap, f"{size} x {size}, no flip test", "mmpose, RTMO", data, **options)


def _rtmpose(size: str, file: str, ap: float):
    path = f"v1/projects/rtmposev1/rtmpose-{file}.pth"
    return _mmpose(f"rtmpose_{size}", path, ap, DETECTED, "mmpose, RTMPose")


def _yolox(size: str, file: str, ap: float):
    side = 416 if size == "t" else 640
    path = f"v1/body_2d_keypoint/yolox_pose/{file}.pth"
    return _mmpose(f"yolox_pose_{size}", path, ap, f"{side} x {side}, no flip test", "mmpose, YOLOX-Pose")


def _bottom_up(model: str, file: str, ap: float):
    return _mmpose(model, f"bottom_up/{file}.pth", ap, "512 x 512, flip test, one scale", "mmpose 0.x")


def _vitpose(model: str, url: str, ap: float | None, source: str, sha256: str = UNKNOWN, **options):
    return Published(model, url, ap, COCO, DETECTED, source, sha256=sha256, options=MappingProxyType(options))


def _mae(size: str):
    url = f"https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_{size}.pth"
    what = "no keypoints: a start for training (`weights` of a recipe)"
    return Published(f"vitpose_{size[0]}", url, None, "ImageNet-1k", what, "facebookresearch/mae", NON_COMMERCIAL)


JOINTS_14 = {"num_keypoints": 14}
PLUS_17 = {"num_keypoints": 17}  # transformers' files hold one decoder, of COCO's keypoints
WEIGHTS: dict[str, Published] = {
    "rtmo_s": _rtmo("rtmo_s", "rtmo-s_8xb32-600e_coco-640x640-8db55a59_20231211", 67.7),
    "rtmo_m": _rtmo("rtmo_m", "rtmo-m_16xb16-600e_coco-640x640-6f4e0306_20231211", 70.9),
    "rtmo_l": _rtmo("rtmo_l", "rtmo-l_16xb16-600e_coco-640x640-516a421f_20231211", 72.4),
    "rtmo_t:body7": _rtmo("rtmo_t", "rtmo-t_8xb32-600e_body7-416x416-f48f75cb_20231219", 57.4),
    "rtmo_s:body7": _rtmo("rtmo_s", "rtmo-s_8xb32-600e_body7-640x640-dac2bf74_20231211", 68.6),
    "rtmo_m:body7": _rtmo("rtmo_m", "rtmo-m_16xb16-600e_body7-640x640-39e78cc4_20231211", 72.6),
    "rtmo_l:body7": _rtmo("rtmo_l", "rtmo-l_16xb16-600e_body7-640x640-b37118ce_20231211", 74.8),
    "rtmo_s:crowdpose": _rtmo(
        "rtmo_s", "rtmo-s_8xb32-700e_crowdpose-640x640-79f81c0d_20231211", 67.3, CROWDPOSE, **JOINTS_14
    ),
    "rtmo_m:crowdpose": _rtmo(  # its name is spelled so
        "rtmo_m", "rrtmo-m_16xb16-700e_crowdpose-640x640-0eaf670d_20231211", 71.1, CROWDPOSE, **JOINTS_14
    ),
    "rtmo_l:crowdpose": _rtmo(
        "rtmo_l", "rtmo-l_16xb16-700e_crowdpose-640x640-1008211f_20231211", 73.2, CROWDPOSE, **JOINTS_14
    ),
    "rtmo_l:body7-crowdpose": _rtmo(  # differs from paper: 81.7 there
        "rtmo_l", "rtmo-l_16xb16-700e_body7-crowdpose-640x640-5bafdc11_20231219", 83.8, CROWDPOSE, **JOINTS_14
    ),
    "poet_r50": Published(
        "poet_r50",
        "https://zenodo.org/record/7972042",
        54.0,
        COCO,
        "as the repository says; it names neither split nor test",
        "the authors' repository",
        by_hand="poet_ckpt.pth",
    ),
    "vitpose_b": _vitpose(
        "vitpose_b",
        ORIGINALS + "vitpose-b.pth",
        75.8,
        "the authors, by a copy",
        "2e849e1f1dbb5b87191eda7171f1b16468d5d082a7380e93e94b7ce76a061679",
    ),
    "vitpose_b:simple": _vitpose(
        "vitpose_b",
        ORIGINALS + "vitpose-b-simple.pth",
        75.5,
        "the authors, by a copy",
        "1d60b1e86af84d36cb57d500c5d517f66beb211cfcb36d5e60c741f2164533da",
        decoder="simple",
    ),
    "vitpose_b:hf": _vitpose("vitpose_b", "hf:usyd-community/vitpose-base", 75.8, "usyd-community"),
    "vitpose_b:hf-simple": _vitpose(
        "vitpose_b", "hf:usyd-community/vitpose-base-simple", 75.5, "usyd-community", decoder="simple"
    ),
    "vitpose_b:coco-aic-mpii": _vitpose(
        "vitpose_b", "hf:usyd-community/vitpose-base-coco-aic-mpii", 77.1, "usyd-community"
    ),
    **{
        f"vitpose_{size[0]}{':mmpose' if size == 'base' else ''}": _mmpose(
            f"vitpose_{size[0]}",
            f"{TOP_DOWN}td-hm_ViTPose-{size}_8xb64-210e_coco-256x192-{digits}_20230314.pth",
            ap,
            DETECTED,
            "mmpose, trained anew",
        )
        for size, digits, ap in (
            ("small", "62d7a712", 73.9),
            ("base", "216eae50", 75.7),
            ("large", "53609f55", 78.2),
            ("huge", "e32adcd4", 78.8),
        )
    },
    **{
        f"vitpose_plus_{size[0]}": _vitpose(
            f"vitpose_plus_{size[0]}", f"hf:usyd-community/vitpose-plus-{size}", None, "usyd-community", **PLUS_17
        )
        for size in ("small", "base", "large", "huge")
    },
    "vitpose_b:mae": _mae("base"),
    "vitpose_l:mae": _mae("large"),
    "vitpose_h:mae": _mae("huge"),
    "rtmpose_t": _rtmpose("t", "tiny_simcc-aic-coco_pt-aic-coco_420e-256x192-cfc8f33d_20230126", 68.5),
    "rtmpose_s": _rtmpose("s", "s_simcc-aic-coco_pt-aic-coco_420e-256x192-fcb2599b_20230126", 72.2),
    "rtmpose_m": _rtmpose("m", "m_simcc-aic-coco_pt-aic-coco_420e-256x192-63eb25f7_20230126", 75.8),
    "rtmpose_l": _rtmpose("l", "l_simcc-aic-coco_pt-aic-coco_420e-256x192-f016ffe0_20230126", 76.5),
    "rtmpose_t:coco": _rtmpose("t", "tiny_simcc-coco_pt-aic-coco_420e-256x192-e613ba3f_20230127", 68.2),
    "rtmpose_s:coco": _rtmpose("s", "s_simcc-coco_pt-aic-coco_420e-256x192-8edcf0d7_20230127", 71.6),
    "rtmpose_m:coco": _rtmpose("m", "m_simcc-coco_pt-aic-coco_420e-256x192-d8dd5ca4_20230127", 74.6),
    "rtmdet_nano": _mmpose(
        "rtmdet_nano",
        "v1/projects/rtmpose/rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e.pth",
        None,
        "320 x 320, boxes of people",
        "mmpose, RTMPose",
        "COCO and Objects365",
    ),
    "yolox_pose_t": _yolox("t", "yoloxpose_tiny_4xb64-300e_coco-416-76eb44ca_20230829", 52.6),
    "yolox_pose_s": _yolox("s", "yoloxpose_s_8xb32-300e_coco-640-56c79c1f_20230829", 64.1),
    "yolox_pose_m": _yolox("m", "yoloxpose_m_8xb32-300e_coco-640-84e9a538_20230829", 69.5),
    "yolox_pose_l": _yolox("l", "yoloxpose_l_8xb32-300e_coco-640-de0f8dee_20230829", 71.2),
    "ae_r50_stride4": _bottom_up("ae_r50_stride4", "res50_coco_512x512-5521bead_20200816", 46.6),
    "ae_hrnet_w32": _bottom_up("ae_hrnet_w32", "hrnet_w32_coco_512x512-bcb8c247_20200816", 65.4),
    "ae_hrnet_w48": _bottom_up("ae_hrnet_w48", "hrnet_w48_coco_512x512-cf72fcdf_20200816", 66.5),
    "ae_higherhrnet_w32": _bottom_up("ae_higherhrnet_w32", "higher_hrnet32_coco_512x512-8ae85183_20200713", 67.7),
    "simple_baseline_r50": _mmpose(
        "simple_baseline_r50",
        TOP_DOWN + "td-hm_res50_8xb64-210e_coco-256x192-04af38ce_20220923.pth",
        71.8,
        DETECTED,
        "mmpose",
    ),
}


def find(model: str, variant: str = "") -> Published:
    """The published weights of a model: the first, or the one called `variant`.

    Raises:
        ValueError: there are none, or none of that name; the sentence names those that there are.
    """
    own = {name: one for name, one in WEIGHTS.items() if one.model == model}
    if not own:
        known = ", ".join(dict.fromkeys(one.model for one in WEIGHTS.values()))
        raise ValueError(f"no weights of {model!r} are published here; there are some of {known}")
    if not variant:
        return own.get(model) or next(iter(own.values()))
    if f"{model}:{variant}" not in own:
        names = [f'"published:{name.partition(":")[2]}"' if ":" in name else '"published"' for name in own]
        raise ValueError(f'{model} has no published weights "published:{variant}"; there are {", ".join(names)}')
    return own[f"{model}:{variant}"]


def table(gmac: bool = False) -> list[dict]:
    """A row per model and weights: model, weights ("" where there are none), parameters (millions), gmac (None unless
    asked for: 10^9 multiply-adds of an image or crop as `input` says), input, megabytes (float32), AP (per cent), data,
    protocol, licence, source, url."""
    import torch

    from posekit import models

    rows = []
    for model in models.names():
        with torch.device("meta"):
            network = models.build(model).eval()
        size = parameters(network)
        width, height = getattr(network, "crop_size", None) or (min(network.input.size, 640),) * 2
        row = {"model": model, "weights": "", "parameters": size, "gmac": None}
        row |= {"gmac": multiply_adds(network, height, width)} if gmac else {}
        row |= {"input": f"{height} x {width}", "megabytes": 4 * size, "AP": None}
        row |= dict.fromkeys(("data", "protocol", "licence", "source", "url"), "")
        found = [row | scenes] if (scenes := _ours(model)) else []
        for name, one in WEIGHTS.items():
            if one.model == model:
                facts = {"AP": one.ap, "data": one.data, "protocol": one.protocol, "licence": one.licence}
                _, colon, variant = name.partition(":")
                facts |= {"weights": f"published{colon}{variant}", "source": one.source, "url": one.url}
                found.append(row | facts)
        rows += found or [row]
    return rows


def _ours(model: str) -> dict:
    """What a row says of the weights that come with the book, if there are any."""
    path = resolve(f"data/weights/{model}/metrics.json")
    if not path.is_file():
        return {}
    ap = read_json(path)["AP"]
    facts = {"weights": "scenes", "AP": 100 * ap, "data": "drawn people", "protocol": "300 images, annotated boxes"}
    return facts | {"licence": "MIT", "source": "this book", "url": relative(path.parent)}
