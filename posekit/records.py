"""The record of a run, `run.json`, as everybody reads it: its parts checked, and the line that figures say of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from posekit.files import read_json, relative, resolve

PROVENANCE = {  # of a record that an older version, or another tool, wrote without some of its parts
    "commit": "unknown", "dirty": False, "device": "unknown device", "threads": 1, "started": "", "seconds": 0.0,
    "seed": None, "data": None,
}  # fmt: skip
PARTS = {
    "folder": str, "status": str, "sessions": int, "results": dict, "parameters": dict, "provenance": dict,
    "provenance.commit": str, "provenance.device": str, "provenance.threads": int, "provenance.started": str,
    "provenance.seconds": (int, float), "provenance.seed": (int, type(None)), "provenance.data": (dict, type(None)),
    "provenance.data.name": str, "parameters.model": str, "parameters.evaluated": str, "results.step": int,
    "evaluation": dict, "evaluation.parameters": dict, "evaluation.data": (dict, type(None)),
}  # fmt: skip

FORMER_FIELDS = {  # name: where it is now, and its default
    "num_queries": ("model_options", 0), "pretrained": ("model_options", False),
    "pose_cost": ("loss_options", "released"), "class_term": ("loss_options", "released"),
    "visible": ("loss_options", "released"), "deltas_and_center": ("loss_options", False),
    "w_class": ("loss_options", 1.0), "w_abs": ("loss_options", 4.0), "w_vis": ("loss_options", 0.2),
    "w_ctr": ("loss_options", 0.5), "w_deltas": ("loss_options", 0.5),
}  # fmt: skip


def footer(*runs: Mapping[str, Any] | str | Path, profile: str | None = None) -> str:
    """One line for the foot of a figure: data · profile · runs (steps) · commit (* = changed files) · device · day.

    `runs`: records (`Run.record` or what `provenance()` returned) or paths of run folders. What several runs
    share is said once. `profile`: of a run whose folder does not tell it; data/runs/quick/NAME does.
    """
    lines = [_facts(run if isinstance(run, Mapping) else load_run(run), profile) for run in runs]
    facts = [", ".join(filter(None, dict.fromkeys(fact))) for fact in zip(*lines, strict=True)]
    return " · ".join(filter(None, facts))


def _facts(record: Mapping[str, Any], profile: str | None) -> tuple[str, ...]:
    made = {**PROVENANCE, **record.get("provenance", record)}
    data = (made["data"] or {}).get("name", "")
    folder = Path(record.get("folder", "")).parts
    if folder[:2] == ("data", "runs") and len(folder) > 3:
        profile = folder[2]
    parameters = record["parameters"]
    name = parameters.get("model") or (folder[-1] if folder else "")
    trained = parameters.get("evaluated", record.get("folder", ""))
    shipped = "shipped" if Path(trained).parts[:2] == ("data", "weights") else ""
    steps = steps_of(record)
    length = ", ".join(filter(None, (shipped, f"{steps:,} steps" if steps else "")))
    name = f"{name} seed {made['seed']}".strip() if made["seed"] is not None else name
    count = parameters.get("threads") or made["threads"]  # a measurement sets its own number
    threads = f"{count} thread{'' if count == 1 else 's'} CPU"
    return (
        "drawn people" if data == "people" else data,
        f"profile {profile}" if profile else "",
        f"{name} ({length})" if length else name,
        f"commit {made['commit']}{'*' if made['dirty'] else ''}",
        threads if made["device"] == "cpu" else made["device"],
        made["started"][:10],
    )


def steps_of(record: Mapping[str, Any]) -> int | None:
    """Optimiser steps behind a run, or behind the weights that an evaluation scored; None where nothing was trained."""
    if evaluated := record["parameters"].get("evaluated"):
        with suppress(FileNotFoundError):
            return steps_of(load_run(evaluated))
        return None
    steps = record.get("results", {}).get("step", record["parameters"].get("steps"))
    return None if steps is None else int(steps)


def load_run(path: str | Path) -> dict[str, Any]:
    """The record of a run folder (or of a `run.json`), whose parts have their types; missing ones are filled in.

    Raises:
        FileNotFoundError: no run there. ValueError: not JSON, no record of a run, or a part of another type; the
            sentence names the file and the part.
    """
    path = resolve(path)
    path = path if path.suffix == ".json" else path / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"{relative(path)} is missing: no run was made there yet")
    record = read_json(path)
    if not isinstance(record, dict) or "parameters" not in record:
        what = "it has no 'parameters'" if isinstance(record, dict) else f"it holds a {type(record).__name__}"
        raise ValueError(f"{relative(path)} is not the record of a run ({what}): choose another folder")
    for name, kind in PARTS.items():
        place, missing = record, False
        for word in name.split("."):
            missing = not isinstance(place, dict) or word not in place
            if missing:
                break
            place = place[word]
        if not missing and (not isinstance(place, kind) or isinstance(place, bool)):
            raise ValueError(
                f"{relative(path)} is not the record of a run: {name} is {str(place)[:60]!r}; restore the file, or "
                "choose another folder"
            )
    record["parameters"] = upgraded(record["parameters"])
    head = {"folder": relative(path.parent), "status": "unknown", "reason": None, "sessions": 1, "results": {}}
    return head | record | {"provenance": PROVENANCE | record.get("provenance", {})}


def upgraded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as recipes hold them now: an older version kept POET's options as fields of every recipe."""
    kept = {name: value for name, value in parameters.items() if name not in FORMER_FIELDS}
    if str(kept.get("model", "")).startswith("poet"):
        for name, (place, default) in FORMER_FIELDS.items():
            if (value := parameters.get(name, default)) != default:
                kept[place] = {**kept.get(place, {}), name: value}
    return kept
