"""What the fields of a recipe may hold: types, limits and words, checked when a recipe is made.

A fault is one sentence with the field, the value and what the field takes, before any data are opened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

SHARE = (0.0, 1.0)
LIMITS: dict[str, tuple[float, float]] = {  # the smallest and the largest value, both allowed
    "images": (0, math.inf), "val_images": (0, math.inf), "people": (1, math.inf), "size": (0, math.inf),
    "max_size": (1, math.inf), "sizes": (1, math.inf), "batch_size": (1, math.inf), "workers": (0, math.inf),
    "backbone_steps": (0, math.inf), "steps": (1, math.inf), "lr": (0, math.inf),
    "lr_backbone": (0, math.inf), "weight_decay": (0, math.inf), "layer_decay": SHARE, "warmup": (0, math.inf),
    "floor": (0, math.inf), "drop_at": SHARE, "restart_at": SHARE, "stage2_at": SHARE, "late_at": SHARE,
    "clip": (0, math.inf), "ema": SHARE, "ema_ramp": (0, math.inf), "accumulate": (1, math.inf),
    "seed": (0, 2**32 - 1), "output_weight": (0, math.inf),
}  # fmt: skip
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
CHOICES: dict[str, tuple[str, ...]] = {
    "on_error": ("raise", "skip"), "schedule": ("cosine", "step", "two_cosines", "constant"),
    "warmup_form": ("linear", "quadratic", "thousandth"), "groups": ("backbone", "rtmo", "layers"),
    "precision": PRECISIONS,
}  # fmt: skip
KINDS: dict[str, str] = {  # annotation of the field -> words
    "str": "text", "bool": "true or false", "int": "a whole number", "float": "a number",
    "dict": 'names with values, such as {"bins": [12, 16]}',
    "tuple[int, int]": "two whole numbers, the least and the most, such as [1, 6]",
    "tuple[int, ...]": "a list of whole numbers", "tuple[float, ...]": "a list of numbers",
    "float | tuple[float, ...]": "a number or a list of numbers",
}  # fmt: skip
# What a folder in COCO's format can be told besides `on_error`, see `posekit.data.coco.CocoFolder`
DATA_OPTIONS = ("annotations", "images", "layout", "category", "outside")
EXAMPLE = '{"ema": 0.99, "model_options": {"dim": 64}}'


def check(kinds: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Raises ValueError unless every value is of its field's kind (see `KINDS`), within its limits, and a known word.

    kinds: field -> annotation. values: field -> value, one for every field.
    """
    for name, kind in kinds.items():
        value = values[name]
        if not fits(kind, value):
            raise ValueError(f"{name} of the recipe is {value!r}: it must be {KINDS[kind]}{_number_hint(kind, value)}")
        if value in CHOICES.get(name, (value,)):
            low, high = LIMITS.get(name, (-math.inf, math.inf))
            numbers = value if isinstance(value, tuple) else (value,) if isinstance(value, Real) else ()
            if all(low <= number <= high for number in numbers):
                continue
            limit = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:.10g}"
            raise ValueError(f"{name} of the recipe is {value!r}: it must be {limit}")
        raise ValueError(f"{name} of the recipe is {value!r}: choose {' or '.join(map(repr, CHOICES[name]))}")
    fewest, most = values["people"]
    if fewest > most:
        raise ValueError(f"people of the recipe is {values['people']!r}: the first number must not exceed the second")
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
    return isinstance(value, {"str": str, "bool": bool, "dict": Mapping}[kind])


def _number_hint(kind: str, value: Any) -> str:
    """papermill's command line makes numbers of text that looks like one."""
    read = kind == "str" and isinstance(value, Real)
    return "; papermill's -p makes a number of such text, its -r (or ci/execute.py) does not" if read else ""


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
