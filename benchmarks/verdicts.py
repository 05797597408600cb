"""The newest verdict on every gate, found in all results."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.gates import GATES, OK, SHORT, words_of_today
from benchmarks.measurement import MIN_ROUNDS, Limit, Measurement, judge, possible
from benchmarks.record import machine_of
from benchmarks.spread import spread_of

Result = Mapping[str, Any]


def newest_verdicts(records: Iterable[Mapping[str, Any]]) -> list[Result]:
    """One result per gate, in the order of the table; `NOT_MEASURED` where no results speak of it.

    Verdicts are by today's rules. `surroundings` of a result says on what it was measured, and by which commit.
    """
    newest: dict[str, Result] = {}
    for record in sorted(records, key=lambda record: record["written"]):
        made = {"surroundings": (machine_of(record), record["software"]["commit"])}
        newest |= {r["name"]: judged_again(r) | made for r in record["results"] if r.get("gate") is not None}
    return [newest.get(name) or Measurement.missing(name, "no results hold it").as_json() for name in GATES]


def judged_again(result: Result) -> dict[str, Any]:
    """A result of `Measurement.as_json` by today's words, bounds and rules; what was not measured stays so.

    Values that cannot be are left out also where an earlier commit left them in.
    """
    gate = GATES.get(result["name"])
    if gate is None:
        return {**result, "what": words_of_today(result["what"])}
    today = {**result, "what": gate.what, "gate": gate.gate, "ambition": gate.ambition}
    if result["verdict"] not in (OK, SHORT):
        return today
    limit = Limit(**result["limit"]) if result["limit"] else None
    values = possible(gate, result["values"])
    left_out = result.get("left_out", 0) + len(result["values"]) - len(values)
    complaint = gate.off_target(result["samples"]["worker_ms"]) if gate.worker_ms else ""
    verdict, reason = judge(gate, values, complaint, min(MIN_ROUNDS, len(values) + left_out), limit, left_out)
    today |= {"verdict": verdict, "reason": reason}
    if len(values) == len(result["values"]):
        return today
    spread = spread_of(values)._asdict() if values else {"median": None}
    today |= {"values": values, "rounds": len(values), "left_out": left_out}
    return today | {"value": spread["median"], "spread": spread if values else None}
