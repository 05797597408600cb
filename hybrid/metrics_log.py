"""The numbers of a run over time, as JSON lines beside TensorBoard events."""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from workers.disk import write_whole
from workers.errors import RunError
from workers.json_text import to_json
from workers.refused_write import refused_write

logger = logging.getLogger(__name__)


class MetricsLog:
    """Appends a line per report to `metrics.jsonl`, at once, and the same numbers to TensorBoard.

    A line is one object: `time` (seconds since 1970), `step`, `kind` (`train`, `valid`, ...), then the numbers by name.
    Values that are not finite are written as null, which JSON can hold.

    A disk that takes no more is no reason to stop training: it is told, lines are left out, and later ones are written
    when there is room again. No part of a line that was left out stays in the file.

    Args:
        file: the JSON lines; kept if there are any.
        tensorboard: folder of the events.
        resume_step: when a run goes on from a checkpoint of this step, later lines of the earlier run are dropped.
        tell: told once that lines are left out, and again only after some were written.
    """

    def __init__(
        self,
        file: Path,
        tensorboard: Path,
        resume_step: int | None = None,
        tell: Callable[[str], None] = logger.warning,
    ) -> None:
        kept = [line for line in read_metrics(file) if resume_step is None or line["step"] <= resume_step]
        write_whole(file, "".join(to_json(line) + "\n" for line in kept))
        self._path, self._tensorboard, self._tell = file, tensorboard, tell
        self._file = file.open("ab", buffering=0)  # unbuffered: what could not be written is not tried again at the end
        self._torn_at: int | None = None
        self._events: SummaryWriter | None = None
        self._purge_step = None if resume_step is None else resume_step + 1
        self._leaves_out = False

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Add one line. Nested objects (`popularity`) stay nested; TensorBoard gets the numbers under `kind/name`."""
        line = {"time": round(time.time(), 3), "step": step, "kind": kind, **values}
        try:
            self._append((to_json(line) + "\n").encode(errors="backslashreplace"))
            self._add_events(step, _numbers(values, kind))
            self._leaves_out = False
        except OSError as e:
            if not self._leaves_out:
                reason = f"cannot write {self._path}, or the events beside it: {refused_write(e, self._path)}"
                self._tell(f"{reason}. Training goes on; its numbers are left out until there is room.")
            self._leaves_out = True

    def close(self) -> None:
        """Safe to call twice."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._close_events()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        """The whole line or, after an OSError, nothing of it; if even that fails, the next call begins with it."""
        self._mend()
        self._torn_at = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
            self._torn_at = None
        except OSError:
            with contextlib.suppress(OSError):
                self._mend()
            raise

    def _mend(self) -> None:
        if self._torn_at is not None:
            self._file.truncate(self._torn_at)
            self._torn_at = None

    def _add_events(self, step: int, numbers: list[tuple[str, float]]) -> None:
        """TensorBoard's writer never recovers from a write that failed: after one, another file is begun."""
        try:
            if self._events is None:
                self._events = SummaryWriter(str(self._tensorboard), purge_step=self._purge_step)
                self._purge_step = None  # of what this run wrote itself nothing is to be hidden
            for name, value in numbers:
                self._events.add_scalar(name, value, step)
        except OSError:
            self._close_events()
            raise

    def _close_events(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            with contextlib.suppress(OSError):  # its thread's earlier one, which has been told, or one at the very end
                events.close()


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines so far; empty if there is no file. A last line that a kill cut short is left out.

    Raises:
        RunError: another line is not a JSON object with a step; names the line.
    """
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for number, text in enumerate(lines, start=1):
        try:
            found.append(_parsed(text))
        except ValueError as e:
            if number < len(lines):
                raise RunError(f"{file}, line {number} is not a line of metrics: {e}") from e
    return found


def _parsed(text: str) -> dict[str, Any]:
    line = json.loads(text)
    if not isinstance(line, dict) or not isinstance(line.get("step"), int):
        raise ValueError("expected an object with a step")
    return line


def _numbers(values: Mapping[str, Any], prefix: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            found.append((f"{prefix}/{name}", float(value)))
    return found
