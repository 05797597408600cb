"""JSON that every reader takes: numbers that it does not have are null, characters that an output lacks are escapes."""

import codecs
import io
import json
import math
import sys
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, indent: int | None = None) -> str:
    """Plain values, and NumPy's or torch's scalars, as JSON text: one line, or indented.

    Example:
        >>> to_json({"loss": float("nan"), "shares": [0.5, float("inf")]})
        '{"loss": null, "shares": [0.5, null]}'
    """
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def escape_unprintable() -> None:
    """Have standard output write characters that its encoding lacks as JSON's escapes: no name or tag ends a verb."""
    codecs.register_error("json-escapes", _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="json-escapes")


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """`\\u82b1` for what cannot be written, as a handler of errors for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
