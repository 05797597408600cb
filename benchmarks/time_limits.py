"""How long programs of the benchmarks took, against the longest that each may take."""

import time
from typing import Any

LIMITS_S = {"quick": 180, "full": 1800, "gpu_only": 5400}
"""Program -> seconds; of those without a limit only the time is told."""


class ProgramClock:
    """Seconds since a program began.

    Args:
        program: its name; of a suite that is run alone, the suite's.
    """

    def __init__(self, program: str) -> None:
        self.program = program
        self._start_s = self._lap_s = time.monotonic()

    def lap(self) -> dict[str, Any]:
        """For a record: of which program it is a part, how long since the last lap, how long in all."""
        now_s = time.monotonic()
        elapsed_s, self._lap_s = now_s - self._lap_s, now_s
        whole_s = now_s - self._start_s
        return {"program": self.program, "elapsed_s": round(elapsed_s, 1), "program_elapsed_s": round(whole_s, 1)}

    def text(self) -> str:
        """A line for the end."""
        return elapsed_text(self.program, time.monotonic() - self._start_s)


def elapsed_text(program: str, elapsed_s: float) -> str:
    """How long a program took, and whether that is too long.

    Example:
        >>> elapsed_text("quick", 190.2)
        'quick took 190 s: too long, 180 s are the limit.'
        >>> elapsed_text("full", 1234.0), elapsed_text("draws", 3.0)
        ('full took 1,234 s; 1,800 s are the limit.', 'draws took 3 s.')
    """
    limit_s = LIMITS_S.get(program)
    if limit_s is None:
        return f"{program} took {elapsed_s:,.0f} s."
    judged = ": too long," if elapsed_s > limit_s else ";"
    return f"{program} took {elapsed_s:,.0f} s{judged} {limit_s:,} s are the limit."
