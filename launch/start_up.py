"""How long it took from `hybrid train` to the first step, and with what."""

import os
import time
from pathlib import Path


class StartUp:
    """Seconds of each stage of a start, from the birth of this process."""

    def __init__(self) -> None:
        self._began_s = time.monotonic() - process_age_s()
        self._stages: list[tuple[str, float]] = []

    def reach(self, stage: str) -> None:
        """This stage has just ended."""
        self._stages.append((stage, time.monotonic() - self._began_s))

    @property
    def report(self) -> str:
        """Everything in one line: the whole time, then what each stage added."""
        starts = [0.0, *(seconds for _, seconds in self._stages)]
        stages = [f"{name} {end - start:.1f}" for (name, end), start in zip(self._stages, starts, strict=False)]
        return f"first step after {starts[-1]:.1f} s ({', '.join(stages)})"


def process_age_s() -> float:
    """Seconds since the kernel started this process."""
    started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
