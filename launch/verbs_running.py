"""The verbs that speak to a run while it goes on: `status`, `scale`, `stop`."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from launch.run_argument import RUN
from launch.run_record import last_state, read_record
from launch.runs import is_alive
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

    answer = _answer(directory, "status")
    found = answer["status"] if answer else None
    record = read_record(directory)  # after the question: a run that has ended since has recorded how
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
    answer = _ask(directory, "scale", workers=workers)
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
    answer = _ask(directory, "stop")
    if no_wait and answer is not None:
        _show("stopping: the run finishes its step and saves", {"state": "stopping"}, json_output)
        return
    deadline = time.monotonic() + timeout_s
    while is_alive(directory):
        if time.monotonic() > deadline:
            raise RunError(f"{directory} still runs {timeout_s:g} s after it was asked to stop.")
        time.sleep(_POLL_S)  # the other process's lock can only be polled
    state = last_state(read_record(directory))
    _show(f"{directory}: {state}", {"state": state}, json_output)
    if state in ("failed", "died"):
        raise click.exceptions.Exit(1)


def _ask(directory: Path, op: str, **fields: Any) -> dict[str, Any] | None:
    """Ask the launcher of a run that must be alive; None if it ended before it could answer."""
    if not is_alive(directory):
        raise _not_running(directory)
    return _answer(directory, op, **fields)


def _answer(directory: Path, op: str, **fields: Any) -> dict[str, Any] | None:
    """What the launcher of a run answers; None if there is none, or none any more."""
    from launch.control import NoAnswer, ask

    control = read_record(directory).control
    if not is_alive(directory):
        return None
    try:
        return ask(control, op, **fields)
    except NoAnswer:
        if is_alive(directory):
            raise
        return None


def _not_running(directory: Path) -> RunError:
    from launch.run_end import describe_end

    record = read_record(directory)
    return RunError(describe_end(directory, record, last_state(record)))


def _show(text: str, values: dict[str, Any], json_output: bool) -> None:
    escape_unprintable()
    click.echo(to_json(values) if json_output else text)
