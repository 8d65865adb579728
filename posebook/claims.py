"""The papers' sentences on accuracy and size, each with the verdict of what comes with the book.

`data/paper/claims.csv` lists all sentences, those on speed too, which `posebook.benchmarks.claims` has judged. One on
AP needs two seeds of either side. Where the paper prints a difference, ours agrees if it has its sign; where it says
that there is hardly one, if ours is about as small.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from posebook.reports import FIGURES
from posebook.tables import NOT_RUN, OURS, markdown, read_paper
from posebook.verdicts import TOO_LITTLE, judged, not_run, verdict
from posekit.files import resolve

SPEED = ("poet_fig01_claims", "rtmo_fig03_claims")  # tables of the pages on speed
SAME_SIZE, SAME_RATIO = 0.01, 0.1  # relative differences that count as the same
SHORT = "our runs are short, from random weights, on drawn people"


class Judge:
    """Judges claims by the tables and figures in a folder; `rows` in the order of the calls.

    committed: what is not in the folder is taken from what comes with the book.
    """

    def __init__(self, folder: str | Path = FIGURES, committed: bool = False) -> None:
        self.folders, self.rows = [resolve(folder), *([resolve(FIGURES)] if committed else [])], []

    def table(self, stem: str, as_text: bool = True) -> pd.DataFrame | None:
        """STEM.csv, or None."""
        paths = [path for path in (folder / f"{stem}.csv" for folder in self.folders) if path.is_file()]
        if not paths:
            return None
        return pd.read_csv(paths[0], dtype=str if as_text else None, keep_default_na=not as_text)

    def say(self, claim: str, holds: bool | None, measured: str, why: str = "") -> None:
        self.rows.append(judged(claim, holds, measured, why))

    def compare(self, claim: str, stem: str, ours: dict, base: dict, sign: int, why: str = SHORT) -> None:
        """AP of the runs in the rows `ours` against those in `base` (column -> value); `sign`: the paper's."""
        table = self.table(stem)
        one, other = (ap_of(table, wanted) for wanted in (ours, base))
        if one is None or other is None:
            self.rows.append(not_run(claim, "not both sides"))
            return
        found = verdict(one, other, sign)
        holds = None if found.claim == TOO_LITTLE else found.claim == "agrees"
        measured = f"{found.difference:+.1f} points, seeds: {found.seeds}"
        self.say(claim, holds, f"{measured}, {found.word}" if found.seeds > 1 else measured, why)

    def close(self, claim: str, ours: float, claimed: float, tolerance: float, form: str, why: str = "") -> None:
        """A number of ours against the paper's; `form` says how both are printed."""
        holds = None if np.isnan(ours) else bool(abs(ours - claimed) <= tolerance)
        self.say(claim, holds, f"{form.format(ours)}; the paper: {form.format(claimed)}", why)


def ap_of(table: pd.DataFrame | None, wanted: dict) -> np.ndarray | None:
    """The AP in per cent of the runs in the one row of a table that has these values; None where it was not run.

    Two runs are known again by their mean and standard deviation.
    """
    if table is None:
        return None
    ours = table[table["by"] == "ours"] if "by" in table else table
    rows = ours[np.logical_and.reduce([ours[name] == value for name, value in wanted.items()])]
    cell = rows[OURS + "AP" if OURS + "AP" in table else "AP"].iloc[0] if len(rows) else ""
    numbers = [float(number) for number in re.findall(r"\d+\.?\d*", cell)]
    if not numbers:
        return None
    spread = numbers[1] / np.sqrt(2) if len(numbers) > 1 else 0.0
    return np.array([numbers[0] - spread, numbers[0] + spread]) if len(numbers) > 1 else np.array(numbers)


def first(cell: str | None) -> float:
    """The number that a cell begins with; NaN of a dash, of "not run" and of nothing."""
    number = re.match(r"[+-]?\d+\.?\d*", (cell or "").replace(",", ""))
    return float(number[0]) if number else np.nan


def parameters(model: str, part: str = "", trainable: bool = False) -> float:
    """Millions of parameters of a network, or of a part of it."""
    import torch

    from posekit import models

    with torch.device("meta"):
        network = models.build(model)
    network = getattr(network, part) if part else network
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable) / 1e6


