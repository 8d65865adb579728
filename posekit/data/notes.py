"""What a run says about its data: what the readers noticed, what was left out, and what the sigmas are.

A data set has `notes` and `skipped`, a sentence for each thing; several data sets in one (`Together`) have `parts`, and
crops (`People`) a `dataset` behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

SHOWN = 5  # sentences about entries that were left out; the others are counted


def sources(data) -> list:
    """The data sets that a data set is made of, itself first, those behind it after it."""
    behind = [*getattr(data, "parts", ()), *filter(None, [getattr(data, "dataset", None)])]
    return [data, *(one for part in behind for one in sources(part))]


def notes_of(data) -> list[str]:
    """What its readers noticed, a sentence each, once."""
    return list(dict.fromkeys(note for one in sources(data) for note in getattr(one, "notes", ())))


def left_out_of(data) -> list[str]:
    """A sentence for each entry that could not be used, once: it may grow while pictures are read."""
    return list(dict.fromkeys(why for one in sources(data) for why in getattr(one, "skipped", ())))


def gather(data: Mapping[str, object], what: Callable[[object], list[str]]) -> list[str]:
    """The sentences of several data sets, each with the names of those that it is true of.

    data: name ("training", "validation") -> data set. what: `notes_of` or `left_out_of`.
    """
    found: dict[str, list[str]] = {}
    for name, one in data.items():
        for sentence in what(one):
            found.setdefault(sentence, []).append(name)
    return [f"{' and '.join(names)}: {sentence}" for sentence, names in found.items()]


def summary(sentences: list[str]) -> list[str]:
    """Lines for a log: how many entries were left out, and why the first of them were; nothing for nothing."""
    if not sentences:
        return []
    more = [f"  and {len(sentences) - SHOWN} more"] if len(sentences) > SHOWN else []
    return [f"left out: {len(sentences)}", *(f"  {one}" for one in sentences[:SHOWN]), *more]


def sigmas_of(data) -> str:
    """Which OKS sigmas the score of a data set has, in words; "" where the data set does not say."""
    return next((one.sigmas_from for one in sources(data) if getattr(one, "sigmas_from", "")), "")
