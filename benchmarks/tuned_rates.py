"""Which row learning rate each contender trains with, and how many tags it draws."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.curve_settings import DEFAULT_DRAWS, DRAWS, ROW_LR, default_run
from benchmarks.record import read_record

SEARCH_NAME = "row_lr_search"
"""Of the search's program; its files begin with it."""


NEAR = 0.03
"""Scores that differ by less are a tie, since a trial is one short training: of such rates the one nearest to `ROW_LR`,
where every search begins, is taken."""
Draws = tuple[int, int]
"""Positives of an example, negatives of a chunk."""


@dataclass(frozen=True, slots=True)
class TunedRate:
    """A row learning rate with what is drawn, and where the rate comes from."""

    row_lr: float
    draws: Draws
    origin: str
    """`searched`, `not searched at this size`, or `given`."""


def score(result: Mapping[str, Any]) -> float:
    """What the search maximises, on validation pictures: P@5, which frequent tags decide, plus mAP, of all tags.

    -inf for a training that failed.
    """
    final = result["final"]
    return -math.inf if final is None else final["P@5"] + (final["mAP"] or 0.0)  # None: of no tag


def search_files(folder: Path) -> list[Path]:
    """What searches wrote, the oldest first."""
    return sorted(folder.glob(f"{SEARCH_NAME}*.json"), key=lambda path: read_record(path)["started"])


def searched_rates(paths: Iterable[Path], *, device: str, max_items: int) -> dict[tuple[str, int], tuple[float, Draws]]:
    """The best rate, see `NEAR`, and draws by (kind, `max_tags`) on that device and so many items.

    Of several files the last one decides about what it searched for.

    Raises:
        DataError: a file is no record, or is missing.
    """
    rates: dict[tuple[str, int], tuple[float, Draws]] = {}
    for path in paths:
        rates |= best_rates(read_record(path), device, max_items)
    return rates


def best_rates(record: Mapping[str, Any], device: str, max_items: int) -> dict[tuple[str, int], tuple[float, Draws]]:
    """The same of one search that was read."""
    trials: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for result in record["results"]:
        key = result["settings"]["kind"], result["settings"]["max_tags"]
        found_on = result["settings"]["device"], result["settings"]["max_items"]
        if result["final"] is None or found_on != (device, max_items) or _draws_of(result) is None:
            continue
        trials.setdefault(key, []).append(result)
    return {key: _best_rate(of_key) for key, of_key in trials.items()}


def _best_rate(trials: Sequence[Mapping[str, Any]]) -> tuple[float, Draws]:
    best = max(trials, key=score)
    draws = _draws_of(best)
    assert draws is not None, "results without them were left out"
    start = ROW_LR[best["settings"]["kind"]]
    ties = [t["settings"]["row_lr"] for t in trials if _draws_of(t) == draws and score(t) > score(best) - NEAR]
    return min(ties, key=lambda rate: abs(math.log(rate / start))), draws


def _draws_of(result: Mapping[str, Any]) -> Draws | None:
    """What a trial drew; None if it is no guide to today's: an older search does not say it, or had other defaults."""
    settings, run_config = result["settings"], result["run_config"]
    if settings["kind"] in DRAWS:
        return (settings["positives"], settings["negatives"]) if "positives" in settings else None
    if settings["kind"] != "hybrid":
        return DEFAULT_DRAWS
    head, default = run_config["head"], default_run(settings["device"], run_config["train"]["batch_size"]).head
    is_todays = (head["negatives"], head["chunk_size"]) == (default.negatives, default.chunk_size)
    draws = run_config["train"]["positives"], head["negatives"]
    return draws if is_todays and draws[0] == DEFAULT_DRAWS[0] else None


def tuned_rate(
    kind: str, max_tags: int, given: float | None, searched: Mapping[tuple[str, int], tuple[float, Draws]]
) -> TunedRate:
    """The rate that was given, else the one that was searched for exactly this size, else `ROW_LR`.

    Draws are what the search found in any case, or else a run's default.
    """
    row_lr, draws = searched.get((kind, max_tags), (ROW_LR[kind], DEFAULT_DRAWS))
    if given is not None:
        return TunedRate(given, draws, "given")
    return TunedRate(row_lr, draws, "searched" if (kind, max_tags) in searched else "not searched at this size")
