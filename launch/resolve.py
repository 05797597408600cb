"""Resolving the settings of a run: defaults, a card's own, then a TOML file, then named options, then `--set`."""

import dataclasses
import tomllib
import typing
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from launch.card_defaults import card_defaults
from launch.config import RunConfig
from launch.paths import absolute_path, is_file, is_there
from launch.run_settings import CONFIG_FILE, moved_to, without_folder
from launch.runs import latest_checkpoint
from workers.errors import ConfigError, RunError
from workers.settings import from_plain, nearest

Flat = dict[str, Any]
"""Dotted key -> value, for example `{"train.lr": 0.002}`."""

CHANGEABLE_ON_RESUME = frozenset(
    {
        "workers",
        "pin",
        "profile_steps",
        "transport",
        "data.cache_dir",
        "data.loader_processes",
        "data.source",
        "trunk.cuda_graphs",
        "trunk.device",
        "trunk.precision",
        "trunk.threads",
        "train.checkpoint_minutes",
        "train.epochs",
        "train.minutes",
    }
)
"""Settings that do not change what is learned from a step; a resumed run keeps the others. Data may lie at another
place; whether they are the same is found out when they are prepared."""

_OF_ONE_LAUNCH = frozenset({"profile_steps"})
"""Settings that a resumed run does not inherit: tracing again, unasked, would replace the trace that was asked for."""

_BUDGETS = ("train.epochs", "train.minutes")
_OF_ONE_SOURCE = {
    "data.hold_out_design": ("emoji", "--hold-out-design"),
    "data.hold_out_fraction": ("folder", "--hold-out"),
}
"""Settings that one kind of source alone takes, with that kind and the flag."""


def known_settings(settings_type: type = RunConfig, prefix: str = "") -> dict[str, Any]:
    """Every dotted key with its type, in the order of the dataclasses."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(settings_type).items():
        if dataclasses.is_dataclass(hint):
            found |= known_settings(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            found[prefix + name] = hint
    return found


def resolve(file: Path | None = None, named: Mapping[str, Any] | None = None, sets: Iterable[str] = ()) -> RunConfig:
    """The settings of a fresh run.

    Args:
        file: a TOML file with the tables of `RunConfig`, or a part of them.
        named: dotted keys of the named options that were given.
        sets: `a.b=c` texts of `--set`.

    Raises:
        ConfigError: an unknown key (names the nearest), a value of the wrong type or range, or a setting that the
            source of the data does not take.
    """
    return _compose_fresh([], _given(file, named, sets))


def resolve_resumed(
    directory: Path, file: Path | None = None, named: Mapping[str, Any] | None = None, sets: Iterable[str] = ()
) -> RunConfig:
    """The settings of a run that goes on: its own, and those of `CHANGEABLE_ON_RESUME` that are given anew.

    All may be given anew as long as there is no checkpoint: nothing was learned from them yet.
    Tracing (`profile_steps`) was asked of one launch only: it has to be given again.

    Raises:
        ConfigError: a given setting differs from the run's own and cannot change any more; or the folder of the data is
            not there; without a checkpoint as `resolve`.
        RunError: the run has no configuration.
    """
    if not is_file(directory / CONFIG_FILE):
        raise RunError(f"{directory} has no {CONFIG_FILE}: there is nothing to go on with.")
    own = {key: value for key, value in read_toml(directory / CONFIG_FILE).items() if key not in _OF_ONE_LAUNCH}
    given = _given(file, named, sets)
    if latest_checkpoint(directory) is None:
        return _compose_fresh([own], given)
    before, after = _compose([own]), _compose([own, *given])
    values = flatten(dataclasses.asdict(before))
    for key, value in flatten(dataclasses.asdict(after)).items():
        if value != values[key] and key not in CHANGEABLE_ON_RESUME:
            raise ConfigError(
                f"{key} = {value!r}, but the run to resume has {values[key]!r}, which is part of what it has learned. "
                f"Leave it out, or start a fresh run. Resuming may change: {', '.join(sorted(CHANGEABLE_ON_RESUME))}."
            )
    source = moved_to(before, after.data.source).data.source
    _check_folder(after, without_folder(directory, source) if source == before.data.source else "")
    return after


def read_toml(file: Path) -> Flat:
    """A TOML file's settings as dotted keys, each known.

    Raises:
        ConfigError: the file is missing, not TOML, or has an unknown key.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # as TOML is; some editors begin with a mark
    except IsADirectoryError as error:
        hint = f" Its settings are in {file / CONFIG_FILE}." if is_file(file / CONFIG_FILE) else ""
        raise ConfigError(f"{file} is a folder, expected a TOML file.{hint}") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no text in UTF-8, as TOML is: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}.") from error
    tables = {key.rpartition(".")[0] for key in known_settings()}
    flat = {key: value for key, value in flatten(values).items() if not (value == {} and key in tables)}
    for key in flat:
        _check_key(key, str(file))
    return flat


