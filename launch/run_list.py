"""All runs under `runs/`, the one started last first."""

import time
from dataclasses import dataclass
from pathlib import Path

from launch.figures import count
from launch.run_record import last_state
from launch.runs import latest_checkpoint, look_at_run, started_runs, step_of


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One of them."""

    run: str
    """Its directory."""
    state: str
    """As in `RunRecord`; `died` if its launcher had no time to say how it ended."""
    started: float
    """Start of its latest launch, in seconds since 1970."""
    saved_step: int | None
    """Of the newest checkpoint; None if there is none."""


def list_runs() -> list[ListedRun]:
    """What `run.json` and the checkpoints of each run say; RunError if there is no run."""
    return [_listed(directory) for directory in started_runs()]


def describe_runs(runs: list[ListedRun]) -> str:
    """A line for each run; the first is `last`."""
    width = max(len(Path(one.run).name) for one in runs)
    lines = []
    for one in runs:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.started))
        saved = "nothing saved" if one.saved_step is None else f"saved at step {count(one.saved_step)}"
        lines.append(f"{Path(one.run).name:<{width}}  {one.state:<9}  started {started}  {saved}")
    return "\n".join(lines)


def _listed(directory: Path) -> ListedRun:
    (record, is_held), checkpoint = look_at_run(directory), latest_checkpoint(directory)
    state = record.state if is_held else last_state(record)
    return ListedRun(str(directory), state, record.started, None if checkpoint is None else step_of(checkpoint))
