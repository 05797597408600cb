"""The trace of a run, which ui.perfetto.dev opens: what each process writes of it, put together at the end.

A traced process appends events to a part of its own, `trace/NAME.jsonl` (`workers.trace`), so that what it wrote
outlives it. `merge` copies the parts, line by line, into one JSON object.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.runs import as_run_error
from workers.trace import TraceWindow

TRACE_FILE = "trace.json"
_PARTS_FOLDER = "trace"
_STEPS_BEFORE = 20
"""Steps that are left alone first: caches fill, kernels and memory are touched for the first time."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The trace of one launch."""

    directory: Path
    """Of the run."""
    window: TraceWindow

    def merge(self) -> str:
        """Write trace.json from what the processes wrote, and remove the parts; says where it is, or why it is not."""
        path = self.directory / TRACE_FILE
        unfinished = path.with_suffix(".new")
        try:
            steps = _write(unfinished, _events(sorted(self.window.folder.glob("*.jsonl"))))
            shutil.rmtree(self.window.folder)
            if not steps:
                unfinished.unlink()
                return f"no trace: the run ended before step {self.window.first_step}, where it was to begin"
            unfinished.replace(path)
        except OSError as error:
            return f"no trace: its parts in {self.window.folder} cannot be put together: {error}"
        return f"trace of steps {min(steps)} to {max(steps)}: {path}; open it in ui.perfetto.dev"


def open_profile(directory: Path, num_steps: int, resumed_step: int) -> Profile | None:
    """Make room for the parts of a trace; None if no steps are to be traced.

    Args:
        directory: of the run; a trace that is there from an earlier launch is replaced at the end.
        num_steps: to trace; 0 traces nothing.
        resumed_step: of the checkpoint that the run goes on from; 0 for a fresh run.

    Raises:
        RunError: the parts cannot be written.
    """
    if num_steps == 0:
        return None
    folder = directory / _PARTS_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    with as_run_error(folder):
        folder.mkdir()
    return Profile(directory, TraceWindow(resumed_step + _STEPS_BEFORE, num_steps, folder))


def _write(path: Path, events: Iterator[dict[str, Any]]) -> tuple[int, ...]:
    """Write them one by one, however many; the first and the last step that was traced whole, if any."""
    steps: tuple[int, ...] = ()
    with path.open("w") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [')
        for number, event in enumerate(events):
            file.write(f"{',' if number else ''}\n{json.dumps(event)}")
            if event.get("name") == "step":
                steps = (*steps[:1], event["args"]["step"])
        file.write("\n]}\n")
    return steps


def _events(parts: list[Path]) -> Iterator[dict[str, Any]]:
    """What the parts hold; the last line of a process that was killed may be cut short, and is left out."""
    for part in parts:
        with part.open(errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)