def all_claims(folder: str = FIGURES) -> pd.DataFrame:
    """Every sentence of claims.csv with its verdict, in that order: its columns and here, measured, why not."""
    judge = Judge(folder)
    for judged_by in (poet, rtmo, vitpose):
        judged_by(judge)
    found = [*judge.rows, *speed_rows(judge)]
    names = [row["claim"] for row in found]
    known = read_paper("claims").fillna("")
    if sorted(names) != sorted(known.claim):
        raise ValueError(
            f"judged twice, or not listed, or not judged: {sorted(set(names) ^ set(known.claim)) or names}"
        )
    return known.merge(pd.DataFrame(found).drop(columns="the paper says"), on="claim")


def of_page(page: str, folder: str | Path) -> str:
    """The claims that a page tests, judged by what it has just written into `folder`, as a Markdown table."""
    judge = Judge(folder, committed=True)
    {"2": poet, "3": rtmo, "4": vitpose}[page[0]](judge)
    listed = set(read_paper("claims").query("page == @page").claim)
    rows = pd.DataFrame([row for row in judge.rows if row["claim"] in listed])
    return markdown(rows.drop(columns="claim"))


def speed_rows(judge: Judge) -> list[dict]:
    """The sentences on speed, as the two pages on it have judged them from single runs, which are not kept."""
    tables = filter(lambda table: table is not None, map(judge.table, SPEED))
    found = [row for table in tables for row in table.to_dict("records")]
    done = {row["claim"] for row in found}
    listed = read_paper("claims").query("worker in ('12_speed', '13_rtmo_speed') and page != '34_rtmo_features'").claim
    return found + [not_run(claim, "not measured") for claim in listed if claim not in done]


def poet(judge: Judge) -> None:
    judge.close("poet-parameters", parameters("poet_r50", trainable=True), 41.3, SAME_SIZE * 41.3, "{:.1f} M")
    log = judge.table("poet_fig03_losses", as_text=False)
    terms = [name for name in log if name.startswith("val_loss_") and not name[-1].isdigit() and log[name].count() > 1]
    fell = [name for name in terms if log[name].dropna().iloc[-1] < log[name].dropna().iloc[0]]
    measured = f"{len(fell)} of {len(terms)} fell in {log.step.iloc[-1]:,} steps"
    judge.say("poet-losses-fall", len(fell) == len(terms) if terms else None, measured, "not all of them did")
    depth = judge.table("poet_fig08_decoder_depth", as_text=False)
    enough = int(depth.layer[depth.AP >= depth.AP.max() - 0.005].iloc[0])
    judge.say("poet-depth", enough < len(depth), f"layer {enough} of {len(depth)}", "the last layer is needed")
    large(judge, "poet-large", "poet_table1", "poet_tiny")
    ours = {"method": "poet_tiny", "seeds": "0, 1"}
    for claim, rival, sign in (
        ("poet-above-ae", "ae_tiny, shipped weights", 1),
        ("poet-below-openpose", "openpose_tiny, shipped weights", -1),
        ("poet-below-top-down", "simple_baseline_tiny, shipped weights, boxes of rtmdet_tiny", -1),
    ):
        judge.compare(claim, "poet_table1", ours, {"method": rival}, sign)
    centres = judge.table("poet_fig09_centers", as_text=False)
    spread = centres.groupby("model")[["dx", "dy"]].std().mean(axis=1)
    names = [f"{word} centre and offset losses (c)" for word in ("with", "without")]
    ratio = spread.get(names[1], np.nan) / spread.get(names[0], np.nan)
    measured = f"{ratio:.1f} times the spread of the same training with them"
    judge.say("poet-centres", None if np.isnan(ratio) else bool(ratio > 2), measured, "they stay where they were")
    shares = judge.table("poet_fig10_visibility", as_text=False).groupby("truth")[["joints", "correct"]].first()
    shares = shares.reindex([0, 1, 2])
    hidden = shares.loc[[0, 1]].dropna()
    why = "the paper's are mostly joints that nobody labelled; ours are occluded ones, which are trained as such"
    judge.close("poet-visible", 100 * shares.correct[2], 91.1, 10, "{:.1f} %")
    below = 100 * np.average(hidden.correct, weights=hidden.joints) if len(hidden) else np.nan
    judge.close("poet-not-visible", below, 94.8, 10, "{:.1f} %", why)
    for claim, one, other in (
        ("poet-stride-32", "POET stride 32", "AE stride 32"),
        ("poet-stride-16", "POET stride 16", "AE stride 16"),
        ("poet-stride-16-4", "POET stride 16", "AE stride 4"),
    ):
        judge.compare(claim, "poet_fig06_runs", {"variant": one}, {"variant": other}, 1)


