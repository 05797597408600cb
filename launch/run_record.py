"""What a run says of itself in `run.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workers.disk import write_whole
from workers.errors import RunError

RUN_FILE = "run.json"
LIVE_STATES = ("preparing", "training")
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What `run.json` says; replaced as a whole whenever it changes."""

    pid: int
    """Process id of the launcher that wrote the record."""
    control: str
    """Endpoint of the launcher's control socket."""
    started: float
    """Start of the latest launch, in seconds since 1970."""
    state: str
    """`preparing`, `training`, `finished`, `failed` or `stopped`."""
    reason: str = ""
    """Why it failed; in another state: why an attempt to go on with it did, which left it as it was."""
    format: int = _FORMAT
    """Version of this file's layout."""


def write_record(directory: Path, record: RunRecord) -> None:
    """Write `run.json`."""
    write_whole(directory / RUN_FILE, json.dumps(asdict(record), indent=1) + "\n")


def read_record(directory: Path) -> RunRecord:
    """Read `run.json`.

    Raises:
        RunError: it is missing, or not what `write_record` writes.
    """
    path = directory / RUN_FILE
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{directory} is not a run: it has no {RUN_FILE}.") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.") from error
    return _record(path, values)


def last_state(record: RunRecord) -> str:
    """The state of a run whose launcher is gone; if the launcher had no time to say so, `died`."""
    return "died" if record.state in LIVE_STATES else record.state


def _record(path: Path, values: Any) -> RunRecord:
    wanted: dict[str, tuple[type, ...]] = {"pid": (int,), "control": (str,), "started": (int, float), "state": (str,)}
    if not isinstance(values, Mapping) or values.get("format") != _FORMAT:
        raise RunError(f"{path} is not a run record of format {_FORMAT}.")
    for name, types in wanted.items():
        if not isinstance(values.get(name), types):
            raise RunError(f"{path}: {name} = {values.get(name)!r}, expected {types[0].__name__}.")
    reason = values.get("reason", "")  # missing in those of earlier versions
    return RunRecord(**{name: values[name] for name in wanted}, reason=reason if isinstance(reason, str) else "")
