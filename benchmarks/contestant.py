"""The child's side of a persistent contestant: `python -m benchmarks.contestant MODULE`, talked to by lines.

Each line is one JSON object. The parent writes, the child answers each line with one line:

    {"prepare": {...}}     ->  {"ready": {facts}}     MODULE.prepare(settings) was called
    {"round": seconds}     ->  {"seconds": s, "units": u, "cpu_seconds": c}
    end of the input       ->  the child exits
                               {"error": "..."} whenever something failed; the child exits

MODULE has a function `prepare(settings: dict) -> Prepared`. What it and its libraries print goes to standard error, so
that lines stay clean. Only the standard library is needed here: a contestant may run under another Python.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class Prepared(NamedTuple):
    """A contestant that is ready to work."""

    step: Callable[[], float]
    """Does some work, best a few milliseconds of it; returns how many units it did."""
    facts: dict[str, Any] = {}  # noqa: RUF012  # a NamedTuple's default; nobody writes it
    """For the record: versions, settings that were found."""


def main() -> None:
    """Answer lines until there are no more."""
    die_with_parent()
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    try:
        module = importlib.import_module(sys.argv[1])
        step: Callable[[], float] | None = None
        for line in sys.stdin:
            request = json.loads(line)
            if "prepare" in request:
                step, facts = module.prepare(request["prepare"])
                answer = {"ready": facts}
            else:
                assert step is not None, "the parent prepares first"
                answer = run_round(step, request["round"])
            print(json.dumps(answer), file=lines)
    except Exception as error:  # whatever a rival's library raises is told to the parent
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=lines)
        raise SystemExit(1) from error


def die_with_parent() -> None:
    """A killed benchmark leaves nobody behind, not even a contestant in the middle of a step that never ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run_round(step: Callable[[], float], seconds: float) -> dict[str, float]:
    """Repeat the step until the time is over; all of it counts, the last step too."""
    units, cpu_s, start_s = 0.0, time.process_time(), time.perf_counter()
    while True:
        units += step()
        elapsed_s = time.perf_counter() - start_s
        if elapsed_s >= seconds:
            return {"seconds": elapsed_s, "units": units, "cpu_seconds": time.process_time() - cpu_s}


if __name__ == "__main__":
    main()
