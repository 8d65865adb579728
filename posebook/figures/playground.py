"""The last runs of the playground: loss and AP over the steps, the newest in bold."""

from __future__ import annotations

import pandas as pd

from posebook.figures import style

INKS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#7F7F7F")  # runs, colour-blind safe


@style.styled
def curves(logs: dict[str, tuple[str, pd.DataFrame]]):
    """a) Training loss (solid) and validation loss (dashed) of the runs of the newest one's model, as losses of other
    models have another scale; b) AP of all.

    logs: run -> (model, log.csv), the newest last, as `posebook.playground.logs` gives them.
    """
    fig = style.figure(style.DOUBLE, 2.6)
    loss, ap = fig.subplots(1, 2)
    if not logs:
        for ax in (loss, ap):
            style.not_run(ax)
        return fig
    newest, ends = list(logs)[-1], {loss: [], ap: []}
    for number, (run, (model, log)) in enumerate(logs.items()):
        look = {"color": INKS[number % len(INKS)], "lw": 2 if run == newest else 0.9, "marker": "o", "ms": 2.5}
        if model == logs[newest][0]:
            loss.plot(log.step, log.train_total, **look)
            loss.plot(log.step, log.val_total, **look | {"ls": "--", "lw": 0.8, "marker": None})
            ends[loss].append((log.train_total.iloc[-1], run, look["color"]))
        if "AP" in log and log.AP.notna().any():
            rows = log[log.AP.notna()]
            ap.plot(rows.step, rows.AP, **look)
            ends[ap].append((rows.AP.iloc[-1], f"{run} {model}", look["color"]))
    steps = max(log.step.max() for _, log in logs.values())
    for ax, name in ((loss, "loss"), (ap, "AP, drawn scenes")):
        ax.set(xlim=(0, steps), xlabel="steps", ylabel=name)
    ap.set_ylim(0, max(0.1, 1.1 * max((log.AP.max() for _, log in logs.values() if "AP" in log), default=0)))
    for ax, entries in ends.items():
        style.direct_labels(ax, entries)
    style.panel(loss, "a", f"loss of {logs[newest][0]}: training, validation (dashed)")
    style.panel(ap, "b", "AP of the last runs")
    return fig
