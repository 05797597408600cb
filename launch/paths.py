"""Paths as people give them, or as they lie in folders that others write to."""

import os
import stat
from pathlib import Path

from workers.errors import ConfigError


def is_file(path: Path) -> bool:
    """Whether there is a file that we may look at; `Path.is_file` raises where a folder above it is closed to us."""
    return os.path.isfile(path)  # noqa: PTH113 - see above


def is_folder(path: Path) -> bool:
    """Whether there is a folder that we may look at, see `is_file`."""
    return os.path.isdir(path)  # noqa: PTH112 - see above


def check_path(name: str, path: str) -> None:
    """Refuse a path that the files of a run cannot hold, before a run directory is made.

    Raises:
        ConfigError: it is not UTF-8.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{name} = {path!r}, but it must be UTF-8, as all files of a run are. Give the folder another name."
        ) from error


def absolute_path(name: str, path: str) -> Path:
    """A path that means the same to every process, and to a later `--resume` from elsewhere.

    Args:
        name: of the setting or option.
        path: as it was given; a leading `~` is the user's home.

    Raises:
        ConfigError: there is no such home, its links lead round in a circle, or it is not UTF-8.
    """
    try:
        expanded = Path(path).expanduser() if path.startswith("~") else Path(path)  # which takes ./~x for ~x
    except RuntimeError as error:
        raise ConfigError(
            f"{name} = {path!r}, but {Path(path).parts[0]} is nobody's home here. Write the path in full, or "
            f"{'./' + path!r} for a folder whose name begins so."
        ) from error
    try:
        absolute = expanded.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{name} = {path!r} leads nowhere: {_reason(error)}. Give another path.") from error
    check_path(name, str(absolute))
    return absolute


def is_there(name: str, folder: Path) -> bool:
    """Whether there is this folder, of which more is wanted than to pass over it if it may not be looked at.

    Args:
        name: of the setting or option that names it.
        folder: an absolute path.

    Raises:
        ConfigError: the system does not tell: no permission, a name that is too long, a share that does not answer.
    """
    try:
        return stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(
            f"{name} = {str(folder)!r} cannot be looked at: {_reason(error)}. Give a folder that you may read, or get "
            "access to this one."
        ) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error).removesuffix(".")
