"""A contestant for tests: counts, fails, hangs or dies as its settings say."""

import atexit
import os
import signal
import subprocess
import sys
import time
from typing import Any

from benchmarks.contestant import Prepared

_ENDS_WITH_PARENT = (
    "import sys, threading, os; threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()"
)
CHILDREN = {"child computes": f"{_ENDS_WITH_PARENT}\nwhile True: pass", "child waits": _ENDS_WITH_PARENT}


def prepare(settings: dict[str, Any]) -> Prepared:
    """`mode`: count, noise (prints to standard output), fail, die, hang, refuse; or let a child compute, or wait."""
    mode = settings["mode"]
    if mode in CHILDREN:
        child = subprocess.Popen([sys.executable, "-c", CHILDREN[mode]], stdin=subprocess.PIPE)
        atexit.register(child.kill)
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
        if mode in CHILDREN:
            time.sleep(0.05)
        if mode == "hang":
            signal.pause()
        sum(range(1000))
        return settings["units"]

    return Prepared(step, {"blas": os.environ.get("OPENBLAS_CORETYPE"), "threads": os.environ["OMP_NUM_THREADS"]})
