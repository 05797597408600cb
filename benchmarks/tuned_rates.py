"""Which row learning rate each contender trains with."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.curve_settings import ROW_LR
from benchmarks.record import read_record

SEARCH_NAME = "row_lr_search"
"""Of the search's program; its files begin with it."""


@dataclass(frozen=True, slots=True)
class TunedRate:
    """A row learning rate, and where it comes from."""

    row_lr: float
    origin: str
    """`searched`, `not searched at this size`, or `given`."""


def score(result: Mapping[str, Any]) -> float:
    """What the search maximises, on validation pictures: P@5, which frequent tags decide, plus mAP, of all tags.

    -inf for a training that failed.
    """
    final = result["final"]
    return -math.inf if final is None else final["P@5"] + final["mAP"]


def search_files(folder: Path) -> list[Path]:
    """What searches wrote, the oldest first."""
    return sorted(folder.glob(f"{SEARCH_NAME}*.json"), key=lambda path: read_record(path)["started"])


def searched_rates(paths: Iterable[Path], *, device: str, max_items: int) -> dict[tuple[str, int], float]:
    """The best rate by (kind, `max_tags`) on that device and so many items; of several files the last one's.

    Raises:
        DataError: a file is no record, or is missing.
    """
    rates: dict[tuple[str, int], float] = {}
    for path in paths:
        rates |= _best_rates(read_record(path), device, max_items)
    return rates


def _best_rates(record: Mapping[str, Any], device: str, max_items: int) -> dict[tuple[str, int], float]:
    best: dict[tuple[str, int], Mapping[str, Any]] = {}
    for result in record["results"]:
        key = result["settings"]["kind"], result["settings"]["max_tags"]
        found_on = result["settings"]["device"], result["settings"]["max_items"]
        if result["final"] is None or found_on != (device, max_items):
            continue
        if key not in best or score(result) > score(best[key]):
            best[key] = result
    return {key: result["settings"]["row_lr"] for key, result in best.items()}


def tuned_rate(kind: str, max_tags: int, given: float | None, searched: Mapping[tuple[str, int], float]) -> TunedRate:
    """The rate that was given, else the one that was searched for exactly this size, else `ROW_LR`."""
    if given is not None:
        return TunedRate(given, "given")
    if (kind, max_tags) in searched:
        return TunedRate(searched[kind, max_tags], "searched")
    return TunedRate(ROW_LR[kind], "not searched at this size")
