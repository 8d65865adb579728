"""Data sets by name: COCO is downloaded and unpacked; of the others it is said where they are and where they belong."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from posekit.download import fetch

COCO = "http://images.cocodataset.org/"


@dataclass(frozen=True)
class DataSet:
    """An archive and what it becomes. `url`: of the archive; or, with `by_hand`, of the page that offers it. `folder`:
    below the folder of data sets; `holds`: a file or folder in it that tells that it is there."""

    url: str
    folder: str
    holds: str
    size: str
    by_hand: str = ""


DATA_SETS = {
    "coco-annotations": DataSet(
        COCO + "annotations/annotations_trainval2017.zip", "coco", "annotations/person_keypoints_val2017.json", "241 MB"
    ),
    "coco-val2017": DataSet(COCO + "zips/val2017.zip", "coco", "val2017", "1 GB"),
    "coco-train2017": DataSet(COCO + "zips/train2017.zip", "coco", "train2017", "18 GB"),
    "crowdpose": DataSet(
        "https://github.com/Jeff-sjtu/CrowdPose",
        "crowdpose",
        "images",
        "2 GB",
        "its images as images/, its annotations as json/crowdpose_train.json, ..._val.json and ..._test.json",
    ),
    "macaquepose": DataSet(
        "https://www.pri.kyoto-u.ac.jp/datasets/macaquepose/index.html",
        "macaquepose",
        "annotations.csv",
        "7 GB",
        "annotations.csv and images/; `posekit.data.macaque.convert` makes COCO's format of them",
    ),
}


def fetch_data(name: str, folder: str | Path = "data", progress: bool = True) -> Path:
    """The folder of a data set, downloaded and unpacked if it is not there: `folder`/coco and the like.

    Archives are unpacked beside the place where they belong and moved when they are whole; they are deleted afterwards.

    Raises:
        ConnectionError: it cannot be downloaded, or not by a program; the sentence says what belongs where.
        ValueError: no data set of that name, or a damaged archive.
    """
    if name not in DATA_SETS:
        raise ValueError(f"no data set is called {name!r}; there are {', '.join(DATA_SETS)}")
    made = DATA_SETS[name]
    place = Path(folder) / made.folder
    if (place / made.holds).exists():
        return place
    if made.by_hand:
        raise ConnectionError(f"{name} is not to be had by a program: from {made.url} put into {place}: {made.by_hand}")
    place.mkdir(parents=True, exist_ok=True)
    archive = fetch(made.url, place, progress=progress)
    with tempfile.TemporaryDirectory(dir=place, prefix=".unpacking-") as unpacked:
        try:
            shutil.unpack_archive(archive, unpacked)
        except (shutil.ReadError, OSError, EOFError) as error:
            raise ValueError(f"{archive} cannot be unpacked ({error}): delete it and fetch it again") from error
        for entry in Path(unpacked).iterdir():
            if not (place / entry.name).exists():
                entry.rename(place / entry.name)
    archive.unlink()
    return place
