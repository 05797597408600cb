"""What can be chosen about a run of suites."""

from dataclasses import dataclass

from benchmarks.measurement import MIN_ROUNDS

DEFAULT_ROUND_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """Given to every suite's `measure`."""

    is_quick: bool = False
    """Measure only what gates of the quick run need."""
    rounds: int = MIN_ROUNDS
    round_s: float = DEFAULT_ROUND_S
    """Seconds per contestant and round."""
    max_tags: int | None = None
    """Matrices are cut down to so many tags; then no gate is judged."""

    def tags(self, wanted: int) -> int:
        """A number of tags, cut down if asked."""
        return wanted if self.max_tags is None else min(wanted, self.max_tags)

    @property
    def reduction(self) -> str:
        """Why gates must not be judged; empty if they may."""
        if self.max_tags is not None:
            return f"matrices were cut down to {self.max_tags:,} tags"
        if self.rounds < MIN_ROUNDS:
            return f"{self.rounds} rounds were asked for, {MIN_ROUNDS} are needed"
        if self.round_s != DEFAULT_ROUND_S:
            return f"rounds of {self.round_s:g} s were asked for, gates speak of {DEFAULT_ROUND_S:g} s"
        return ""
