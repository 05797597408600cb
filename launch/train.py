"""`hybrid train`, once its settings are known: a supervised run, its report, its exit status."""

import sys
import traceback
from pathlib import Path

import click
from rich.console import Console

from launch.config import RunConfig
from launch.logs import logging_to
from launch.report import print_report, resume_command, shown_path, to_json
from launch.runs import RunLock, write_config
from launch.snapshot import Snapshot
from launch.supervisor import Interrupted, Supervisor
from launch.views import choose_console, choose_view
from workers.errors import HybridError

INTERRUPTED_STATUS = 130
FAILED_STATUS = 1


def train(directory: Path, config: RunConfig, *, resume: bool, json_output: bool) -> int:
    """Run it; prints what happened and returns the exit status.

    Raises:
        RunError: another launcher holds the run directory.
    """
    with RunLock(directory):
        write_config(directory, config)
        return _train_locked(directory, config, resume=resume, json_output=json_output)


def _train_locked(directory: Path, config: RunConfig, *, resume: bool, json_output: bool) -> int:
    console = choose_console(json_output=json_output)
    snapshot = Snapshot(run=shown_path(directory), source=config.data.source)
    supervisor = Supervisor(directory, config, resume=resume, view=choose_view(console), snapshot=snapshot)
    with logging_to(directory / "log" / "launcher.log"):
        try:
            supervisor.run()
            status = 0
        except Interrupted as interruption:
            _say(f"{interruption}. To go on: {resume_command(directory)}")
            status = INTERRUPTED_STATUS
        except HybridError as error:
            _say(f"Error: {error}\n\nTo go on from the last checkpoint:\n\n  {resume_command(directory)}")
            status = FAILED_STATUS
        except Exception:  # noqa: BLE001 - a defect of ours: still say how to go on
            traceback.print_exc()
            _say(f"\nThis is a defect of the launcher. To go on from the last checkpoint:\n\n  {resume_command(directory)}")
            status = FAILED_STATUS
    if json_output:
        result = {"run": str(directory), "state": snapshot.state, "metrics": snapshot.metrics, "outputs": snapshot.outputs}
        click.echo(to_json(result))
    elif status == 0:
        _report(console, snapshot, directory, config)
    return status


def _report(console: Console, snapshot: Snapshot, directory: Path, config: RunConfig) -> None:
    if snapshot.state == "stopped":
        click.echo(f"\nStopped and saved. To go on:\n\n  {resume_command(directory)}")
    if snapshot.metrics or snapshot.state == "finished":
        print_report(console, snapshot, directory, config.data.source)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
