"""How a run ended, for whoever asks later: its measures and files, or what went wrong and how to go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from launch.report import metrics_table, named_tables, shown_path, way_on
from launch.run_record import RunRecord
from launch.runs import GALLERY_FILE, METRICS_FILE, RESULTS_FILE, latest_checkpoint, step_of

_FILES = (GALLERY_FILE, RESULTS_FILE, METRICS_FILE)
_LOGS = ("log",)


def results_of(directory: Path) -> Mapping[str, Any]:
    """The measures of a run that finished, or was evaluated; empty if there are none that can be read."""
    try:
        results = json.loads((directory / RESULTS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return results if isinstance(results, dict) else {}


def print_end(console: Console, directory: Path, record: RunRecord, state: str) -> None:
    """Say that a run is not running, and all that is known of its end."""
    console.print(describe_end(directory, record, state), soft_wrap=True, markup=False, highlight=False)
    newest = step_of(latest_checkpoint(directory))
    for name, table in named_tables(results_of(directory)).items():
        console.print()
        console.print(metrics_table(name, table))
        if table.get("step") not in (None, newest):
            told = f"Measured at step {table['step']:,}; `hybrid evaluate` measures the last checkpoint ({newest:,})."
            console.print(told, soft_wrap=True, markup=False, highlight=False)
    found = [directory / name for name in (_FILES if state == "finished" else _LOGS) if (directory / name).exists()]
    for path in found:
        console.print(shown_path(path), soft_wrap=True, markup=False, highlight=False)


def describe_end(directory: Path, record: RunRecord, state: str) -> str:
    """How the run ended, in a sentence or two; also the error of verbs that need a live run."""
    if state == "died":
        return (
            f"{directory} is not running: its launcher (process {record.pid}) died while it was {record.state}, "
            f"without saying why. {way_on(directory)}"
        )
    attempt = "The reason" if state == "failed" else "An attempt to go on with it failed, and left it as it was"
    reason = f" {attempt}: {record.reason}" if record.reason else ""
    return f"{directory} is not running: {state}.{reason}" + ("" if state == "finished" else f" {way_on(directory)}")
