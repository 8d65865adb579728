"""Which categories of a COCO file are people (or animals) with keypoints, and what the file says about their joints.

Format: cocodataset.org, "Data format": a category has an id, a name, the names of its keypoints and a skeleton.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from posekit.data.coco_values import Fault, Notes, clean, listed, told, whole


@dataclass(frozen=True)
class Category:
    """`keypoints`: their names, () if the file gives none. `limbs`: index pairs, counted from 0."""

    id: int
    name: str = ""
    keypoints: tuple[str, ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.id} '{self.name}'" if self.name else str(self.id)


def read_categories(rows: Any, where: str, notes: Notes, strict: bool = True) -> list[Category]:
    """The categories of a file; null or nothing is an empty list. Not strict: one that cannot be read is left out with
    a note, as pycocotools scores without them.

    Raises:
        ValueError: rows that cannot be read; one sentence.
    """
    rows = [] if rows is None else listed(rows)
    if rows is None:
        raise ValueError(f"{where}: 'categories' must be a list")
    found: dict[int, Category] = {}
    for place, row in enumerate(rows, 1):
        number, names, limbs = None, (), ()
        try:
            if not isinstance(row, dict):
                raise Fault(f"is {told(row)}, not an object")
            if row.get("id") is None:
                raise Fault("has no 'id', so no annotation can belong to it")
            number = whole(row["id"], "category id", notes)
            names = _names(row.get("keypoints"), notes)
            limbs = _limbs(row.get("skeleton"), names, notes)
        except Fault as fault:
            sentence = f"category number {place} of the file {fault}"
            if strict:
                raise ValueError(f"{where}: {sentence}") from None
            notes.say(f"left out: {sentence}" if number is None else f"{sentence}: the keypoints' names are not used")
            if number is None:
                continue
        name = clean(row["name"]) if isinstance(row.get("name"), str) else ""
        category = Category(number, name, names, limbs)
        if strict and number in found and found[number].keypoints != names:
            raise ValueError(
                f"{where}: two categories have the id {number} and different keypoints; ids must be unique"
            )
        found.setdefault(number, category)
    return list(found.values())


def _names(value: Any, notes: Notes) -> tuple[str, ...]:
    names = [] if value is None else listed(value)
    if names is None:
        raise Fault(f"has the keypoints {told(value)}, not a list of names")
    for name in names:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise Fault(f"names a keypoint {told(name)}, which is not text")
        if not isinstance(name, str):
            notes.say(f"keypoint names are numbers in the file, the first {name}: read as text")
    names = tuple(clean(str(name)) for name in names)
    if len(set(names)) < len(names):
        twice = next(name for name, n in Counter(names).items() if n > 1)
        raise Fault(f"name a keypoint twice: '{twice}'; names must differ")
    return names


def _limbs(value: Any, names: tuple[str, ...], notes: Notes) -> tuple[tuple[int, int], ...]:
    """The skeleton as index pairs counted from 0. COCO counts from 1; a 0 in it shows that the file does not."""
    pairs = [listed(pair) or [] for pair in listed(value) or []]
    places = {name: i for i, name in enumerate(names, 1)}
    pairs = [[places.get(end, end) if isinstance(end, str) else end for end in pair] for pair in pairs]
    ends = [end for pair in pairs for end in pair]
    pure = all(len(pair) == 2 for pair in pairs) and all(type(end) is int for end in ends)
    if not ends and not value:
        return ()
    if pure and ends and min(ends) == 0 and max(ends) < len(names):
        notes.say("the skeleton counts keypoints from 0, COCO from 1: read as it is meant")
        return tuple((a, b) for a, b in pairs)
    if pure and ends and min(ends) >= 1 and max(ends) <= len(names):
        return tuple((a - 1, b - 1) for a, b in pairs)
    if names:
        notes.say(f"the skeleton {told(value)} does not fit the {len(names)} keypoints: no limbs are drawn")
    return ()


def choose(
    categories: list[Category],
    used: Counter,
    wanted: int | str | None,
    where: str,
    remedy: str = "category",
    key: Callable | None = None,
) -> list[Category]:
    """The categories that are kept: the one wanted (id or name), else all that share the layout of the keypoints.

    `used`: how many annotations with keypoints have which category id. A file that lists no category has those that it
    uses. `remedy`: how the reader says which one is meant. `key`: what must be equal of their keypoints' names: they
    themselves, or what this function makes of them.

    Raises:
        ValueError: the wanted one is not there, or their keypoints differ; one sentence.
    """
    listing = categories or [Category(number) for number in sorted(used)] or [Category(1)]
    if wanted is not None:
        found = [one for one in listing if one.id == wanted or (isinstance(wanted, str) and one.name == wanted)]
        if not found and categories:
            raise ValueError(f"{where} has no category {wanted}; it has {named(categories)}: give {remedy}")
        return found or [Category(wanted if isinstance(wanted, int) else 1)]
    key = key or tuple
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


def named(categories: Iterable) -> str:
    """Up to five categories, for a sentence."""
    texts = [str(one) for one in categories]
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5} more" if len(texts) > 5 else "")


def counted(numbers: Counter, categories: list[Category]) -> str:
    """How many rows have which category: "3 of category 5 'dog', 2 without a category id"."""
    names = {one.id: str(one) for one in categories}
    texts = [
        f"{n:,} without a category id" if key is None else f"{n:,} of category {names.get(key, key)}"
        for key, n in numbers.most_common(5)
    ]
    rest = sum(numbers.values()) - sum(n for _, n in numbers.most_common(5))
    return ", ".join(texts) + (f" and {rest:,} of others" if rest else "")


def tell_left_out(
    left_out: Counter, kept: list[Category], categories: list[Category], where: str, notes: Notes, everything: bool
) -> None:
    """Note how many annotations are of other categories than those kept. Raises ValueError: all of them are."""
    if everything:
        raise ValueError(
            f"{where}: no annotation has category {named(kept)}, which was looked for; they are "
            f"{counted(left_out, categories)}"
        )
    notes.say(f"left out: annotations, {counted(left_out, categories)} (kept: {named(kept)})")
