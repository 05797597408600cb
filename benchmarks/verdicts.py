"""The newest verdict on every gate, found in all results."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.gates import GATES, NOT_MEASURED, OK, SHORT
from benchmarks.measurement import Measurement

Result = Mapping[str, Any]


def newest_verdicts(records: Iterable[Mapping[str, Any]]) -> list[Result]:
    """One result per gate, in the order of the table; `NOT_MEASURED` where no results speak of it."""
    newest: dict[str, Result] = {}
    for record in sorted(records, key=lambda record: record["written"]):
        newest |= {result["name"]: result for result in record["results"] if result.get("gate") is not None}
    return [newest.get(name) or Measurement.missing(name, "no results hold it").as_json() for name in GATES]


def tally(results: Iterable[Result]) -> str:
    """How many are of which verdict, in a line."""
    verdicts = [result["verdict"] for result in results]
    counts = [f"{verdicts.count(verdict)} {word}" for verdict, word in _WORDS.items()]
    return f"{len(verdicts)} gates: {', '.join(counts)}."


_WORDS = {OK: "reached", SHORT: "missed", NOT_MEASURED: "not measured"}
