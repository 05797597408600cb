"""The view of a run without a terminal: a plain line every few seconds."""

import time
from collections.abc import Mapping
from typing import IO, Any

from launch.figures import LEAST_SHOWN, count, duration, rate, share
from launch.snapshot import Snapshot

_INTERVAL_S = 5.0
_SILENT_S = 10.0
"""A trunk says what it does twice a second: after such a silence the figures are old."""


class PlainView:
    """Writes a line when something new is known: at once if the phase changed, else at most every few seconds."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._written_s = 0.0
        self._last: tuple[str, str, bool] = ("", "", False)
        self._last_line = ""

    def start(self) -> None:
        """Nothing to take over."""

    def update(self, snapshot: Snapshot, *, force: bool = False) -> None:
        """Write a line if one is due."""
        now_s = time.monotonic()
        kind = (snapshot.state, snapshot.phase, bool(snapshot.step))
        if force or kind != self._last or now_s - self._written_s >= _INTERVAL_S:
            self._last, self._written_s = kind, now_s
            line = describe(snapshot.plain())
            if line != self._last_line:
                self._last_line = line
                self._write(f"[{duration(snapshot.elapsed_s)}] {line}")

    def note(self, text: str) -> None:
        """Write a remark."""
        self._write(f"note: {text}")

    def stop(self, snapshot: Snapshot) -> None:
        """Write what is known at the end."""
        self.update(snapshot, force=True)

    def _write(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def describe(status: Mapping[str, Any]) -> str:
    """One line about the state of a run, as `Snapshot.plain` gives it."""
    if status["phase"]:
        progress = f" {count(status['done'])}/{count(status['total'])}" if status["total"] > 0 else ""
        return f"{status['state']}: {status['text'] or status['phase']}{progress}"
    if "step" not in status:
        return str(status["state"])
    workers = status["workers"]
    rows_per_s = rate(sum(worker["rows_per_s"] for worker in workers))
    return (
        f"{status['state']}: step {count(status['step'])} ({share(status['fraction'])}), loss {status['loss']:.4f}, "
        f"{rate(status['examples_per_s'])} examples/s, lr {status['lr']:.2e}, row lr {status['row_lr']:.2e}, "
        f"waited {share(status['wait_fraction'])}, negatives {count(status['negatives'])}, "
        f"in flight {status['in_flight']}, staleness {rate(status['staleness_chunks'])} chunks, "
        f"{len(workers)} workers {rows_per_s} rows/s, ETA {duration(status['eta_s'])}"
    )


def describe_at_length(status: Mapping[str, Any]) -> str:
    """Several lines about a run that goes on: where, what, each worker, the last remarks."""
    silent_s = status["silent_s"]
    silence = f"; heard last {duration(silent_s)} ago" if silent_s >= _SILENT_S else ""
    lines = [f"{status['run']}, for {duration(status['elapsed_s'])}{silence}", describe(status)]
    if phase_fraction := status.get("phase_fraction"):
        lines.append(f"  trunk: {_phases(phase_fraction)}")
    for worker in status["workers"]:
        rows_per_s = rate(worker["rows_per_s"])
        told = f"; {_phases(worker['phase_fraction'])}" if worker.get("phase_fraction") else ""
        numbers = f"{rows_per_s} rows/s, in flight {worker['in_flight']}"
        lines.append(f"  {worker['name']}: {worker['state']}, {numbers}{told}")
    lines += [f"  note: {text}" for text in status["notes"]]
    return "\n".join(lines)


def _phases(phase_fraction: Mapping[str, float]) -> str:
    """`forward 31.0%, wait 2.0%`, in the order given, without what is next to nothing."""
    return ", ".join(f"{name} {share(part)}" for name, part in phase_fraction.items() if part >= LEAST_SHOWN)
