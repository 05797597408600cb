"""`hybrid train`, once its settings are known: a supervised run, its report, its exit status."""

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from launch.child import WRONG_SETTING_STATUS
from launch.config import RunConfig
from launch.interruption import Interrupted
from launch.logs import logging_to
from launch.report import evaluate_command, print_report, resume_command, shown_path, spent_remark, way_on
from launch.run_settings import drop_proposed, propose_config, read_config
from launch.runs import RunLock, latest_checkpoint
from launch.snapshot import Snapshot
from launch.supervisor import Supervisor
from launch.views import choose_console, choose_view
from workers.errors import ConfigError, HybridError
from workers.json_text import to_json
from workers.quiet_interrupt import INTERRUPTED_STATUS

FAILED_STATUS = 1
_LAST_WORDS_S = 2.0
_NOT_KEPT = (
    "Nothing that was learned with the settings of this resume is kept, so the run's config.toml stays as it was{}."
)

_log = logging.getLogger(__name__)


def train(directory: Path, config: RunConfig, *, resume: bool, json_output: bool) -> int:
    """Run it; prints what happened and returns the exit status.

    Where the reader of its output takes nothing, the process ends here, with that status.

    Raises:
        RunError: another launcher holds the run directory, or its file system has no locks.
    """
    console = choose_console(json_output=json_output)
    view = choose_view(console)
    snapshot = Snapshot(run=shown_path(directory), source=config.data.source)
    with RunLock(directory), logging_to(directory / "log" / "launcher.log"):
        before = read_config(directory)
        if resume:
            propose_config(directory, config)
        status, told = _supervise(Supervisor(directory, config, resume=resume, view=view, snapshot=snapshot))
        after = read_config(directory) if resume else before
        remarks = [_not_kept(before, after, config)] if drop_proposed(directory) else []
        if resume and snapshot.state == "finished" and not snapshot.step:
            remarks.append(spent_remark(directory, config.train, after.train))
        if told:
            told = "\n\n".join([told, *filter(None, remarks)])
            _log.error("%s", told.strip())  # here, too: whoever reads the output may take nothing

    def conclude() -> None:
        try:
            if json_output:
                results = {"metrics": snapshot.metrics, "outputs": snapshot.outputs}
                click.echo(to_json({"run": str(directory), "state": snapshot.state, **results}))
            elif not told:
                _report(console, snapshot, directory, config)
            for remark in () if told else filter(None, remarks):  # last, where the eye is
                click.echo(remark if json_output else f"\n{remark}", err=json_output)
        finally:
            if told:
                print(told, file=sys.stderr, flush=True)

    if view.is_stuck:
        _leave(status, conclude)
    try:
        conclude()
        if sys.stdout is not None:  # as it is where a shell closed it
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read has left: how the run ended is told all the same
        _leave(status, lambda: None)
    return status


def _not_kept(before: RunConfig, after: RunConfig, given: RunConfig) -> str:
    """What to say of the settings of a resume that made no step: the place of the data may be kept all the same."""
    if replace(after, profile_steps=0) == given:
        return ""
    return _NOT_KEPT.format("" if after == before else ", but for the place of the data")


def _supervise(supervisor: Supervisor) -> tuple[int, str]:
    """The exit status, and what ended the run early, if anything did, with the command that goes on with it."""
    try:
        supervisor.run()
    except Interrupted as interruption:
        return INTERRUPTED_STATUS, f"\n{interruption}.{_notes(interruption)}\n\n{way_on(supervisor.directory)}"
    except HybridError as error:
        way = way_on(supervisor.directory, is_broken=not supervisor.snapshot.step)
        status = WRONG_SETTING_STATUS if isinstance(error, ConfigError) else FAILED_STATUS
        return status, f"\nError: {error}{_notes(error)}\n\n{way}"
    except Exception:  # noqa: BLE001 - a defect of ours: still say how to go on
        defect = f"{traceback.format_exc()}\nThis is a defect of the launcher."
        return FAILED_STATUS, f"\n{defect}\n\n{way_on(supervisor.directory)}"
    return 0, ""


def _leave(status: int, conclude: Callable[[], None]) -> NoReturn:
    """End a process of which one output takes nothing; what it has to say, another output may take.

    Not by `sys.exit`: Python would flush that output first, wait for the lock that the view's thread holds, and abort.
    """

    def attempt() -> None:
        with contextlib.suppress(OSError, ValueError):
            conclude()

    try:
        last_words = threading.Thread(target=attempt, name="last words", daemon=True)
        last_words.start()
        last_words.join(_LAST_WORDS_S)
    finally:
        os._exit(status)


def _notes(error: Exception) -> str:
    """What went wrong besides, after the error itself."""
    return "".join(f"\nAlso: {note}" for note in getattr(error, "__notes__", ()))


def _report(console: Console, snapshot: Snapshot, directory: Path, config: RunConfig) -> None:
    if snapshot.state == "stopped":
        what = "Stopped and saved" if snapshot.step else "Stopped before a step, with nothing to save"
        click.echo(f"\n{what}. To go on:\n\n  {resume_command(directory)}")
        if latest_checkpoint(directory) is not None:
            click.echo(f"\nTo measure what it has learned so far:\n\n  {evaluate_command(directory)}")
    if snapshot.metrics or snapshot.state == "finished":
        print_report(console, snapshot, directory, config.data.source)
