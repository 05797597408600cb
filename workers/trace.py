"""One process's part of a trace: events in the Chrome trace-event format, a JSON object per line.

The clock is `time.perf_counter_ns`. On Linux it is CLOCK_MONOTONIC, which all processes of a host share: events of
trunk and workers lie on one axis as they are.

Each write is one system call on a file opened to append: what was written before a SIGKILL stays, the last line may be
cut short. `launch.profile` puts the parts together.

Source: "Trace Event Format", a document of the Chromium project: `X` complete slices, `s` `t` `f` flows, `C` counters,
`M` metadata; times in microseconds.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from workers.errors import ConfigError

Event = dict[str, Any]

_log = logging.getLogger(__name__)

CHUNKS_PER_STEP = 1 << 20
"""Bound that keeps the numbers of flows apart."""


@dataclass(frozen=True, slots=True)
class TraceWindow:
    """Which steps are traced, and where the parts go."""

    first_step: int
    num_steps: int
    folder: Path
    """Exists; each process writes `NAME.jsonl` in it."""

    def covers(self, step: int) -> bool:
        """Whether this step is traced."""
        return self.first_step <= step < self.first_step + self.num_steps

    def is_over(self, step: int) -> bool:
        """Whether neither this step nor a later one is traced."""
        return step >= self.first_step + self.num_steps

    @property
    def text(self) -> str:
        """For a command line: `FIRST:NUMBER:FOLDER`."""
        return f"{self.first_step}:{self.num_steps}:{self.folder}"

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Read it back.

        Raises:
            ConfigError: it is not of that form.

        Example:
            >>> TraceWindow.of_text("20:100:/runs/a:b").folder
            PosixPath('/runs/a:b')
        """
        try:
            first, number, folder = text.split(":", 2)
            return cls(int(first), int(number), Path(folder))
        except ValueError as e:
            raise ConfigError(f"trace = {text!r}, but it must be FIRST:NUMBER:FOLDER.") from e


class TracePart:
    """The file that one process writes.

    Where it cannot be written, by a full disk, it ends, which is logged; the process goes on.

    Args:
        window: says where.
        name: of the process, as shown; no two processes of a run share one.
        order: place of its track, from the top.
    """

    def __init__(self, window: TraceWindow, name: str, order: int) -> None:
        self._pid = os.getpid()
        self._path = window.folder / f"{name}.jsonl"
        self._fd: int | None = None
        with self._told_if_it_ends():
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        named = {"ph": "M", "name": "process_name", "args": {"name": name}}
        placed = {"ph": "M", "name": "process_sort_index", "args": {"sort_index": order}}
        self.write([named, placed, {"ph": "M", "name": "thread_name", "args": {"name": name}}])

    def write(self, events: Iterable[Event]) -> None:
        """Append events of the calling thread."""
        if self._fd is None:
            return
        place = {"pid": self._pid, "tid": threading.get_native_id()}
        lines = "".join(json.dumps(event | place) + "\n" for event in events)
        with self._told_if_it_ends():
            os.write(self._fd, lines.encode())

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    @contextlib.contextmanager
    def _told_if_it_ends(self) -> Iterator[None]:
        """A file that cannot be written is no reason to end whom it is about."""
        try:
            yield
        except OSError as error:
            _log.warning("the trace in %s ends here: %s", self._path, error)
            self.close()


def slice_event(name: str, start_ns: int, end_ns: int, **args: int) -> Event:
    """Something that took time."""
    return {"ph": "X", "name": name, "ts": start_ns / 1000, "dur": (end_ns - start_ns) / 1000, "args": args}


def flow_event(phase: str, step: int, chunk: int, at_ns: int) -> Event:
    """A point of a chunk's arrow: `s` starts it, `t` passes through, `f` ends it, each in the slice around `at_ns`."""
    number = step * CHUNKS_PER_STEP + chunk
    return {"ph": phase, "name": "chunk", "cat": "chunk", "id": number, "ts": at_ns / 1000} | (
        {"bp": "e"} if phase == "f" else {}
    )


def counter_event(name: str, at_ns: int, value: int) -> Event:
    """A number that holds from here on."""
    return {"ph": "C", "name": name, "ts": at_ns / 1000, "args": {name: value}}
