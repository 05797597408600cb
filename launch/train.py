"""`hybrid train`, once its settings are known: a supervised run, its report, its exit status."""

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from launch.child import WRONG_SETTING_STATUS
from launch.config import RunConfig
from launch.interruption import Interrupted
from launch.logs import logging_to
from launch.recorder import AnothersRun
from launch.report import (
    evaluate_command,
    print_report,
    resume_command,
    shown_path,
    spent_remark,
    status_command,
    way_on,
)
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


def train(
    directory: Path, config: RunConfig, *, resume: Callable[[], RunConfig] | None = None, json_output: bool
) -> int:
    """Run it; prints what happened and returns the exit status.

    Where its output takes nothing, the process ends here, with that status.

    Args:
        directory: of the run.
        config: the settings.
        resume: gives those of a run that goes on, once it is ours: until then a launcher that held it may have changed
            the run's own. None: the run is fresh.
        json_output: whether standard output is kept for one JSON object.

    Raises:
        RunError: another launcher holds the run directory, or its file system has no locks.
        ConfigError: the settings do not go with the run's own any more.
    """
    console = choose_console(json_output=json_output)
    view = choose_view(console)
    with RunLock(directory), logging_to(directory / "log" / "launcher.log"):
        before = read_config(directory)
        if resume is not None:
            config = resume()
            propose_config(directory, config)
        snapshot = Snapshot(run=shown_path(directory), source=config.data.source)
        supervisor = Supervisor(directory, config, resume=resume is not None, view=view, snapshot=snapshot)
        status, told = _supervise(supervisor)
        if told:
            _log.error("%s", told.strip())  # here, too: whoever reads the output may take nothing
        remarks = _remarks(directory, before, config, snapshot) if resume else []
        if told and remarks:
            _log.error("%s", "\n\n".join(remarks))
            told = "\n\n".join([told, *remarks])

    def conclude() -> None:
        try:
            if json_output:
                results = {"metrics": snapshot.metrics, "outputs": snapshot.outputs}
                click.echo(to_json({"run": str(directory), "state": snapshot.state, **results}))
            elif not told:
                _report(console, snapshot, directory, config)
            for remark in () if told else remarks:  # last, where the eye is
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
    except OSError as error:  # the reader has left, the terminal is closed, a disk is full: the run ended as it did
        _leave(status, partial(_tell_unwritten, error, directory))
    return status


def _remarks(directory: Path, before: RunConfig, given: RunConfig, snapshot: Snapshot) -> list[str]:
    """What to say of the settings of a resume that has ended.

    Args:
        directory: of the run, which may have gone.
        before: the run's own when it began.
        given: those of the resume.
        snapshot: of its end.
    """
    try:
        after = read_config(directory)
    except HybridError as error:
        return [f"Which settings the run has now is not known: {error}"]
    not_kept = _not_kept(before, after, given) if drop_proposed(directory) else ""
    is_spent = snapshot.state == "finished" and not snapshot.step
    spent = spent_remark(directory, given.train, after.train) if is_spent else ""
    return [remark for remark in (not_kept, spent) if remark]


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
    except AnothersRun as error:  # where there is no way on
        return FAILED_STATUS, f"\nError: {error}{_notes(error)}"
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


def _tell_unwritten(error: OSError, directory: Path) -> None:
    """Where the report is, if it was not its reader who left."""
    if not isinstance(error, BrokenPipeError):
        why = f"The report of the run cannot be written: {error.strerror or error}. To see how it ended:"
        print(f"\n{why}\n\n  {status_command(directory)}", file=sys.stderr, flush=True)


def _notes(error: Exception) -> str:
    """What went wrong besides, after the error itself."""
    return "".join(f"\nAlso: {note}" for note in getattr(error, "__notes__", ()))


def _report(console: Console, snapshot: Snapshot, directory: Path, config: RunConfig) -> None:
    if snapshot.state == "stopped":
        what = "Stopped and saved" if snapshot.step else "Stopped before a step, with nothing to save"
        click.echo(f"\n{what}. To go on:\n\n  {resume_command(directory)}")
        if latest_checkpoint(directory) is not None:
            click.echo(f"\nTo measure what it has learned so far:\n\n  {evaluate_command(directory)}")
    if snapshot.state == "finished" and not snapshot.outputs:  # ours was stopped (Ctrl-Z) for too long while it ended
        click.echo(
            f"\nWhat the trunk said at its end did not arrive. To see its measures:\n\n  {status_command(directory)}"
        )
    if snapshot.metrics or snapshot.state == "finished":
        print_report(console, snapshot, directory, config.data.source)
