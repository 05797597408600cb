"""Whether the hybrid is ahead of its rivals, level, or behind, after equal seconds of training."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
LEVEL = {"P@5": 0.03, "mAP": 0.015}
"""Differences up to this are level: about two standard deviations of the difference between two runs that differ in
nothing but seed and number of workers (`benchmarks.worker_quality`)."""
JUDGED = tuple(LEVEL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best hybrid and the best rival of one size by one measure, both at the end of the same budget."""

    num_tags: int
    measure: str
    ours: tuple[str, float]
    theirs: tuple[str, float]

    @property
    def word(self) -> str:
        """`ahead`, `level` or `behind`, of the hybrid."""
        return standing(self.measure, self.ours[1], self.theirs[1])


def standing(measure: str, ours: float, theirs: float) -> str:
    """How one final value of a measure stands to another."""
    return "level" if abs(ours - theirs) <= LEVEL[measure] else "ahead" if ours > theirs else "behind"


def verdicts(num_tags: int, results: Sequence[Result]) -> list[Verdict]:
    """One for each measure; none where one side is missing."""
    found = []
    for measure in JUDGED:
        ours, theirs = best(results, measure, of_rivals=False), best(results, measure, of_rivals=True)
        if ours and theirs:
            found.append(Verdict(num_tags, measure, ours, theirs))
    return found


def best(results: Sequence[Result], measure: str, *, of_rivals: bool) -> tuple[str, float] | None:
    """Name and final value, averaged over seeds, of the best hybrid or the best rival of one size."""
    finals: dict[str, list[float]] = {}
    for result in results:
        if (result["settings"]["kind"] != "hybrid") == of_rivals:
            finals.setdefault(result["contender"], []).append(result["points"][-1][measure])
    means = {name: statistics.mean(values) for name, values in finals.items()}
    return max(means.items(), key=lambda item: item[1]) if means else None
