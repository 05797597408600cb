"""The best row learning rate of every contender, by the same procedure: `python -m benchmarks.row_lr_search --help`.

A contender that may choose how many tags it draws is searched once for each of its choices.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.command_line import add_results, count, positive_float, run_program
from benchmarks.curve_process import run_in_process
from benchmarks.curve_settings import ALL_KINDS, DEFAULT_DRAWS, DRAWS, KINDS, ROW_LR, CurveSettings, default_run
from benchmarks.environment import restart_if_blas_is_forced
from benchmarks.finished_curves import FinishedCurves
from benchmarks.markdown import markdown_table
from benchmarks.page import page_text, print_pages, write_page
from benchmarks.record import Record
from benchmarks.tuned_rates import NEAR, SEARCH_NAME, score
from hybrid.device import choose_device
from launch.config import DEVICES
from workers.errors import RunError
from workers.settings import to_plain

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def main() -> None:
    """Search for every contender on every size, write JSON after each trial, then the table."""
    restart_if_blas_is_forced()
    options = _options()
    record = Record(options.name, "Validation P@5 / mAP by row learning rate, the same search for all", vars(options))
    path = options.results / f"{options.name}.json"
    base = CurveSettings(
        kind="dense",
        max_items=options.max_items,
        seconds=options.seconds,
        measurements=1,
        device=choose_device(options.device).type,
    )
    finished = FinishedCurves(record, path, lambda curve: _is_trial(curve, base)) if options.is_continued else None
    for max_tags, kind in itertools.product(options.tags, options.contenders):
        workers = default_run(base.device, base.batch_size).workers if kind == "hybrid" else 0
        start = ROW_LR[kind]
        for positives, negatives in DRAWS.get(kind, (DEFAULT_DRAWS,)):
            curve = replace(
                base, kind=kind, workers=workers, max_tags=max_tags, positives=positives, negatives=negatives
            )
            if kind == "hybrid":
                curve = curve.with_chunks_of_a_run()
            best = search(Trials(curve, record, options.results, finished).score_of, start)
            found = "every trial failed" if best is None else f"{best:g}"
            print(f"{max_tags or 'all'} tags, {curve.name}: {found}", flush=True)
            start = best or start
    print_pages(path, write_page(path, report_text))


class Trials:
    """Trainings of one contender on one size that differ in the row learning rate; each is recorded at once.

    Args:
        curve: what they have in common.
        record: takes the results.
        folder: of the record's file.
        finished: results of an earlier start that need no repetition.
    """

    def __init__(self, curve: CurveSettings, record: Record, folder: Path, finished: FinishedCurves | None) -> None:
        self._curve, self._record, self._folder, self._finished = curve, record, folder, finished

    def score_of(self, row_lr: float) -> float:
        """The score after training with that rate; -inf if the training failed, as one that diverges does."""
        curve = replace(self._curve, row_lr=row_lr)
        result = self._finished.get(curve) if self._finished else None
        if result is None:
            try:
                result = run_in_process(curve)
            except RunError as e:
                result = {"contender": curve.name, "settings": to_plain(curve), "final": None, "error": str(e)}
            self._record.add(result)
            self._record.write(self._folder)
        return score(result)


def search(trial: Callable[[float], float], start: float) -> float | None:
    """The rate of `RATES` whose neighbours both score less: climbs from `start`, at least 3 trials unless at an end.

    None where the trials around `start` have all failed.
    """
    scores: dict[float, float] = {}
    at = RATES.index(start)
    while True:
        for i in range(max(at - 1, 0), min(at + 2, len(RATES))):
            if RATES[i] not in scores:
                scores[RATES[i]] = trial(RATES[i])
        best = max(scores, key=lambda rate: scores[rate])
        if scores[best] == -math.inf:
            return None
        if RATES[at] == best:
            return best
        at = RATES.index(best)


def _is_trial(curve: CurveSettings, base: CurveSettings) -> bool:
    """Whether a curve differs from `base` in nothing but what is searched over."""
    varied = ("kind", "workers", "max_tags", "row_lr", "positives", "negatives", "chunk_size")
    return curve == replace(base, **{name: getattr(curve, name) for name in varied})


def report_text(record: Mapping[str, Any]) -> str:
    """A row per contender and size, a column per rate, the best one in bold."""
    by_row: dict[tuple[int, str], dict[float, Mapping[str, Any]]] = {}
    for result in record["results"]:
        row = result["settings"].get("max_tags", 0), result["contender"]
        by_row.setdefault(row, {})[result["settings"]["row_lr"]] = result
    rates = sorted({rate for trials in by_row.values() for rate in trials})
    rows = []
    for (max_tags, contender), trials in by_row.items():
        best = max(score(trial) for trial in trials.values())
        size = f"{max_tags:,} tags" if max_tags else "all tags"
        rows.append([f"{size}, {contender}", *(_cell(trials.get(rate), best) for rate in rates)])
    table = markdown_table(["", *(f"{rate:g}" for rate in rates)], rows)
    rule = (
        f"Best: the largest P@5 + mAP (bold) after {record['settings']['seconds']:g} s; each search climbs until both "
        f"neighbours of a rate are worse. Trainings take, of rates within {NEAR:g} of the best, the one nearest to "
        "where the search begins."
    )
    return page_text(record, table, rule)


def _cell(trial: Mapping[str, Any] | None, best: float) -> str:
    if trial is None:
        return ""
    if trial["final"] is None:
        return "failed"
    shown = f"{trial['final']['P@5']:.3f} / {trial['final']['mAP'] or 0.0:.3f}"
    return f"**{shown}**" if score(trial) == best else shown


def _name(text: str) -> str:
    if not text.startswith(SEARCH_NAME):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with {SEARCH_NAME}, so nobody would find the rates.")
    return text


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.row_lr_search", description=__doc__)
    parser.add_argument(
        "--tags", type=count, nargs="+", default=[10_000, 100_000, 0], help="sizes of vocabulary; 0: all"
    )
    parser.add_argument("--contenders", nargs="+", default=list(KINDS), choices=ALL_KINDS)
    parser.add_argument(
        "--seconds", type=positive_float, default=40.0, help="training time of each trial (40: about an hour)"
    )
    parser.add_argument("--max-items", type=count, default=0, help="use only so many pictures; 0: all")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument(
        "--continue", dest="is_continued", action="store_true", help="keep the trials that an earlier start finished"
    )
    parser.add_argument("--name", type=_name, default=SEARCH_NAME, help="of the files; another keeps an earlier search")
    add_results(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_program(main)
