"""What the fields of a recipe may hold: types, limits and words, checked when a recipe is made.

A fault is one sentence with the field, the value and what the field takes, before any data are opened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

LIMITS: dict[str, tuple[float, float]] = {  # the least and the most, both allowed; of other numbers 0 and no end
    **dict.fromkeys(("people", "max_size", "sizes", "batch_size", "steps", "accumulate"), (1, math.inf)),
    **dict.fromkeys(("layer_decay", "drop_at", "restart_at", "stage2_at", "late_at", "ema"), (0, 1)),
    "seed": (0, 2**32 - 1),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "on_error": ("raise", "skip"),
    "schedule": ("cosine", "step", "two_cosines", "constant"),
    "warmup_form": ("linear", "quadratic", "thousandth"),
    "groups": ("backbone", "rtmo", "layers"),
    "distil": ("", "output", "token", "both", "learn_token"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}
KINDS: dict[str, str] = {  # annotation of the field -> words
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "dict": 'names with values, such as {"bins": [12, 16]}',
    "tuple[int, int]": "two whole numbers, the least and the most, such as [1, 6]",
    "tuple[int, ...]": "a list of whole numbers",
    "tuple[float, ...]": "a list of numbers",
    "float | tuple[float, ...]": "a number or a list of numbers",
}
# What a folder in COCO's format takes besides `on_error`, see `posekit.data.coco.CocoFolder`
DATA_OPTIONS = ("annotations", "images", "layout", "category", "outside", "sigmas", "flip_pairs")
EXAMPLE = '{"ema": 0.99, "model_options": {"dim": 64}}'


def check(kinds: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Raises ValueError unless every value is of its field's kind (see `KINDS`), within its limits, and a known word.

    kinds: field -> annotation. values: field -> value, one for every field.
    """
    for name, kind in kinds.items():
        value, fault = values[name], ""
        numbers = value if isinstance(value, tuple) else (value,) if isinstance(value, Real) else ()
        low, high = LIMITS.get(name, (0, math.inf))
        if not fits(kind, value):
            fault = f"it must be {KINDS[kind]}"
            if kind == "str" and isinstance(value, Real):
                fault += "; papermill's -p makes a number of such text, its -r (or ci/execute.py) does not"
        elif name in CHOICES and value not in CHOICES[name]:
            fault = f"choose {' or '.join(map(repr, filter(None, CHOICES[name])))}"
        elif not all(low <= number <= high for number in numbers):
            fault = f"it must be at least {low:g}" if math.isinf(high) else f"it must be from {low:g} to {high:.10g}"
        elif name == "people" and value[0] > value[1]:
            fault = "the first number must not exceed the second"
        if fault:
            raise ValueError(f"{name} of the recipe is {value!r}: {fault}")
    if unknown := sorted(values["data_options"].keys() - set(DATA_OPTIONS)):
        raise ValueError(f"data_options of the recipe has {unknown[0]!r}; it takes {', '.join(DATA_OPTIONS)}")


def fits(kind: str, value: Any) -> bool:
    """Is the value of this kind? A whole number passes as a number, true and false do not; no NaN, no infinity."""
    if " | " in kind:
        return any(fits(one, value) for one in kind.split(" | "))
    if kind.startswith("tuple"):
        inner = kind.removeprefix("tuple[").partition(",")[0]
        right = isinstance(value, tuple) and all(fits(inner, one) for one in value)
        return right and ("..." in kind or len(value) == 2)
    if kind in ("int", "float"):
        whole, real = isinstance(value, Integral), isinstance(value, Real)
        return not isinstance(value, bool) and (whole if kind == "int" else real) and (whole or math.isfinite(value))
    return isinstance(value, {"str": str, "dict": Mapping}[kind])


def check_device(precision: str, accelerator: str) -> None:
    """Raises ValueError for a precision that the device does not train in: float16 (with its loss scaling) wants a GPU.

    Fabric would take bfloat16 instead without the record saying so.
    """
    import torch

    gpu = torch.cuda.is_available() or (torch.backends.mps.is_available() and accelerator != "cpu")
    if precision.startswith("16") and (accelerator == "cpu" or not gpu):
        raise ValueError(
            f"precision is {precision!r}: half precision (float16) trains on a GPU only, and there is none here; "
            "choose 'bf16-mixed' or '32-true'"
        )


def from_json(more: str | Mapping[str, Any], name: str = "more") -> dict[str, Any]:
    """Names with values as a notebook's parameter called `name` brings them: JSON, or "" for none.

    Raises:
        ValueError: not JSON, or no names with values.
    """
    try:
        fields = more if isinstance(more, Mapping) else json.loads(more or "{}")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} is {more!r}, which is not JSON ({error}); write it as {EXAMPLE}") from None
    if not isinstance(fields, Mapping):
        raise ValueError(f"{name} is {more!r}: it must hold names with values, such as {EXAMPLE}")
    return dict(fields)
