"""What a run says about its data: what the readers noticed, what was left out, and what the sigmas are.

A data set has `notes` and `skipped`, a sentence for each thing; several data sets in one (`Together`) have `parts`, and
crops (`People`) a `dataset` behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from posekit.data.images import DataError

SHOWN = 5  # sentences about entries that were left out; the others are counted


def sources(data) -> list:
    """The data sets that a data set is made of, itself first, those behind it after it."""
    behind = [*getattr(data, "parts", ()), *filter(None, [getattr(data, "dataset", None)])]
    return [data, *(one for part in behind for one in sources(part))]


def notes_of(data) -> list[str]:
    """What its readers noticed, a sentence each, once."""
    return list(dict.fromkeys(getattr(data, "notes", ())))


def left_out_of(data) -> list[str]:
    """A sentence for each entry that could not be used, once: it may grow while images are read."""
    return list(dict.fromkeys(why for one in sources(data) for why in getattr(one, "skipped", ())))


def merged(data: Mapping[str, object], what: Callable[[object], list[str]]) -> list[str]:
    """The sentences of several data sets, each with the names of those that it is true of.

    data: name ("training", "validation") -> data set. what: `notes_of` or `left_out_of`.
    """
    found: dict[str, list[str]] = {}
    for name, one in data.items():
        for sentence in what(one):
            found.setdefault(sentence, []).append(name)
    return [f"{' and '.join(names)}: {sentence}" for sentence, names in found.items()]


def report_notes(parts, record: dict, report: Callable[[str], None]) -> None:
    """Reports what a run starts without, what the readers of its data noticed and which sigmas score it, and keeps all
    of it in the record.

    parts: `posekit.training.build.Parts`. record: of `runs.Run`; it gets `notes` and `sigmas`.
    """
    record["notes"] = [*filter(None, [parts.start]), *merged(_by_name(parts), notes_of)]
    record["sigmas"] = sigmas_of(next(iter(parts.val.values())).dataset)
    for sentence in record["notes"]:
        report(f"note: {sentence}")
    if record["sigmas"]:
        report(f"OKS sigmas: {record['sigmas']}")


def report_left_out(parts, record: dict, report: Callable[[str], None]) -> None:
    """Reports how many entries of a run's data could not be used, and keeps a sentence for each as `left_out`."""
    record["left_out"] = merged(_by_name(parts), left_out_of)
    for line in summary(record["left_out"]):
        report(line)


def _by_name(parts) -> dict[str, object]:
    several = len(parts.val) > 1
    val = {f"validation ({name})" if several else "validation": loader.dataset for name, loader in parts.val.items()}
    return {"training": parts.train.dataset} | val


def unreadable_error(data) -> DataError:
    """What is raised when a whole epoch gave no batch."""
    why = left_out_of(data)
    return DataError(f"no image of {data.name} could be read: {'; '.join(why[:3]) or 'it has none for this process'}")


def summary(sentences: list[str]) -> list[str]:
    """Lines for a log: how many entries were left out, and why the first of them were; nothing for nothing."""
    if not sentences:
        return []
    more = [f"  and {len(sentences) - SHOWN} more"] if len(sentences) > SHOWN else []
    return [f"left out: {len(sentences)}", *(f"  {one}" for one in sentences[:SHOWN]), *more]


def sigmas_of(data) -> str:
    """Which OKS sigmas the score of a data set has, in words; "" where the data set does not say."""
    return next((one.sigmas_from for one in sources(data) if getattr(one, "sigmas_from", "")), "")