def parse_sets(sets: Iterable[str]) -> Flat:
    """`a.b=c` texts as dotted keys; c is read as TOML where it can be, else as text.

    Example:
        >>> parse_sets(["train.lr=0.01", "trunk.factory=resnet18", "train.augment=false"])
        {'train.lr': 0.01, 'trunk.factory': 'resnet18', 'train.augment': False}
    """
    flat: Flat = {}
    for text in sets:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"--set {text!r} has no '='; write --set a.b=c, for example --set train.lr=0.01.")
        hint = _check_key(key, "--set")
        flat[key] = _parse_value(value.strip(), hint)
    return flat


def flatten(values: Mapping[str, Any], prefix: str = "") -> Flat:
    """Nested tables as dotted keys."""
    flat: Flat = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _given(file: Path | None, named: Mapping[str, Any] | None, sets: Iterable[str]) -> list[Flat]:
    return [read_toml(file) if file else {}, dict(named or {}), parse_sets(sets)]


def _compose_fresh(own: list[Flat], given: list[Flat]) -> RunConfig:
    """Settings from which nothing was learned yet: the run's own, if there is one, then a file, options, `--set`.

    What its source alone took is not the run's own any more once another kind of source is given.
    """
    before, kind = (_kind_of(_compose(layers)) for layers in (own, [*own, *given]))
    left = {key for key, (wanted, _) in _OF_ONE_SOURCE.items() if wanted == before != kind}
    config = _compose([*({key: value for key, value in layer.items() if key not in left} for layer in own), *given])
    _check_applies(config, set().union(*given[1:]))
    _check_folder(config)  # found out now, before a run directory is made for it
    return config


def _check_folder(config: RunConfig, advice: str = "") -> None:
    if _kind_of(config) == "folder" and not is_there("data.source", Path(config.data.source.removeprefix("folder:"))):
        raise ConfigError(advice or f"data.source = {config.data.source!r}, but there is no such folder.")


def _compose(layers: Iterable[Flat]) -> RunConfig:
    merged: Flat = {}
    for layer in layers:
        if any(budget in layer for budget in _BUDGETS):  # a budget given later replaces the other kind of budget
            merged = {key: value for key, value in merged.items() if key not in _BUDGETS}
        merged |= layer
    _make_absolute(merged)
    return from_plain(RunConfig, _nest({**card_defaults(merged), **merged}))


def _kind_of(config: RunConfig) -> str:
    return config.data.source.partition(":")[0]


def _check_applies(config: RunConfig, asked: Set[str]) -> None:
    """Refuse what the source would ignore; a file may hold the default, as the config.toml of every run does."""
    kind = _kind_of(config)
    values, defaults = (flatten(dataclasses.asdict(one)) for one in (config, RunConfig()))
    for key, (wanted, flag) in _OF_ONE_SOURCE.items():
        if kind != wanted and (key in asked or values[key] != defaults[key]):
            only = {"emoji": "emoji data", "folder": "data of a folder"}[wanted]
            raise ConfigError(
                f"{key} = {values[key]!r} ({flag}) applies to {only} alone, but data.source = {config.data.source!r}. "
                "Leave it out."
            )


def _make_absolute(flat: Flat) -> None:
    source, cache = flat.get("data.source"), flat.get("data.cache_dir")
    if isinstance(source, str) and source.startswith("folder:") and source != "folder:":
        flat["data.source"] = f"folder:{absolute_path('data.source', source.removeprefix('folder:'))}"
    if isinstance(cache, str) and cache:
        flat["data.cache_dir"] = str(absolute_path("data.cache_dir", cache))


def _nest(flat: Flat) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, name = key.split(".")
        inner = nested
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[name] = value
    return nested


def _check_key(key: str, where: str) -> Any:
    """The type of a known key."""
    known = known_settings()
    if key in known:
        return known[key]
    if inner := [name for name in known if name.startswith(f"{key}.")]:
        raise ConfigError(f"{where}: {key!r} is a table of settings, and cannot be one. In it: {', '.join(inner)}.")
    by_last_name = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    hint = f"; did you mean {by_last_name[0]!r}?" if by_last_name else nearest(key, known)
    table = key.rpartition(".")[0]
    beside = [name for name in known if table and name.startswith(f"{table}.")] or ([] if hint else list(known))
    known_here = f" Known: {', '.join(beside)}." if beside else ""
    raise ConfigError(f"{where}: unknown setting {key!r}{hint or '.'}{known_here}")


def _parse_value(text: str, hint: Any) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if hint is str and not isinstance(value, str) else value
