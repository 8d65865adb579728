"""Profile `published` from end to end without a network: `python tests/drills/rehearse_published.py [NAME ...]`

Files with the names and shapes of the published weights, filled by the rule of the reference values, wait on a server
of this machine that breaks off its first answer. A small data set in the folders of COCO and CrowdPose, drawn or one's
own (`--coco FOLDER`, `--crowdpose FOLDER`), takes the place of the real one. Everything else is the profile's: its
workers and its page, the downloads, checksums, translated names, scores. What the weights score says nothing.

The network, the address of a file and its checksum are all that is exchanged, by a startup file of IPython: what is
published carries the first digits of its checksum in its name, which no file of ours could have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import yaml

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests"), str(ROOT / "ci")]

import jobs  # noqa: E402
from golden.rtmo_forward import published as mmpose_rtmo  # noqa: E402
from golden.rules import by_rule, shapes_of  # noqa: E402
from published_names import published_names  # noqa: E402

from posekit import models  # noqa: E402
from posekit.data.drawn.scenes import Scenes  # noqa: E402
from posekit.models.published import COCO, CROWDPOSE, WEIGHTS  # noqa: E402

NAMES = (
    "rtmo_s",
    "rtmo_s:crowdpose",
    "vitpose_s",
    "rtmpose_t",
    "yolox_pose_t",
    "ae_r50_stride4",
    "simple_baseline_r50",
)
DETECTIONS = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
PARTS = {COCO: "data/coco", CROWDPOSE: "data/crowdpose"}
STARTUP = """\
import dataclasses, json
from posekit.models import published
for name, there in json.loads({text!r}).items():
    published.WEIGHTS[name] = dataclasses.replace(published.WEIGHTS[name], **there)
"""


def published_state(name: str) -> dict[str, torch.Tensor]:
    """A state dict with the published names of an entry, filled by rule."""
    entry = WEIGHTS[name]
    model = models.build(entry.model, **entry.options)
    kind = type(model).__name__
    if kind == "RTMO":
        return mmpose_rtmo(model)
    return published_names(kind, by_rule(shapes_of(model)))


class Server(ThreadingHTTPServer):
    """Files of a folder; the first answer of each breaks off in the middle."""

    def __init__(self, folder: Path):
        self.folder, self.asked = folder, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = (self.server.folder / self.path.lstrip("/")).read_bytes()
        whole = self.path in self.server.asked
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if whole else body[: len(body) // 2])
        self.close_connection = True

    def log_message(self, *_):
        pass


def write_data(folder: Path, given: dict[str, Path | None], images: int = 4) -> dict[str, Path]:
    """COCO and CrowdPose as they lie on disk, from the given folders or drawn: {data/coco: where it is, ...}."""
    coco, crowd = folder / "coco", folder / "crowdpose"
    source = given[COCO] or Scenes("people", 7, images, people=(1, 4)).write_coco(folder / "drawn").parents[1]
    (coco / "annotations").mkdir(parents=True)
    (coco / "val2017").symlink_to((source / "images").resolve())
    truth = json.loads((source / "annotations" / "person_keypoints.json").read_text())
    (coco / "annotations" / "person_keypoints_val2017.json").write_text(json.dumps(truth))
    boxes = [
        {"image_id": row["image_id"], "category_id": 1, "bbox": row["bbox"], "score": 0.9}
        for row in truth["annotations"]
        if not row.get("iscrowd")
    ]
    (coco / DETECTIONS).parent.mkdir()
    (coco / DETECTIONS).write_text(json.dumps(boxes))
    source = given[CROWDPOSE] or Scenes("crowd", 7, images).write_coco(folder / "drawn_crowd").parents[1]
    (crowd / "json").mkdir(parents=True)
    (crowd / "images").symlink_to((source / "images").resolve())
    truth = (source / "annotations" / "person_keypoints.json").read_text()
    (crowd / "json" / "crowdpose_test.json").write_text(truth)
    return {PARTS[COCO]: coco, PARTS[CROWDPOSE]: crowd}


def write_profile(path: Path, names: list[str], data: dict[str, Path]) -> list[str]:
    """Profile `published` with these weights only, its folders exchanged; returns its workers' names."""
    content = yaml.safe_load((jobs.PROFILES / "published.yaml").read_text())
    workers = {job: entry for job, entry in content["workers"].items() if entry["parameters"]["published"] in names}
    if missing := set(names) - {entry["parameters"]["published"] for entry in workers.values()}:
        raise SystemExit(f"profile published does not score {', '.join(sorted(missing))}")
    for entry in workers.values():
        for key, value in entry["parameters"].items():
            for ours, there in data.items():
                value = value.replace(ours, str(there))
            entry["parameters"][key] = value.replace("data/runs/published", f"data/runs/{path.stem}")
    report = content["reports"]["53_published"]
    report["needs"] = list(workers)
    report["parameters"] = {"scores": " ".join(entry["parameters"]["out_dir"] for entry in workers.values())}
    path.write_text(yaml.safe_dump(content | {"workers": workers}, sort_keys=False))
    return list(workers)


def rehearse(names: list[str], given: dict[str, Path | None], folder: Path) -> tuple[int, Server]:
    """Runs the profile; its exit status, and the server with what was asked of it."""
    (folder / "served").mkdir()
    server, entries = Server(folder / "served"), {}
    for name in names:
        file = WEIGHTS[name].url.rpartition("/")[2]
        path = folder / "served" / file
        torch.save({"state_dict": published_state(name), "meta": {"epoch": 1}}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries[name] = {"url": server.address + file, "sha256": digest}
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "addresses.py").write_text(STARTUP.format(text=json.dumps(entries)))
    write_profile(folder / "rehearsal.yaml", names, write_data(folder, given))
    for made in ("data/runs", "build", "figures"):
        shutil.rmtree(ROOT / made / "rehearsal", ignore_errors=True)  # of another time: what is there is not made again
    call = [sys.executable, str(ROOT / "ci" / "reproduce.py"), "--profile", str(folder / "rehearsal.yaml")]
    places = {"IPYTHONDIR": str(folder / "ipython"), "POSEKIT_CACHE": str(folder / "cache")}
    status = subprocess.run(call, cwd=ROOT, env=os.environ | places).returncode
    server.shutdown()
    return status, server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", default=NAMES, help="of posekit.models.published; by default one of each kind"
    )
    for data in (COCO, CROWDPOSE):
        option = "--" + data.partition(" ")[0].lower()
        parser.add_argument(option, type=Path, help="folder with images/ and annotations/person_keypoints.json")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        given = {COCO: options.coco, CROWDPOSE: options.crowdpose}
        status, server = rehearse(list(options.names), given, Path(folder))
        twice = sorted({path for path in server.asked if server.asked.count(path) == 2})
        print(f"{len(twice)} of {len(options.names)} files came whole at the second try")
    return status or len(twice) != len(options.names)


if __name__ == "__main__":
    sys.exit(main())
