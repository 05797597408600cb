"""The JSON file of a benchmark: what was measured, on what, by which command, with all raw samples."""

import datetime
import hashlib
import json
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import blas_of, describe_machine, describe_software
from workers.disk import write_whole
from workers.errors import DataError, RunError

FORMAT_VERSION = 1
RESULTS = Path(__file__).resolve().parent / "results"
PYTHON = ".venv/bin/python"
"""The interpreter that has what benchmarks need, in every clone after `make setup`."""
_ROOM_BYTES = 1 << 20
"""More than any record takes."""


class Record:
    """Collects a benchmark's results; the surroundings are noted when it is made.

    Args:
        name: of the suite, and of its files.
        title: a sentence for people; says on which device the trunk ran where that matters.
        settings: every option, resolved.
    """

    def __init__(self, name: str, title: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.content: dict[str, Any] = {
            "format": FORMAT_VERSION,
            "name": name,
            "title": title,
            "command": shlex.join(_without_results([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])),
            "started": _now(),
            "machine": describe_machine(),
            "software": describe_software(),
            "settings": {name: _plain(value) for name, value in settings.items() if name != "results"},
            "results": [],
        }

    def add(self, result: dict[str, Any]) -> None:
        """Take one result, raw samples included."""
        self.content["results"].append(result)

    def write(self, folder: Path = RESULTS) -> Path:
        """Write `NAME.json`; call it after every result, so that a benchmark that is cut short leaves what it has.

        Raises:
            RunError: it cannot be written; the message says why.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise RunError(f"cannot make {folder}: {e.strerror or e}.") from e
        path = folder / f"{self.name}.json"
        content = self.content | {"written": _now(), "load_average_at_end": describe_machine()["load_average"]}
        write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return path


def check_folder(folder: Path) -> None:
    """Make a folder for results, and see whether it takes a record, before anything is measured for it.

    Raises:
        RunError: it does not; the message says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM_BYTES))
    except OSError as e:
        raise RunError(
            f"{folder} takes no results ({e.strerror or e}), so nothing was measured; give a folder that does by "
            "--results, or make room."
        ) from e


def read_record(path: Path) -> dict[str, Any]:
    """What `Record.write` wrote.

    Raises:
        DataError: no such file, or another format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise DataError(f"{path} holds no results ({e}); run the benchmark first.") from e
    if not isinstance(content, dict) or content.get("format") != FORMAT_VERSION:
        raise DataError(f"{path} is not a record of format {FORMAT_VERSION}; run the benchmark again.")
    return content


def digest_of(results: Mapping[str, Any]) -> str:
    """A hash of a record, or of several by name, by which one sees whether something was made from them."""
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def machine_of(record: Mapping[str, Any]) -> str:
    """Half a sentence for people: on which cores, with which accelerator."""
    machine = record["machine"]
    gpu = f"with {machine['gpu']}" if machine["gpu"] else "without a GPU"
    return f"on {machine['cores']} cores of {machine['cpu']} (BLAS for {blas_of(record)}) {gpu}"


def surroundings(record: Mapping[str, Any]) -> str:
    """One line that says where and when, to stand under every table."""
    machine, software = record["machine"], record["software"]
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    commit = (software["commit"] or "no commit")[:10] + (" with changes" if software["is_modified"] else "")
    commit += " (noted afterwards)" if "commit_is" in software else ""
    details = "".join(f", {name} {value}" for name, value in machine.get("cpu_details", {}).items())
    return (
        f"{machine['cpu']}{details}, {machine['cores']} cores{gpu}; "
        f"load {machine['load_average'][0]:.1f} at the start, {record['load_average_at_end'][0]:.1f} at the end; "
        f"torch {software['versions']['torch']}, BLAS for {blas_of(record)}; "
        f"{commit}, {record['started']}."
    )


def shown_command(record: Mapping[str, Any]) -> str:
    """The command that made a record, as it works in a clone, whatever the interpreter was called where it ran.

    Example:
        >>> shown_command({"command": "python3 -m benchmarks.suite kernels"})
        '.venv/bin/python -m benchmarks.suite kernels'
    """
    return re.sub(r"^python[\d.]*(?= )", PYTHON, str(record["command"]))


def _without_results(arguments: list[str]) -> list[str]:
    """A command but for `--results` and the folder behind it, a path of one machine, which says nothing of results."""
    if "--results" not in arguments:
        return [argument for argument in arguments if not argument.startswith("--results=")]
    at = arguments.index("--results")
    return arguments[:at] + arguments[at + 2 :]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
