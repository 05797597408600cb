"""The folder in which prepared data and compiled kernels are kept."""

import os
from pathlib import Path

from workers.errors import ConfigError

VARIABLE = "HYBRID_CACHE"
"""Of the environment; names that folder for every process that inherits it."""


def cache_root(given: str = "") -> Path:
    """An absolute path: what is given, else $HYBRID_CACHE, else ~/.cache/hybrid; a leading `~` is the user's home.

    Raises:
        ConfigError: a home is wanted, and there is none.
    """
    path = given or os.environ.get(VARIABLE) or "~/.cache/hybrid"
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(
            f"the cache is to be {path!r}, but {Path(path).parts[0]} is nobody's home here. Set {VARIABLE} to the "
            "path of a folder that does not begin with ~."
        ) from error


def inherit_cache_root(given: str) -> None:
    """Have this process, with those that it starts, keep everything where it is given, unless $HYBRID_CACHE is set.

    Kernels are compiled as soon as their modules are loaded: call it before.

    Args:
        given: the setting `data.cache_dir`; empty changes nothing.
    """
    if given and not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = str(cache_root(given))
