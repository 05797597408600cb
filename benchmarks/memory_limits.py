"""How many tags each contender can hold, predicted and tried: `python -m benchmarks.memory_limits --help`."""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.command_line import add_results, positive_float, positive_int, run_program
from benchmarks.contender import RIVALS
from benchmarks.curve_settings import KINDS
from benchmarks.environment import clean, restart_if_blas_is_forced
from benchmarks.memory_model import NEEDS, StepShape, largest_num_tags, on_cards
from benchmarks.memory_report import TOLERANCE, report_text
from benchmarks.memory_trial import FITS, FULL, TrialSettings
from benchmarks.page import print_pages, write_page
from benchmarks.record import Record
from launch.trunk_threads import set_threads
from workers.errors import RunError
from workers.settings import to_plain

NAME = "memory_limits"
_TRIAL_LIMIT_S = 300
_DOWN, _UP = (0.9, 0.3, 0.1, 0.03, 0.01), (1.1, 3.0, 10.0, 30.0, 100.0)
"""Where a bisection looks for its ends, as factors of the prediction."""
_ENDED_BY_ALLOCATION = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
"""What becomes of C and C++ code whose allocation fails unchecked. Of rivals that is no fault; ours has to say so."""


def main() -> int:
    """Bisect for every contender, write JSON after each, then the table; 1 if a prediction is out of tolerance."""
    restart_if_blas_is_forced()
    options = _options()
    shape = StepShape(
        dim=options.dim,
        batch_size=options.batch_size,
        positives=options.tags_per_example,
        tags_per_example=options.tags_per_example,
    )
    record = Record(NAME, "The most tags that each contender can hold, predicted and tried", vars(options))
    for kind in options.contenders:
        record.add(measure(kind, shape, int(options.limit_gib * 2**30), options.step))
        path = record.write(options.results)
    print_pages(path, write_page(path, report_text))
    return int(any(abs(result["error"]) > TOLERANCE for result in record.content["results"]))


def measure(kind: str, shape: StepShape, limit_bytes: int, step: float) -> dict[str, Any]:
    """Prediction and finding of one contender."""
    predicted = largest_num_tags(kind, shape, limit_bytes, of=lambda need: need.total)
    trials: list[dict[str, Any]] = []

    def fits(num_tags: int) -> bool:
        outcome = run_trial_in_process(
            TrialSettings(kind=kind, num_tags=num_tags, shape=shape, limit_bytes=limit_bytes)
        )
        trials.append({"num_tags": num_tags, "outcome": outcome})
        print(f"{kind}, {num_tags:,} tags: {outcome}", file=sys.stderr, flush=True)
        return outcome == FITS

    low, high = bisect(fits, predicted, step)
    need = NEEDS[kind](predicted, shape)
    return {
        "contender": kind,
        "shape": to_plain(shape),
        "limit_bytes": limit_bytes,
        "predicted_num_tags": predicted,
        "predicted_bytes": to_plain(need),
        "fits_num_tags": low,
        "full_num_tags": high,
        "error": predicted / ((low + high) // 2) - 1,
        "on_cards": on_cards(kind),
        "samples": trials,
    }


def bisect(fits: Callable[[int], bool], guess: int, step: float) -> tuple[int, int]:
    """A number that fits and one that does not, at most `step` of the guess apart, or one.

    Begins 10% beside the guess, so that a good one needs few trials, and moves outwards while it must.

    Raises:
        RunError: nothing fits, or everything does, a hundred times away from the guess.
    """
    low, high = 0, 0
    for factor in _DOWN:
        num_tags = int(guess * factor)
        if num_tags and fits(num_tags):
            low = num_tags
            break
        high = num_tags
    for factor in _UP:
        if high or not low:
            break
        num_tags = int(guess * factor)
        low, high = (num_tags, 0) if fits(num_tags) else (low, num_tags)
    if not low or not high:
        raise RunError(f"{guess:,} tags were predicted; the truth is a hundred times away, or every trial ends alike")
    while high - low > max(1, step * guess):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low, high


def run_trial_in_process(settings: TrialSettings) -> str:
    """`FITS` or `FULL`, from a process with one thread and one arena, so that its address space holds little else.

    Raises:
        RunError: it failed for another reason than memory, the hybrid also by a signal, or took too long.
    """
    environment = clean(os.environ) | {"MALLOC_ARENA_MAX": "1"}
    set_threads(environment, 1)
    command = [sys.executable, "-m", "benchmarks.memory_trial", json.dumps(to_plain(settings))]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TRIAL_LIMIT_S)
    except subprocess.TimeoutExpired as e:
        raise RunError(f"the trial {settings} took longer than {_TRIAL_LIMIT_S} s; try a smaller --limit-gib") from e
    if done.returncode in _ENDED_BY_ALLOCATION and settings.kind in RIVALS:
        return FULL
    outcome = done.stdout.split()[-1:]
    if done.returncode or outcome not in ([FITS], [FULL]):
        raise RunError(f"the trial {settings} ended with {done.returncode}: {done.stderr[-2000:]}")
    return outcome[0]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_limits", description=__doc__)
    so_close = "bisect until so close, as a share of the prediction"
    parser.add_argument("--limit-gib", type=positive_float, default=2.0, help="address space beside a tiny layer's")
    parser.add_argument("--dim", type=positive_int, default=256)
    parser.add_argument("--batch-size", type=positive_int, default=32)
    parser.add_argument("--tags-per-example", type=positive_int, default=20)
    parser.add_argument("--step", type=positive_float, default=0.02, help=so_close)
    parser.add_argument("--contenders", nargs="+", default=list(KINDS), choices=KINDS)
    add_results(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_program(main)
