"""What can be chosen about a run of suites."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measurement import MIN_ROUNDS
from benchmarks.progress import Progress
from benchmarks.turns import Contestant, Turns, take_turns

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

    def take_turns(
        self,
        contestants: Mapping[str, Contestant],
        progress: Progress,
        *,
        starts: int = 1,
        times_as_long: int = 1,
        runs_more: Mapping[str, str] | None = None,
    ) -> Turns:
        """Let contestants take as many turns as was asked for.

        Args:
            contestants: by name; all of them prepared.
            progress: told of every round.
            starts: of which this is one: each has its part of the rounds.
            times_as_long: as a round of most suites, for work that needs more.
            runs_more: see `turns.take_turns`.
        """
        rounds, round_s = -(-self.rounds // starts), times_as_long * self.round_s
        return take_turns(
            contestants,
            rounds=rounds,
            round_s=round_s,
            progress=progress,
            reduction=self.reduction,
            runs_more=runs_more,
        )

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
