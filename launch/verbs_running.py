"""The verbs that speak to a run while it goes on: `status`, `scale`, `stop`."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from launch.run_argument import RUN
from launch.run_record import LIVE_STATES, RunRecord, last_state, read_record
from launch.runs import is_alive, look_at_run
from workers.config import MAX_WORKERS
from workers.errors import RunError
from workers.json_text import escape_unprintable, to_json

_POLL_S = 0.1


@click.command(epilog="\b\nExamples:\n  hybrid status\n  hybrid status last\n  hybrid status last --json")
@click.argument("directory", type=RUN, metavar="[RUN]", required=False)
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def status(directory: Path | None, json_output: bool) -> None:
    """Show what a run does now, or how it ended; without RUN, list all runs under runs/."""
    from rich.console import Console

    from launch.run_end import print_end, results_of
    from launch.run_list import describe_runs, list_runs

    escape_unprintable()
    if directory is None:
        runs = list_runs()
        click.echo(to_json({"runs": [asdict(one) for one in runs]}) if json_output else describe_runs(runs))
        return

    answer, record = _answer(directory, "status")
    found = answer["status"] if answer else None
    state = found["state"] if found else last_state(record)
    if json_output:
        known = {"run": str(directory), "pid": record.pid, "started": record.started, "alive": found is not None}
        ended = {} if found else {"reason": record.reason, "results": results_of(directory)}
        click.echo(to_json({**(found or {}), **known, **ended, "state": state}))
    elif found:
        from launch.plain import describe_at_length

        click.echo(describe_at_length(found))
    else:
        print_end(Console(), directory, record, state)


@click.command(epilog="\b\nExamples:\n  hybrid scale last 4")
@click.argument("directory", type=RUN, metavar="RUN")
@click.argument("workers", type=click.IntRange(1, MAX_WORKERS), metavar="N")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def scale(directory: Path, workers: int, json_output: bool) -> None:
    """Change the number of workers of a run that goes on; no step is lost."""
    answer, _ = _ask(directory, "scale", workers=workers)
    if answer is None:
        raise _not_running(directory)
    same = answer["before"] == answer["workers"]
    change = f"stays at {answer['workers']}" if same else f"scaling from {answer['before']} to {answer['workers']}"
    remark = f"; {answer['remark']}" if answer.get("remark") else ""
    _show(f"{change} workers{remark}", answer, json_output)


@click.command(epilog="\b\nExamples:\n  hybrid stop last\n  hybrid stop last --no-wait")
@click.argument("directory", type=RUN, metavar="RUN")
@click.option("--no-wait", is_flag=True, help="Return at once instead of when the run has ended.")
@click.option(
    "--timeout", "timeout_s", type=float, default=600.0, show_default=True, help="Seconds to wait for the end."
)
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object.")
def stop(directory: Path, no_wait: bool, timeout_s: float, json_output: bool) -> None:
    """Let a run finish its step, save and exit; the exit status is 1 if it failed or died instead."""
    answer, asked = _ask(directory, "stop")
    if no_wait and answer is not None:
        _show("stopping: the run finishes its step and saves", {"state": "stopping"}, json_output)
        return
    record, is_held = _after(asked, directory, timeout_s)
    state = record.state if is_held else last_state(record)
    what = f"has ended, and another launcher (process {record.pid}) goes on with it" if is_held else state
    _show(f"{directory}: {what}", {"state": state}, json_output)
    if state in ("failed", "died"):
        raise click.exceptions.Exit(1)


def _after(asked: RunRecord, directory: Path, timeout_s: float) -> tuple[RunRecord, bool]:
    """The record once a launcher that was asked to stop has ended, with whether another holds the run by then."""
    give_up_s = time.monotonic() + timeout_s
    while True:
        record, is_held = look_at_run(directory)
        is_anothers = record.control != asked.control and record.state in LIVE_STATES
        if is_anothers or not is_held:
            return record, is_held
        if time.monotonic() > give_up_s:
            raise RunError(f"{directory} still runs {timeout_s:g} s after it was asked to stop.")
        time.sleep(_POLL_S)  # the other process's lock can only be polled


def _ask(directory: Path, op: str, **fields: Any) -> tuple[dict[str, Any] | None, RunRecord]:
    """Ask the launcher of a run that must be alive; as `_answer`."""
    if not is_alive(directory):
        raise _not_running(directory)
    return _answer(directory, op, **fields)


def _answer(directory: Path, op: str, **fields: Any) -> tuple[dict[str, Any] | None, RunRecord]:
    """What the launcher of a run answers, with its record; None if there is none, or none any more.

    One that has just begun holds the run a moment before the record is its own: until then it names one that has ended,
    at whose socket nobody answers.
    """
    from launch.control import REPLY_LIMIT_S, NoAnswer, ask

    give_up_s = time.monotonic() + REPLY_LIMIT_S
    while True:
        record, is_held = look_at_run(directory)
        if not is_held:
            return None, record

        def is_there(control: str = record.control) -> bool:
            now, is_held = look_at_run(directory)
            return is_held and now.control == control

        try:
            left_s = max(0.0, give_up_s - time.monotonic())
            return ask(record.control, op, timeout_s=left_s, is_there=is_there, **fields), record
        except NoAnswer:
            if is_there():
                raise


def _not_running(directory: Path) -> RunError:
    from launch.run_end import describe_end

    record = read_record(directory)
    return RunError(describe_end(directory, record, last_state(record)))


def _show(text: str, values: dict[str, Any], json_output: bool) -> None:
    escape_unprintable()
    click.echo(to_json(values) if json_output else text)
