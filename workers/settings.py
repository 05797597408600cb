"""Reading frozen settings from plain nested values, with errors that name the key and suggest the nearest."""

import dataclasses
import difflib
import operator
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from workers.errors import ConfigError

S = TypeVar("S")


_LEAST_ALIKE = 0.5
"""From 0 to 1; a name less similar than this was hardly meant."""


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or an empty string.

    Of dotted names the last parts must be alike, too: a table in common says nothing.
    """
    own = _last_part(name)
    alike = [o for o in known if difflib.SequenceMatcher(None, _last_part(o), own).ratio() >= _LEAST_ALIKE]
    matches = difflib.get_close_matches(name, alike, n=1, cutoff=_LEAST_ALIKE)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]


def from_plain(settings_type: type[S], values: Mapping[str, Any], where: str = "") -> S:
    """Build a settings dataclass from nested plain values, as TOML gives them.

    Raises:
        ConfigError: an unknown key (lists the known ones, suggests the nearest) or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"setting {where!r} is a table of settings, got {values!r}.")
    hints = typing.get_type_hints(settings_type)
    arguments = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key not in hints:
            known = ", ".join(hints)
            raise ConfigError(f"unknown setting {path!r}{nearest(key, hints) or '.'} Known here: {known}.")
        arguments[key] = convert(hints[key], value, path)
    return settings_type(**arguments)


def to_plain(settings: Any) -> dict[str, Any]:
    """Nested dictionaries of plain values, ready for TOML or JSON; `None` is left out."""
    return _without_none(dataclasses.asdict(settings))


def check(holds: bool, field: str, value: Any, rule: str) -> None:
    """Raise ConfigError with field, value and rule unless the rule holds."""
    if not holds:
        raise ConfigError(f"{field} = {value!r}, but it must be {rule}{'' if rule.endswith('?') else '.'}")


def whole_number(field: str, value: Any) -> int:
    """A whole number of Python's or NumPy's as an int.

    Raises:
        ConfigError: it is no whole number.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{field} = {value!r}, but it must be a whole number.") from None


def positive_number(field: str, value: Any) -> int:
    """A whole number of Python's or NumPy's, 1 or more, as an int.

    Raises:
        ConfigError: it is none.
    """
    number = whole_number(field, value)
    check(number >= 1, field, value, "at least 1")
    return number


def check_choice(field: str, value: Any, choices: typing.Iterable[str]) -> None:
    """Raise ConfigError unless `value` is one of `choices`."""
    choices = list(choices)
    guess = nearest(value, choices) if isinstance(value, str) else ""
    check(value in choices, field, value, f"one of {', '.join(choices)}{guess}")


def convert(hint: Any, value: Any, path: str) -> Any:
    """A plain value as the type of its field wants it; whole numbers pass for floats.

    Raises:
        ConfigError: it is of another type.
    """
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast(type, hint), value, path)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    for option in options:
        if type(value) is option:
            return value
    wanted = " or ".join(o.__name__ for o in options if o is not type(None))
    raise ConfigError(f"setting {path!r} = {value!r} is of type {type(value).__name__}, expected {wanted}.")


def convert_fields(settings: Any, where: str = "") -> None:
    """Have the fields of a frozen dataclass hold what their hints say, as `convert` does; for its `__post_init__`.

    Raises:
        ConfigError: one is of another type.
    """
    for name, hint in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if not dataclasses.is_dataclass(hint):
            object.__setattr__(settings, name, convert(hint, value, f"{where}.{name}" if where else name))
        elif type(value) is not hint:
            raise ConfigError(f"setting {name!r} is of type {type(value).__name__}, expected {hint}.")


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in values.items() if v is not None}
