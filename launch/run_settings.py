"""The settings of a run in its directory: those that it learned with, and those of a resume until its first step.

    hybrid train         config.toml appears with the run directory
    hybrid train --resume
      launcher           writes the proposed settings beside it
      prepare, trunk     read what is proposed
      prepare            has config.toml say where the data are now, once they are found to be those that it learned
      trunk              has it replace config.toml, by one rename, after its first step and before anything is saved
      launcher           removes what is still only proposed when all have ended

Killed at any moment, a run so has the settings that it learned with; what a killed launcher leaves is read by nobody,
since the next resume writes its own first. The lock of the run directory keeps two launchers apart.
"""

import shlex
import tomllib
from dataclasses import replace
from pathlib import Path

import tomli_w

from launch.config import RunConfig
from workers.disk import write_whole
from workers.errors import ConfigError, RunError
from workers.refused_write import refused_write
from workers.settings import from_plain, to_plain

CONFIG_FILE = "config.toml"
_PROPOSED_FILE = ".proposed-config.toml"


def write_config(directory: Path, config: RunConfig) -> None:
    """Write the resolved settings as `config.toml`."""
    write_whole(directory / CONFIG_FILE, tomli_w.dumps(to_plain(config)))


def read_config(directory: Path) -> RunConfig:
    """The settings that a run learned with, or of one that has not learned yet those that it began with.

    Raises:
        RunError: they cannot be read.
        ConfigError: they hold what no setting can be.
    """
    return _read(directory / CONFIG_FILE)


def propose_config(directory: Path, config: RunConfig) -> None:
    """Write the settings with which a resume will try to make a step."""
    write_whole(directory / _PROPOSED_FILE, tomli_w.dumps(to_plain(config)))


def launched_config(directory: Path) -> RunConfig:
    """The settings of the launch that is at work: for its own processes alone.

    Raises:
        RunError, ConfigError: as `read_config`.
    """
    proposed = directory / _PROPOSED_FILE
    return _read(proposed) if proposed.exists() else read_config(directory)


def keep_proposed(directory: Path) -> None:
    """A step was made: what was proposed, if anything was, are the run's settings from here on.

    Raises:
        RunError: the system refuses.
    """
    try:
        (directory / _PROPOSED_FILE).replace(directory / CONFIG_FILE)
    except FileNotFoundError:
        return
    except OSError as e:
        raise RunError(f"cannot write {directory / CONFIG_FILE}: {refused_write(e, directory)}.") from e


def moved_to(config: RunConfig, source: str | None) -> RunConfig:
    """The settings, with the data at another place if one is given.

    Raises:
        ConfigError: data of another kind.
    """
    if source is None:
        return config
    own = config.data.source
    if source != own and not (own.startswith("folder:") and source.startswith("folder:")):
        only = "these are fetched, and cannot be elsewhere" if own == "emoji" else "it can only be another folder:PATH"
        raise ConfigError(f"data.source = {source!r}, but the run learned {own!r}: {only}. Leave it out.")
    return replace(config, data=replace(config.data, source=source))


def keep_source(directory: Path, source: str) -> None:
    """The data that the run learned are at another place: no other setting changes, so no step is waited for."""
    write_config(directory, moved_to(read_config(directory), source))


def without_folder(directory: Path, source: str) -> str:
    """What to say where a run's folder of pictures is not there."""
    return (
        f"data.source = {source!r}, but there is no such folder. If it was moved, --data folder:PATH says where it is: "
        "once with evaluate and search, for good with "
        f"hybrid train --resume {shlex.quote(str(directory))} --data folder:PATH"
    )


def drop_proposed(directory: Path) -> bool:
    """Forget settings with which no step was made; whether there were any."""
    try:
        (directory / _PROPOSED_FILE).unlink()
    except FileNotFoundError:
        return False
    except OSError:  # it does no harm
        return True
    return True


def _read(file: Path) -> RunConfig:
    try:
        return from_plain(RunConfig, tomllib.loads(file.read_text(encoding="utf-8-sig")))
    except OSError as e:
        raise RunError(f"{file} cannot be read: {e.strerror or e}.") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise RunError(f"{file} cannot be read: {e}") from e
