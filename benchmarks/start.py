"""How long a training takes to its first step, when kernels are cached: `python -m benchmarks.start --help`."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.environment import clean, restart_if_blas_is_forced
from benchmarks.first_step import BATCH
from benchmarks.gates import OK, SHORT
from benchmarks.markdown import markdown_table
from benchmarks.record import RESULTS, Record, read_record, surroundings
from benchmarks.spread import Spread, spread_of
from launch.config import default_num_workers
from workers.disk import write_whole
from workers.errors import RunError

NAME = "start"
JUDGED, WANTED_S = "first step", 5.0
"""The stage that has to have ended by then, in the median of the starts that count."""
_LIMIT_S = 300.0


def main() -> int:
    """Start again and again; the first time, which may compile, does not count. 1 if the first step comes too late."""
    restart_if_blas_is_forced()
    options = _options()
    title = f"From the birth of a process to its first step: {options.num_tags:,} tags, dim {options.dim}"
    record = Record(NAME, title, vars(options))
    for is_counted in [False, *[True] * options.rounds]:
        ended_s = start(options.num_tags, options.dim, options.workers)
        if is_counted:
            record.add({"ended_s": ended_s})
            path = record.write(options.results)
    table, written = path.with_suffix(".md"), read_record(path)
    write_whole(table, report_text(written))
    print(path, table, sep="\n")
    return int(verdict_on(seconds_to(JUDGED, written).median) == SHORT)


def start(num_tags: int, dim: int, workers: int) -> dict[str, float]:
    """Seconds from the birth of a process at which each stage of its start had ended.

    Raises:
        RunError: it failed, or took too long.
    """
    command = [sys.executable, "-m", "benchmarks.first_step", str(num_tags), str(dim), str(workers)]
    try:
        done = subprocess.run(
            command, cwd=RESULTS.parents[1], env=clean(os.environ), capture_output=True, text=True, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired as e:
        raise RunError(f"{' '.join(command[1:])} took more than {_LIMIT_S:.0f} s.") from e
    if done.returncode != 0:
        raise RunError(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def report_text(record: Mapping[str, Any]) -> str:
    """A row per stage: when it ended."""
    runs, rows = record["results"], []
    for stage in runs[0]["ended_s"]:
        spread = seconds_to(stage, record)
        judged = [f"≤ {WANTED_S:g}", verdict_on(spread.median)] if stage == JUDGED else ["", ""]
        rows.append([stage, f"{spread.median:.1f}", f"{spread.smallest:.1f} to {spread.largest:.1f}", *judged])
    table = markdown_table(["ended with", "s, median", "range", "wanted", "verdict"], rows)
    workers = record["settings"]["workers"]
    rule = f"{len(runs)} starts with {workers} workers after one that does not count; kernels come from their cache."
    return f"# {record['title']}\n\n{table}\n\n{rule}\n\n{surroundings(record)}\n\n`{record['command']}`\n"


def seconds_to(stage: str, record: Mapping[str, Any]) -> Spread:
    """How long starts took to the end of a stage."""
    return spread_of([result["ended_s"][stage] for result in record["results"]])


def verdict_on(seconds: float) -> str:
    """`OK` or `SHORT`, of the time to the first step."""
    return OK if seconds <= WANTED_S else SHORT


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--num-tags", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--workers", type=int, default=default_num_workers())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for JSON and table")
    options = parser.parse_args()
    if options.num_tags < BATCH or options.rounds < 1:
        parser.error(f"--num-tags must be at least {BATCH}, the examples of the step, and --rounds at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
