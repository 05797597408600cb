"""A contestant for tests: counts, fails, hangs or dies as its settings say."""

import os
import signal
from typing import Any

from benchmarks.contestant import Prepared


def prepare(settings: dict[str, Any]) -> Prepared:
    """`mode`: count, noise (prints to standard output), fail, die, hang or refuse."""
    mode = settings["mode"]
    if mode == "refuse":
        raise RuntimeError("no such library here")

    def step() -> float:
        if mode == "noise":
            print("a library says hello", flush=True)
            os.write(1, b"and so does C\n")
        if mode == "fail":
            raise ValueError("no such row")
        if mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "hang":
            signal.pause()
        sum(range(1000))
        return settings["units"]

    return Prepared(step, {"blas": os.environ.get("OPENBLAS_CORETYPE"), "threads": os.environ["OMP_NUM_THREADS"]})
