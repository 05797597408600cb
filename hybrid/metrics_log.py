"""The numbers of a run over time, as JSON lines beside TensorBoard events."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from workers.disk import write_whole
from workers.errors import RunError


class MetricsLog:
    """Appends a line per report to `metrics.jsonl`, flushed at once, and the same numbers to TensorBoard.

    A line is one object: `time` (seconds since 1970), `step`, `kind` (`train`, `valid`, ...), then the numbers by name.
    Values that are not finite are written as null, which JSON can hold.

    Args:
        file: the JSON lines; kept if there are any.
        tensorboard: folder of the events.
        resume_step: when a run goes on from a checkpoint of this step, later lines of the earlier run are dropped.
    """

    def __init__(self, file: Path, tensorboard: Path, resume_step: int | None = None) -> None:
        kept = [line for line in read_metrics(file) if resume_step is None or line["step"] <= resume_step]
        write_whole(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
        self._file = file.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(tensorboard), purge_step=None if resume_step is None else resume_step + 1)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Add one line. Nested objects (`popularity`) stay nested; TensorBoard gets the numbers under `kind/name`."""
        line = {"time": round(time.time(), 3), "step": step, "kind": kind} | _finite(values)
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        for name, value in _numbers(values, kind):
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Safe to call twice."""
        self._file.close()
        self._events.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


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


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(values: Mapping[str, Any], prefix: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            found.append((f"{prefix}/{name}", float(value)))
    return found
