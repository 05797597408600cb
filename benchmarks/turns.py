"""Contestants that take turns, round after round, so that a drift of the machine hits all of them alike."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from benchmarks.machine_load import LoadMeter
from benchmarks.progress import Progress

MIN_CPU_SHARE = 0.95
"""Of a core, for a contestant that computes all the time: with less, somebody else had the core."""
MAX_FOREIGN_CORES = 0.2
"""Cores that other processes, or other guests of the host, may use while a round counts."""
_NUMBER = re.compile(r"\b\d+(\.\d+)?%? (of|cores)\b")
"""How much of a core somebody had, or others used, which differs from round to round."""
_ATTEMPTS = 3
"""Rounds that are tried for each one wanted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One contestant's part of one round."""

    seconds: float
    units: float
    """Of work done."""
    cpu_share: float
    """CPU time of all its processes over elapsed time and the threads that compute all the time; of several contestants
    the smallest."""

    @property
    def ns_per_unit(self) -> float:
        """Time of a unit."""
        return 1e9 * self.seconds / self.units


class Contestant(Protocol):
    """Something that works for a while when told to. `begin` returns at once or nearly; `end` waits for the sample."""

    is_always_busy: bool
    """False if it waits by nature, so that its CPU share says nothing: trunk and worker across a wire (`wire.Wire`),
    a trunk that waits for workers or for its own latency (`pipeline_rig.Waiting`, `pipeline_scaling.Stepping`)."""

    def begin(self, seconds: float) -> None:
        """Work for so long from now."""

    def end(self) -> Sample:
        """What came of it."""


class Together:
    """Several contestants at the same time, as one whose rate is the sum of theirs."""

    def __init__(self, members: Sequence[Contestant]) -> None:
        self.members = members
        self.is_always_busy = all(member.is_always_busy for member in members)

    def begin(self, seconds: float) -> None:
        """Start all."""
        for member in self.members:
            member.begin(seconds)

    def end(self) -> Sample:
        """Wait for all."""
        samples = [member.end() for member in self.members]
        seconds = statistics.fmean(sample.seconds for sample in samples)
        rate = sum(sample.units / sample.seconds for sample in samples)
        return Sample(seconds, rate * seconds, min(sample.cpu_share for sample in samples))


@dataclass(frozen=True, slots=True)
class Round:
    """Everybody's sample, and what else the machine did meanwhile."""

    samples: dict[str, Sample]
    foreign_cores: float
    """Used by other processes, and taken by the host."""
    disturbance: str
    """Why it does not count; empty if it does."""


@dataclass(frozen=True, slots=True)
class Turns:
    """All rounds of some contestants."""

    rounds: list[Round]
    wanted: int
    reduction: str = ""
    """Why these rounds must not be judged even if nothing disturbed them."""

    @property
    def counted(self) -> list[Round]:
        """Those that nothing disturbed."""
        return [round_ for round_ in self.rounds if not round_.disturbance]

    @property
    def complaint(self) -> str:
        """Why all this must not be judged; empty if it may."""
        if len(self.counted) < self.wanted:
            reasons = [round_.disturbance for round_ in self.rounds if round_.disturbance]
            return f"{len(self.counted)} of {self.wanted} rounds counted: {_commonest(reasons)}"
        return self.reduction

    @classmethod
    def joined(cls, parts: Sequence[Turns]) -> Turns:
        """Turns that the same contestants took after several starts, as one."""
        rounds = [round_ for part in parts for round_ in part.rounds]
        return cls(rounds, sum(part.wanted for part in parts), parts[0].reduction)

    def ns_per_unit(self, name: str) -> list[float]:
        """Time per unit in each round that counted."""
        return [round_.samples[name].ns_per_unit for round_ in self.counted]

    def as_json(self) -> dict[str, Any]:
        """Every round, disturbed ones too."""
        return {
            "wanted": self.wanted,
            "reduction": self.reduction,
            "rounds": [asdict(round_) for round_ in self.rounds],
        }


def take_turns(
    contestants: Mapping[str, Contestant],
    *,
    rounds: int,
    round_s: float,
    progress: Progress,
    reduction: str = "",
    runs_more: Mapping[str, str] | None = None,
) -> Turns:
    """Let everybody work for `round_s` in each round, in an order that turns about, until enough rounds count.

    The first round warms up. A round is disturbed, and does not count, if a contestant that computes all the time had
    less than `MIN_CPU_SHARE` of a core, or others used more than `MAX_FOREIGN_CORES`.

    Args:
        contestants: by name; all of them prepared.
        rounds: that shall count; three times as many are tried at most.
        round_s: seconds per contestant and round.
        progress: told of every round.
        reduction: see `Turns`.
        runs_more: a contestant -> the one whose code it runs, and more. A round in which it was faster was disturbed,
            whatever the load says: for their ratio another is played.
    """
    names, done = list(contestants), Turns([], rounds, reduction)
    meter = LoadMeter()
    _play(contestants, names, round_s, meter)
    for attempt in range(_ATTEMPTS * rounds):
        turned = names if attempt % 2 == 0 else names[::-1]
        done.rounds.append(_play(contestants, turned, round_s, meter))
        enough = [round_ for round_ in done.counted if not _impossible(round_, runs_more or {})]
        told = done.rounds[-1].disturbance or _impossible(done.rounds[-1], runs_more or {})
        progress.round(", ".join(names), len(enough), rounds, told)
        if len(enough) == rounds:
            break
    return done


def _commonest(reasons: Sequence[str]) -> str:
    """The reason that most rounds share, whatever its numbers were, as the last of them had it."""
    kinds = Counter(_NUMBER.sub("", reason) for reason in reasons)
    ((kind, _),) = kinds.most_common(1)
    return [reason for reason in reasons if _NUMBER.sub("", reason) == kind][-1]


def _impossible(round_: Round, runs_more: Mapping[str, str]) -> str:
    for more, less in runs_more.items():
        if round_.samples[more].ns_per_unit < round_.samples[less].ns_per_unit:
            return f"{more} was faster than {less}, whose code it runs"
    return ""


def _play(contestants: Mapping[str, Contestant], names: list[str], round_s: float, meter: LoadMeter) -> Round:
    meter.start()
    samples = {}
    for name in names:
        contestants[name].begin(round_s)
        samples[name] = contestants[name].end()
    foreign_cores = meter.foreign_cores()
    return Round(samples, foreign_cores, _disturbance(contestants, samples, foreign_cores))


def _disturbance(contestants: Mapping[str, Contestant], samples: Mapping[str, Sample], foreign_cores: float) -> str:
    for name, sample in samples.items():
        if contestants[name].is_always_busy and sample.cpu_share < MIN_CPU_SHARE:
            return f"busy machine, {name} had {100 * sample.cpu_share:.0f}% of a core"
    if foreign_cores > MAX_FOREIGN_CORES:
        return f"busy machine, others used {foreign_cores:.1f} cores"
    return ""