def large(judge: Judge, claim: str, stem: str, model: str) -> None:
    """Is AP on large people above that on medium ones, in every run?"""
    table, names = judge.table(stem), ("APL", "APM")
    names = names if "APL" in table else ("AP, area L", "AP, area M")
    rows = table[(table["by"] == "ours") & table.method.str.startswith(model) & (table.AP != NOT_RUN)]
    gaps = [first(row[names[0]]) - first(row[names[1]]) for _, row in rows.iterrows()]
    gaps = [gap for gap in gaps if not np.isnan(gap)]
    holds = None if len(gaps) < 2 or min(gaps) <= 0 < max(gaps) else min(gaps) > 0
    judge.say(claim, holds, ", ".join(f"{gap:+.1f}" for gap in gaps) + " points", "it is the other way round")


def rtmo(judge: Judge) -> None:
    for size, claimed in zip("sml", (9.9, 22.6, 44.8), strict=True):
        ours = parameters(f"rtmo_{size}")
        judge.close(f"rtmo-parameters-{size}", ours, claimed, SAME_SIZE * claimed, "{:.1f} M")
    large(judge, "rtmo-large", "rtmo_table1", "rtmo_tiny")
    crowds = judge.table("rtmo_table2")
    rows = crowds[(crowds["by"] == "ours") & (crowds.AP != NOT_RUN)]
    bands = [[first(row[f"AP, crowd {name}"]) for name in ("easy", "medium", "hard")] for _, row in rows.iterrows()]
    holds = (
        all(one > two > three for one, two, three in bands) if len(bands) > 1 and not np.isnan(bands).any() else None
    )
    judge.say("rtmo-crowds", holds, "; ".join(" / ".join(f"{x:.1f}" for x in one) for one in bands), "not in every run")

    def row(decoding: str, loss: str = "MLE") -> dict:
        return {"decoding": decoding, "loss": loss}

    whole = row("CC+DBA+DBE")
    for claim, one, other, sign in (
        ("rtmo-classes", row("CC"), row("Regression", "OKS"), 1),
        ("rtmo-dynamic-alone", row("CC+DBA"), row("CC"), -1),
        ("rtmo-encoding", whole, row("CC+DBA"), 1),
        ("rtmo-whole", whole, row("Regression", "OKS"), 1),
        ("rtmo-likelihood", whole, row("CC+DBA+DBE", "KLD"), 1),
    ):
        judge.compare(claim, "rtmo_table3", one, other, sign)
    times = judge.table("rtmo_table4")
    for size in "sm":
        rows = times[times.method == f"RTMO-{size}"].set_index(["by", "features"])["CPU, ms"]
        paper, ours = (first(rows.get((by, "P3 P4 P5"))) / first(rows.get((by, "P4 P5"))) for by in ("paper", "ours"))
        judge.close(f"rtmo-p3-time-{size}", ours, paper, SAME_RATIO * paper, "{:.2f} times")
    judge.compare("rtmo-p3-accuracy", "rtmo_table4", {"features": "P3 P4 P5"}, {"features": "P4 P5"}, -1)


