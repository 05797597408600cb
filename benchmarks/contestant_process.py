"""Contestants: a process that persists over all rounds, or a function of this one."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.contestant import run_round
from benchmarks.environment import contestant_environment
from benchmarks.machine_load import cpu_s
from benchmarks.process_memory import process_tree
from benchmarks.turns import Sample
from workers.errors import HybridError

ROOT = Path(__file__).resolve().parents[1]
RIVALS = "benchmarks.rivals"
"""The package of those that are not ours."""
PREPARE_LIMIT_S = 300.0
_ROUND_EXTRA_S = 60.0
_EXIT_LIMIT_S, _KILL_LIMIT_S = 5.0, 60.0
_LAST_WORDS_BYTES = 2000


class ContestantLost(HybridError):
    """A contestant failed, ended, or gave no answer in time; the message has its last words.

    Args:
        message: for people.
        module: of the contestant.
    """

    def __init__(self, message: str, module: str = "") -> None:
        super().__init__(message)
        self.is_rival = module.startswith(f"{RIVALS}.")
        """Whether it is no fault of ours."""


class LocalContestant:
    """A function of this process as a contestant. It must compute on one thread.

    Args:
        step: does some work, best a few milliseconds of it; returns how many units it did.
    """

    is_always_busy = True

    def __init__(self, step: Callable[[], float]) -> None:
        self._step, self._seconds = step, 0.0

    def begin(self, seconds: float) -> None:
        """Note for how long."""
        self._seconds = seconds

    def end(self) -> Sample:
        """Work for so long."""
        return _sample(run_round(self._step, self._seconds), threads=1)


class ProcessContestant:
    """A process of its own that is started once, prepared once, and works when told to. A context manager.

    Args:
        module: with a function `prepare`, see `benchmarks.contestant`.
        settings: passed to it as JSON.
        python: another interpreter, for rivals that have an environment of their own.
        environment: variables for it alone.
        fds: descriptors to inherit, as those of a shared matrix; numbers stay the same.
        threads: that each of its processes may use; set for OpenMP, MKL, OpenBLAS and Numba.
        busy_threads: over it and all processes that it started when it was prepared, how many compute all the time;
            None: `threads`. Its share of the cores is the CPU time of all these processes over that of so many threads.

    Raises:
        ContestantLost: from the constructor if it cannot be prepared, from `end` if it fails later.
    """

    is_always_busy = True

    def __init__(
        self,
        module: str,
        settings: Mapping[str, Any],
        *,
        python: str | Path = sys.executable,
        environment: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
        threads: int = 1,
        busy_threads: int | None = None,
        prepare_limit_s: float = PREPARE_LIMIT_S,
    ) -> None:
        self._module, self._seconds = module, 0.0
        self._busy_threads = threads if busy_threads is None else busy_threads
        self._children: list[int] = []
        self._children_start_s = 0.0
        self._buffer = b""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self.process = subprocess.Popen(
            [str(python), "-P", "-m", "benchmarks.contestant", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=contestant_environment(threads) | dict(environment or {}) | {"PYTHONPATH": str(ROOT)},
            pass_fds=tuple(fds),
        )
        try:
            self._write({"prepare": dict(settings)})
            self.facts: dict[str, Any] = self._read(prepare_limit_s)["ready"]
            self._children = process_tree(self.process.pid)[1:]
        except BaseException:
            self.close()
            raise

    def begin(self, seconds: float) -> None:
        """Tell it to start."""
        self._seconds = seconds
        self._children_start_s = self._children_cpu_s()
        self._write({"round": seconds})

    def end(self) -> Sample:
        """Wait for its answer, for a minute more than it was to take."""
        answer = self._read(self._seconds + _ROUND_EXTRA_S)
        return _sample(answer, self._busy_threads, self._children_cpu_s() - self._children_start_s)

    def close(self) -> None:
        """End the process; safe to call twice."""
        if self._log.closed:
            return
        assert self.process.stdin is not None and self.process.stdout is not None  # pipes
        self.process.stdin.close()
        try:
            self.process.wait(_EXIT_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_KILL_LIMIT_S)
        self.process.stdout.close()
        self._log.close()

    def __enter__(self) -> ProcessContestant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _children_cpu_s(self) -> float:
        return sum(map(cpu_s, self._children))

    def _write(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None  # a pipe
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as e:
            raise self._lost("takes no more lines") from e

    def _read(self, limit_s: float) -> dict[str, Any]:
        line = self._read_line(limit_s)
        answer = json.loads(line)
        if "error" in answer:
            raise self._lost(answer["error"])
        return dict(answer)

    def _read_line(self, limit_s: float) -> bytes:
        assert self.process.stdout is not None  # a pipe
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._lost(f"gave no answer within {limit_s:.0f} s")
                data = os.read(self.process.stdout.fileno(), 1 << 16)
                if not data:
                    raise self._lost("ended")
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _lost(self, what: str) -> ContestantLost:
        self._log.seek(0)
        words = self._log.read()[-_LAST_WORDS_BYTES:].decode(errors="replace").strip()
        message = f"contestant {self._module}: {what}. Its last words:\n{words or '(none)'}"
        return ContestantLost(message, self._module)


def _sample(answer: Mapping[str, float], threads: int, children_cpu_s: float = 0.0) -> Sample:
    used_s = answer["cpu_seconds"] + children_cpu_s
    return Sample(answer["seconds"], answer["units"], used_s / answer["seconds"] / threads)
