"""`posekit data check`: what is in a folder in COCO's format, and every fault of it, before a training finds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from posekit.data import open_dataset
from posekit.data.folder import flip_words
from posekit.data.notes import left_out_of, notes_of, sigmas_of
from posekit.files import relative


@dataclass
class Report:
    """What `check_folder` found; `str` is for people. `lines`: what there is; `notes`: what the reader changed or
    filled in; `faults`: a sentence for each entry that cannot be used, and for a split that cannot be opened."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = f"{len(self.faults)} fault{'' if len(self.faults) == 1 else 's'}" if self.faults else "no fault"
        notes = [f"note: {sentence}" for sentence in dict.fromkeys(self.notes)]
        return "\n".join([*self.lines, *notes, *(f"fault: {sentence}" for sentence in self.faults), faults])


def check_folder(folder: str | Path, splits: list[str], outside: bool = False) -> Report:
    """Opens each split as a training would and looks at every image's header and end. Images are not decoded.

    outside: images may lie outside of the folder.
    """
    report, seen = Report(), []
    for split in splits:
        try:
            data = open_dataset(folder, split, on_error="skip", with_people=False, outside=outside)
        except ValueError as error:
            report.faults.append(f"{split}: {error}")
            continue
        if data.file in seen:
            report.lines.append(f"{split}: the same file")
            continue
        seen.append(data.file)
        rows = data.ground_truth["annotations"]
        labelled = [row for row in rows if any(row["keypoints"][2::3]) and not row["iscrowd"]]
        crowds = sum(row["iscrowd"] for row in rows)
        report.lines += [
            f"{split}: {_shown(data.file)}",
            f"  {len(data):,} images in {_shown(data.folder)}",
            f"  {len(rows) - crowds:,} people, {len(labelled):,} of them with labelled keypoints; {crowds:,} crowds",
            f"  {len(data.layout)} keypoints: {', '.join(data.layout.keypoints)}",
            f"  {len(data.layout.limbs)} limbs; {flip_words(data.layout)}",
            f"  OKS sigmas: {sigmas_of(data)}",
        ]
        report.notes += notes_of(data)
        report.faults += [f"{split}: {sentence}" for sentence in left_out_of(data)]
        if not labelled:
            report.faults.append(f"{split}: nobody has a labelled keypoint, so there is nothing to learn or to score")
    return report


def _shown(path: str | Path) -> str:
    """A path inside of the repository from its root, another one as it is."""
    inside = relative(path)
    return str(path) if inside.startswith("..") else inside