def vitpose(judge: Judge) -> None:
    for size, claimed in zip("blh", (86, 307, 632), strict=True):
        ours = parameters(f"vitpose_{size}", "backbone")
        why = "ours are those of the transformer alone; what the published number counts is not known here"
        judge.close(f"vitpose-parameters-{size}", ours, claimed, SAME_SIZE * claimed, "{:.0f} M", why)
    chain(judge, "vitpose-size", "vitpose_scaling", ("narrow", "tiny", "wide"))
    chain(judge, "vitpose-resolution", "vitpose_resolution", ("48x36", "96x72", "96x96"))
    about(judge, "vitpose-decoder", "vitpose_decoders", "simple", "classic", -0.3, 1.0)
    judge.rows.append(not_run("vitpose-pretraining", "no counterpart of ImageNet"))
    about(judge, "vitpose-attention-frozen", "vitpose_finetuning", "MHSA frozen", "all trained", -0.7, 1.5)
    for claim, stem, one, other, sign in (
        ("vitpose-ffn-frozen", "finetuning", "FFN frozen", "MHSA frozen", -1),
        ("vitpose-datasets", "datasets", "people+crowd+macaque", "people", 1),
        ("vitpose-window-accuracy", "attention", "window", "full", -1),
        ("vitpose-token", "distillation", "token", "none", 1),
        ("vitpose-heatmaps", "distillation", "heatmaps", "none", 1),
        ("vitpose-both", "distillation", "heatmaps + token", "heatmaps", 1),
    ):
        why = "as many steps for all: the first data set is seen less often" if stem == "datasets" else SHORT
        judge.compare(claim, f"vitpose_{stem}", {"variant": one}, {"variant": other}, sign, why)
    cost = judge.table("vitpose_ext_attention_cost", as_text=False).query("kernel == 'scores' and kind == 'attention'")
    kept, work = (cost.set_index("variant")[name] for name in ("kept_mb", "gmac"))
    name = cost.model.iloc[0]
    for claim, values, one, other, unit in (
        ("vitpose-window-memory", kept, "window", "full", "MB"),
        ("vitpose-window-operations", work, "window", "full", "GMAC"),
        ("vitpose-large-windows", kept, "shift+pool", "shift+pool 16x12", "MB"),
    ):
        a, b = values.get(one, np.nan), values.get(other, np.nan)
        measured = f"{one} {a:.1f}, {other} {b:.1f} {unit} ({name})"
        judge.say(claim, None if np.isnan(a + b) else bool(a < b), measured, "it does not")
    ratio = kept.get("shift+pool", np.nan) / kept.get("window", np.nan)
    judge.close("vitpose-exchange-memory", 100 * (ratio - 1), 100 * (22893 / 21161 - 1), 10, "{:+.0f} %")
    partial = judge.table("vitpose_partial", as_text=False).query("training == 'whole bodies' and share == 0.55")
    drop = (partial.AP - partial.AP_whole).groupby(partial.seed).max()
    measured = f"{100 * -drop.max():.1f} points or more below the same people whole, seeds: {len(drop)}"
    judge.say("vitpose-partial", bool(drop.max() < 0) if len(drop) > 1 else None, measured, "not all of them are")


def chain(judge: Judge, claim: str, stem: str, variants: tuple[str, ...]) -> None:
    """Is each variant above the one before it, on every seed?"""
    table = judge.table(stem)
    values = [ap_of(table, {"variant": variant}) for variant in variants]
    if any(one is None or len(one) < 2 for one in values):
        judge.rows.append(not_run(claim, "not with two seeds"))
        return
    steps = [verdict(two, one, 1).claim for one, two in zip(values, values[1:], strict=False)]
    holds = None if TOO_LITTLE in steps else all(step == "agrees" for step in steps)
    told = ", ".join(f"{name} {one.mean():.1f}" for name, one in zip(variants, values, strict=True))
    judge.say(claim, holds, told, "not every one is above the one before")


def about(judge: Judge, claim: str, stem: str, one: str, base: str, claimed: float, tolerance: float) -> None:
    """Is the difference between two variants that of the paper, to `tolerance` points?"""
    table = judge.table(stem)
    ours, other = (ap_of(table, {"variant": variant}) for variant in (one, base))
    if ours is None or other is None or min(len(ours), len(other)) < 2:
        judge.rows.append(not_run(claim, "not with two seeds"))
        return
    judge.close(claim, float(ours.mean() - other.mean()), claimed, tolerance, "{:+.1f} points", SHORT)
