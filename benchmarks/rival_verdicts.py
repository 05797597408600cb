"""Whether the hybrid is ahead of its rivals, level, or behind, after equal seconds of training."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import blas_of
from launch.config import TrainConfig, TrunkConfig

Result = Mapping[str, Any]
Elsewhere = Mapping[str, Sequence[Result]]
"""Name of another record -> its results, made under the same conditions."""
LEVEL = {"P@5": 0.03, "mAP": 0.015}
"""Differences up to this are level: about two standard deviations of the difference between two runs that differ in
nothing but seed and number of workers (`benchmarks.worker_quality`, which has all tags)."""
JUDGED = tuple(LEVEL)
SUITE = "gpu_only"
"""Names of records of this comparison begin so."""
_SAME_SETTINGS = ("seconds", "max_items", "device_found", "trunk", "batch_size")
_DEFAULTS = {"trunk": TrunkConfig().factory, "batch_size": TrainConfig().batch_size}
"""Of settings that older records do not have."""
_SAME_MACHINE = ("cpu", "cores", "gpu")
_SAME_TRAINING = ("num_tags", "num_train_items", "precision", "memory", "memory_tuning")
"""Of a result: sizes of its data, how its memory was measured and tuned; older ones do not say of the last two."""
_DATA = "data_fingerprint"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The hybrid and the best rival of one size by one measure, both at the end of the same budget."""

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


def verdicts(num_tags: int, results: Sequence[Result], elsewhere: Elsewhere | None = None) -> list[Verdict]:
    """One for each measure; none where one side is missing.

    Luck may favour the rivals alone: theirs is the best figure of many, ours a mean.

    Args:
        num_tags: the size.
        results: of that size, in the record that is judged.
        elsewhere: results of other records, of any size.
    """
    found = []
    for measure in JUDGED:
        ours, theirs = hybrid_mean(results, measure), best_rival(num_tags, results, measure, elsewhere or {})
        if ours and theirs:
            found.append(Verdict(num_tags, measure, ours, theirs))
    return found


def hybrid_mean(results: Sequence[Result], measure: str) -> tuple[str, float] | None:
    """Name and final value of the hybrid, averaged over all its numbers of workers and seeds."""
    hybrids = [result for result in results if is_hybrid(result)]
    return (mean_name(hybrids), statistics.mean(map(_final(measure), hybrids))) if hybrids else None


def mean_name(hybrids: Sequence[Result]) -> str:
    """What the mean of these is called."""
    workers = sorted({result["settings"]["workers"] for result in hybrids})
    if len(workers) == 1:
        return str(hybrids[0]["contender"])
    return f"hybrid, mean of {', '.join(map(str, workers[:-1]))} and {workers[-1]} workers"


def best_rival(
    num_tags: int, results: Sequence[Result], measure: str, elsewhere: Elsewhere
) -> tuple[str, float] | None:
    """Name and final value, averaged over seeds, of the best rival of one size in any record."""
    finals: dict[str, list[float]] = {}
    for suffix, others in [("", results), *((f", in a run of its own ({name})", r) for name, r in elsewhere.items())]:
        for result in others:
            if not is_hybrid(result) and result["num_tags"] == num_tags:
                finals.setdefault(f"{result['contender']}{suffix}", []).append(_final(measure)(result))
    means = {name: statistics.mean(values) for name, values in finals.items()}
    return max(means.items(), key=lambda item: item[1]) if means else None


def elsewhere_of(name: str, records: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Result]]:
    """Results of the other records of this comparison that were made under the conditions of record `name`.

    Budget and machine are the record's; data and tuning must be those of some result of record `name`.
    """
    conditions = _conditions(records[name])
    found: dict[str, list[Result]] = {}
    for other, record in records.items():
        if other.startswith(SUITE) and other != name and _conditions(record) == conditions:
            for result in record["results"]:
                if any(_are_alike(result, ours) for ours in records[name]["results"]):
                    found.setdefault(other, []).append(result)
    return found


def is_hybrid(result: Result) -> bool:
    """Whether it is ours."""
    return bool(result["settings"]["kind"] == "hybrid")


def _final(measure: str) -> Callable[[Result], float]:
    return lambda result: float(result["points"][-1][measure])


def _conditions(record: Mapping[str, Any]) -> list[Any]:
    settings, machine = record["settings"], record["machine"]
    return [
        *(settings.get(name, _DEFAULTS.get(name)) for name in _SAME_SETTINGS),
        *map(machine.get, _SAME_MACHINE),
        blas_of(record),
    ]


def _are_alike(one: Result, other: Result) -> bool:
    """Whether both trained and validated on the same data in the same way; fingerprints decide where both have one."""
    fingerprints = {result[_DATA] for result in (one, other) if _DATA in result}
    return _training(one) == _training(other) and len(fingerprints) < 2


def _training(result: Result) -> list[Any]:
    return [*map(result.get, _SAME_TRAINING), result["final"].get("items")]
