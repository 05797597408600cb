"""JSON that every reader takes: numbers that JSON does not have become null."""

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, indent: int | None = None) -> str:
    """Plain values, and NumPy's or torch's scalars, as JSON text: one line, or indented.

    Example:
        >>> to_json({"loss": float("nan"), "shares": [0.5, float("inf")]})
        '{"loss": null, "shares": [0.5, null]}'
    """
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
