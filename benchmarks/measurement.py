"""A measured figure, judged by its gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.gates import GATES, HIGHER, NO_GATE, NOT_MEASURED, OK, SHORT, Gate
from benchmarks.spread import Spread, spread_of
from benchmarks.turns import Turns

MIN_ROUNDS = 9
"""Rounds that must count before a gate is judged."""
WIDE = 0.10
"""A spread, relative to its median, that makes a value whose quartiles straddle the gate worthless."""


@dataclass(frozen=True, slots=True)
class Floor:
    """A contestant that does only what ours cannot do without, and what that is."""

    contestant: str
    what: str


@dataclass(frozen=True, slots=True)
class Limit:
    """The ratio that ours would reach if it took no longer than a `Floor`, on the machine that was measured."""

    value: float
    """The upper quartile of the rounds, in favour of the gate."""
    what: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """A figure with everything that it came from.

    Make one with `ratio`, `times`, `value` or `missing`.
    """

    name: str
    """Of a gate in `benchmarks.gates`, or any other: then it is shown without a verdict."""
    what: str
    unit: str
    """`x` for ratios, or `ns` and so on."""
    values: list[float]
    """One per round that counted; empty if nothing was measured."""
    reason: str = ""
    """Why it must not be judged; empty if it may."""
    samples: dict[str, Any] = field(default_factory=dict)
    """Raw, for the JSON."""
    is_exact: bool = False
    """One value is enough: it does not vary."""
    limit: Limit | None = None
    """None where nobody knows one."""
    is_defect: bool = False
    """Our own side failed, so that there is nothing to judge."""
    left_out: int = 0
    """Rounds whose ratio cannot be, see `Gate.least`: disturbed unseen, they are no values."""

    @classmethod
    def ratio(
        cls,
        name: str,
        turns: Turns,
        over: str,
        under: str,
        what: str = "",
        facts: Mapping[str, Any] | None = None,
        floor: Floor | None = None,
    ) -> Measurement:
        """Time per unit of contestant `over`, divided by that of `under`, round by round.

        So "how many times faster than X is Y" is `over="X", under="Y"`, and "how much longer" the reverse. Facts, as
        which pages the memory had, stand beside the samples. A floor, which takes its turns too, says how small the
        time of `under` can get; so the figure must be one that is better when larger. Ratios below the gate's `least`
        are left out and counted.
        """
        assert floor is None or name not in GATES or GATES[name].direction == HIGHER, "ours must be `under`"
        every = _ratios(turns, over, under)
        ratios = possible(GATES.get(name), every)
        samples = {"over": over, "under": under, "facts": dict(facts or {}), **turns.as_json()}
        limit = None
        if floor is not None and ratios:
            limit = Limit(spread_of(_ratios(turns, over, floor.contestant)).high_quartile, floor.what)
        left_out = len(every) - len(ratios)
        return cls(name, _what(name, what), "x", ratios, turns.complaint, samples, limit=limit, left_out=left_out)

    @classmethod
    def times(cls, name: str, turns: Turns, contestant: str, what: str, *, unit: str = "ns") -> Measurement:
        """Nanoseconds per unit of one contestant, to be read beside ratios; samples are with the ratio."""
        return cls(name, what, unit, turns.ns_per_unit(contestant), turns.complaint)

    @classmethod
    def value(
        cls, name: str, value: float, unit: str, what: str = "", samples: dict[str, Any] | None = None
    ) -> Measurement:
        """A figure that does not vary, as a number of bytes."""
        return cls(name, _what(name, what), unit, [value], "", samples or {}, is_exact=True)

    @classmethod
    def missing(cls, name: str, reason: str, what: str = "", *, is_defect: bool = False) -> Measurement:
        """Something that cannot be measured here, with the reason."""
        return cls(name, _what(name, what), "x", [], reason, is_defect=is_defect)

    @property
    def gate(self) -> Gate | None:
        """What it is judged by."""
        return GATES.get(self.name)

    @property
    def spread(self) -> Spread | None:
        """None if there are no values."""
        return spread_of(self.values) if self.values else None

    def verdict(self) -> tuple[str, str]:
        """`OK`, `SHORT`, `NOT_MEASURED` or `NO_GATE`, and why."""
        return judge(self.gate, self.values, self.reason, 1 if self.is_exact else MIN_ROUNDS, self.limit, self.left_out)

    def as_json(self) -> dict[str, Any]:
        """A result for the record."""
        gate, (verdict, why) = self.gate, self.verdict()
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "value": self.spread.median if self.spread else None,
            "spread": self.spread._asdict() if self.spread else None,
            "rounds": len(self.values),
            "left_out": self.left_out,
            "direction": gate.direction if gate else None,
            "gate": gate.gate if gate else None,
            "ambition": gate.ambition if gate else None,
            "verdict": verdict,
            "reason": why,
            "limit": asdict(self.limit) if self.limit else None,
            "values": self.values,
            "samples": self.samples,
        }


def judge(
    gate: Gate | None,
    values: list[float],
    complaint: str,
    min_rounds: int = MIN_ROUNDS,
    limit: Limit | None = None,
    left_out: int = 0,
) -> tuple[str, str]:
    """A verdict and its reason. What was disturbed, cut down, or scatters across the gate is no verdict on the code.

    `on the edge` are verdicts that another run may turn: the quartiles lie on either side of the gate.
    A miss is a miss even where the machine's limit is short of the gate too; the reason then says so. Rounds that were
    left out, since their values cannot be, may be so many that half of those needed remain; the reason says how many.
    """
    noted = ""
    if gate and left_out:
        noted = f"{left_out} round{'s' * (left_out > 1)} left out: below {gate.least:g}, which cannot be"
    verdict, reason = _judged(gate, values, complaint, -(-min_rounds // 2) if noted else min_rounds, limit)
    if noted and len(values) + left_out < min_rounds:
        verdict = NOT_MEASURED
    return verdict, "; ".join(filter(None, (reason, noted)))


def possible(gate: Gate | None, values: list[float]) -> list[float]:
    """Values that are not below what the gate says no value can be below."""
    return [value for value in values if gate is None or gate.least is None or value >= gate.least]


def _judged(
    gate: Gate | None, values: list[float], complaint: str, min_rounds: int, limit: Limit | None
) -> tuple[str, str]:
    if not values:
        return NOT_MEASURED, complaint or "no round counted"
    if gate is None:
        return NO_GATE, complaint
    if complaint:
        return NOT_MEASURED, complaint
    if len(values) < min_rounds:
        return NOT_MEASURED, f"{len(values)} rounds counted, {min_rounds} are needed"
    spread = spread_of(values)
    if spread.straddles(gate.gate) and spread.relative > WIDE:
        return NOT_MEASURED, f"quartiles {spread.low_quartile:.3g} to {spread.high_quartile:.3g} straddle the gate"
    edge = "on the edge" if spread.straddles(gate.gate) else ""
    if gate.holds(spread.median):
        return OK, edge or ("reaches the ambition" if gate.is_ambitious(spread.median) else "")
    share = spread.median / gate.gate if gate.direction == HIGHER else gate.gate / spread.median
    reason = "; ".join(filter(None, (f"{100 * share:.0f}% of the way", edge)))
    if limit is None or gate.holds(limit.value):
        return SHORT, reason
    return SHORT, f"{reason}; out of reach here: {limit.what} alone would give {limit.value:.3g}x"


def _ratios(turns: Turns, over: str, under: str) -> list[float]:
    return [high / low for high, low in zip(turns.ns_per_unit(over), turns.ns_per_unit(under), strict=True)]


def _what(name: str, what: str) -> str:
    return what or GATES[name].what
