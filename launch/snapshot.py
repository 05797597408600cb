"""What is known of a run at this moment, as its processes have told it."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

_MAX_HISTORY = 512
_MAX_NOTES = 200


class History:
    """A series of any length in bounded memory: when it is full, neighbours are averaged."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self._per_point = 1
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        """Append a value; values that are not finite are left out."""
        if not math.isfinite(value):
            return
        self._sum += value
        self._count += 1
        if self._count < self._per_point:
            return
        self.points.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.points) >= _MAX_HISTORY:
            self.points = [(a + b) / 2 for a, b in zip(self.points[::2], self.points[1::2], strict=True)]
            self._per_point *= 2


@dataclass(slots=True)
class Snapshot:
    """The state of a run, for the live view, `hybrid status` and the report at the end."""

    run: str
    """The run directory, as shown."""
    source: str
    """The data source, as shown."""
    state: str = "preparing"
    """`preparing`, `training`, `stopping`, `finished`, `failed` or `stopped`."""
    workers_wanted: int = 0
    """Worker processes asked for."""
    phase: str = ""
    """What goes on beside training steps: `prepare`, `evaluate`, ...; empty while steps are made."""
    text: str = ""
    """The phase in words."""
    done: int = 0
    total: int = 0
    step: dict[str, Any] = field(default_factory=dict)
    """The latest `step` message."""
    losses: History = field(default_factory=History)
    notes: list[str] = field(default_factory=list)
    """Warnings and remarks, oldest first."""
    metrics: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    workers_lost: int = 0
    """Workers that died and were replaced."""
    started_s: float = field(default_factory=time.monotonic)
    heard_s: float = field(default_factory=time.monotonic)
    """When whoever prepares or trains said something last; what is shown is as old."""

    def take(self, message: dict[str, Any]) -> None:
        """Learn from a valid link message."""
        kind = message["kind"]
        if kind == "step":
            self.step = message
            self.losses.add(message["loss"])
            self.show("", "")
        elif kind == "progress":
            self.show(message["phase"], message["text"], message["done"], message["total"])
        elif kind == "metrics":
            self.metrics = message["table"]
        elif kind == "done":
            self.outputs = message["outputs"]

    def hear(self) -> None:
        """Whoever prepares or trains is there."""
        self.heard_s = time.monotonic()

    def show(self, phase: str, text: str, done: int = 0, total: int = 0) -> None:
        """Say what goes on now; `total` 0 means that the length is not known."""
        self.phase, self.text, self.done, self.total = phase, text, done, total

    def note(self, text: str) -> None:
        """Add a remark; the oldest go when there are too many."""
        self.notes.append(text)
        del self.notes[:-_MAX_NOTES]

    @property
    def elapsed_s(self) -> float:
        """Seconds since this launch began."""
        return time.monotonic() - self.started_s

    @property
    def silent_s(self) -> float:
        """Seconds since whoever prepares or trains said something."""
        return time.monotonic() - self.heard_s

    def plain(self) -> dict[str, Any]:
        """The state as plain values, for `hybrid status --json`."""
        step = {name: value for name, value in self.step.items() if name not in ("kind", "workers")}
        return {
            "run": self.run,
            "state": self.state,
            "elapsed_s": round(self.elapsed_s, 1),
            "silent_s": round(self.silent_s, 1),
            "phase": self.phase,
            "text": self.text,
            "done": self.done,
            "total": self.total,
            "workers_wanted": self.workers_wanted,
            "workers_lost": self.workers_lost,
            **step,
            "workers": self.step.get("workers", []),
            "notes": self.notes[-5:],
        }
