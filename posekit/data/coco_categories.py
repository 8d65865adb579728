"""Which categories of a COCO file are people (or animals) with keypoints, and what the file says about their joints.

Format: cocodataset.org, "Data format": a category has an id, a name, the names of its keypoints and a skeleton.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from posekit.data.coco_values import Fault, Notes, as_list, described, named, printable, whole


@dataclass(frozen=True)
class Category:
    """`keypoints`: their names, () if the file gives none. `limbs`: index pairs, counted from 0. `sigmas`: of OKS, if
    the file gives one per keypoint (no part of COCO's format)."""

    id: int
    name: str = ""
    keypoints: tuple[str, ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()

    def __str__(self) -> str:
        return f"{self.id} '{self.name}'" if self.name else str(self.id)


def read_categories(rows: Any, where: str, notes: Notes, strict: bool = True) -> list[Category]:
    """The categories of a file; null or nothing is an empty list. Not strict: one that cannot be read is left out with
    a note, as pycocotools scores without them, and skeletons are not read.

    Raises:
        ValueError: rows that cannot be read; one sentence.
    """
    rows = [] if rows is None else as_list(rows)
    if rows is None:
        raise ValueError(f"{where}: 'categories' must be a list")
    found: dict[int, Category] = {}
    for place, row in enumerate(rows, 1):
        number, names, limbs, sigmas = None, (), (), ()
        try:
            if not isinstance(row, dict):
                raise Fault(f"is {described(row)}, not an object")
            if row.get("id") is None:
                raise Fault("has no 'id', so no annotation can belong to it")
            number = whole(row["id"], "category id", notes)
            names = _keypoint_names(row.get("keypoints"), notes)
            limbs = _limbs(row.get("skeleton"), names, notes) if strict else ()
            sigmas = _sigmas(row.get("sigmas"), names)
        except Fault as fault:
            sentence = f"category number {place} of the file {fault}"
            if strict:
                raise ValueError(f"{where}: {sentence}") from None
            notes.say(f"left out: {sentence}" if number is None else f"{sentence}: the keypoints' names are not used")
            if number is None:
                continue
        name = printable(row["name"]) if isinstance(row.get("name"), str) else ""
        first = found.setdefault(number, Category(number, name, names, limbs, sigmas))
        if strict and first.keypoints != names:
            raise ValueError(
                f"{where}: two categories have the id {number} and different keypoints; ids must be unique"
            )
    return list(found.values())


def _keypoint_names(value: Any, notes: Notes) -> tuple[str, ...]:
    names = [] if value is None else as_list(value)
    if names is None:
        raise Fault(f"has the keypoints {described(value)}, not a list of names")
    for name in names:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise Fault(f"names a keypoint {described(name)}, which is not text")
        if not isinstance(name, str):
            notes.say(f"keypoint names are numbers in the file, the first {name}: read as text")
    names = tuple(printable(str(name)) for name in names)
    for name, n in Counter(names).items():
        if n > 1:
            raise Fault(f"name a keypoint twice: '{name}'; names must differ")
    return names


def _limbs(value: Any, names: tuple[str, ...], notes: Notes) -> tuple[tuple[int, int], ...]:
    """The skeleton as index pairs counted from 0. COCO counts from 1; a 0 in it shows that the file does not."""
    places = {name: i for i, name in enumerate(names, 1)}
    pairs = [as_list(pair) or [] for pair in as_list(value) or []]
    pairs = [[places.get(end, end) if isinstance(end, str) else end for end in pair] for pair in pairs]
    ends = [end for pair in pairs for end in pair]
    if not pairs and not value:
        return ()
    if ends and all(len(pair) == 2 for pair in pairs) and all(type(end) is int for end in ends):
        first = min(min(ends), 1)
        if first >= 0 and max(ends) < len(names) + first:
            if first == 0:
                notes.say("the skeleton counts keypoints from 0, COCO from 1: read as it is meant")
            return tuple((a - first, b - first) for a, b in pairs)
    if names:
        notes.say(f"the skeleton {described(value)} does not fit the {len(names)} keypoints: no limbs are drawn")
    return ()


def _sigmas(value: Any, names: tuple[str, ...]) -> tuple[float, ...]:
    """The OKS sigmas of a category, one per keypoint; nothing is ()."""
    numbers = [] if value is None else as_list(value) or [None]
    if any(isinstance(one, bool) or not isinstance(one, int | float) or not 0 < one < 10 for one in numbers):
        raise Fault(f"has the sigmas {described(value)}, not a list of numbers above 0")
    if numbers and len(numbers) != len(names):
        raise Fault(f"has {len(numbers)} sigmas for {len(names)} keypoints")
    return tuple(map(float, numbers))


def choose_categories(
    categories: list[Category], used: Counter, wanted: int | str | None, where: str, complete: bool
) -> list[Category]:
    """The categories that are kept: the one wanted (id or name), else all that share the layout of the keypoints.

    `used`: how many annotations with keypoints have which category id. A file that lists no category has those that it
    uses. `complete`: for a data set, where the names of their keypoints must be equal, and not only their number.

    Raises:
        ValueError: the wanted one is not there, or their keypoints differ; one sentence.
    """
    remedy = "category=..." if complete else "category_id (on the command line --category)"
    key = tuple if complete else len
    listing = categories or [Category(number) for number in sorted(used)] or [Category(1)]
    if wanted is not None:
        found = [one for one in listing if one.id == wanted or (isinstance(wanted, str) and one.name == wanted)]
        if not found and categories:
            raise ValueError(f"{where} has no category {wanted}; it has {named(categories)}: give {remedy}")
        return found or [Category(wanted if isinstance(wanted, int) else 1)]
    with_names = [one for one in listing if one.keypoints]
    if len({key(one.keypoints) for one in with_names}) > 1:
        with_names = [one for one in with_names if used[one.id]] or with_names
    if len({key(one.keypoints) for one in with_names}) > 1:
        counts = ", ".join(f"{one}: {len(one.keypoints)}" for one in with_names[:5])
        raise ValueError(
            f"{where}: its categories have different keypoints ({counts}); posekit reads one layout at a time: "
            f"say which one with {remedy}"
        )
    return with_names or [one for one in listing if used[one.id]] or listing


def check_categories(
    kinds: Iterable, kept: Sequence[Category], listed: Sequence[Category], where: str, notes: Notes, what="detections"
) -> None:
    """Note how many rows are of other categories than those kept; `kinds`: the category id of every row.

    Raises:
        ValueError: all of them are.
    """
    numbers, own, names = Counter(kinds), {one.id for one in kept}, {one.id: str(one) for one in listed}
    others = Counter({kind: n for kind, n in numbers.items() if kind not in own})
    if not others:
        return
    first = others.most_common(5)
    which = ("without a category id" if kind is None else f"of category {names.get(kind, kind)}" for kind, _ in first)
    counted = ", ".join(f"{n:,} {words}" for (_, n), words in zip(first, which, strict=True))
    if rest := others.total() - sum(n for _, n in first):
        counted += f" and {rest:,} of others"
    if len(others) < len(numbers):
        found = "looked for" if what == "detections" else "kept"
        notes.say(f"left out: {what}, {counted} ({found}: {named(kept)})")
        return
    row, remedy = "annotation", ""
    if what == "detections":
        row, remedy = "row", ": write the annotations' category_id into the rows"
    raise ValueError(f"{where}: no {row} has category {named(kept)}, which was looked for; they are {counted}{remedy}")
