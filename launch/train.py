"""`hybrid train`, once its settings are known: a supervised run, its report, its exit status."""

import sys
import traceback
from pathlib import Path

import click
from rich.console import Console

from launch.config import RunConfig
from launch.logs import logging_to
from launch.report import print_report, resume_command, shown_path, way_on
from launch.runs import RunLock, write_config
from launch.snapshot import Snapshot
from launch.supervisor import Interrupted, Supervisor
from launch.views import choose_console, choose_view
from workers.errors import HybridError
from workers.json_text import to_json

INTERRUPTED_STATUS = 130
FAILED_STATUS = 1


def train(directory: Path, config: RunConfig, *, resume: bool, json_output: bool) -> int:
    """Run it; prints what happened and returns the exit status.

    Raises:
        RunError: another launcher holds the run directory.
    """
    console = choose_console(json_output=json_output)
    snapshot = Snapshot(run=shown_path(directory), source=config.data.source)
    with RunLock(directory), logging_to(directory / "log" / "launcher.log"):
        write_config(directory, config)
        supervisor = Supervisor(directory, config, resume=resume, view=choose_view(console), snapshot=snapshot)
        status = _supervise(supervisor)
    if json_output:
        results = {"metrics": snapshot.metrics, "outputs": snapshot.outputs}
        click.echo(to_json({"run": str(directory), "state": snapshot.state, **results}))
    elif status == 0:
        _report(console, snapshot, directory, config)
    return status


def _supervise(supervisor: Supervisor) -> int:
    """The exit status; whatever ends the run early is said, with the command that goes on with it."""
    try:
        supervisor.run()
    except Interrupted as interruption:
        _say(f"\n{interruption}.{_notes(interruption)}\n\n{way_on(supervisor.directory)}")
        return INTERRUPTED_STATUS
    except HybridError as error:
        way = way_on(supervisor.directory, is_broken=not supervisor.snapshot.step)
        _say(f"\nError: {error}{_notes(error)}\n\n{way}")
        return FAILED_STATUS
    except Exception:  # noqa: BLE001 - a defect of ours: still say how to go on
        _say(f"\n{traceback.format_exc()}\nThis is a defect of the launcher.\n\n{way_on(supervisor.directory)}")
        return FAILED_STATUS
    return 0


def _notes(error: Exception) -> str:
    """What went wrong besides, after the error itself."""
    return "".join(f"\nAlso: {note}" for note in getattr(error, "__notes__", ()))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _report(console: Console, snapshot: Snapshot, directory: Path, config: RunConfig) -> None:
    if snapshot.state == "stopped":
        click.echo(f"\nStopped and saved. To go on:\n\n  {resume_command(directory)}")
    if snapshot.metrics or snapshot.state == "finished":
        print_report(console, snapshot, directory, config.data.source)
