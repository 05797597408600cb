"""How long a training takes to its first step, when kernels are cached: `python -m benchmarks.start --help`."""

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.command_line import add_results, positive_int, run_program
from benchmarks.environment import clean, restart_if_blas_is_forced
from benchmarks.first_step import BATCH
from benchmarks.gates import OK, SHORT
from benchmarks.many_tags import write_folder
from benchmarks.markdown import markdown_table
from benchmarks.page import page_text, print_pages, write_page
from benchmarks.record import RESULTS, Record, read_record
from benchmarks.spread import Spread, spread_of
from workers.default_workers import default_num_workers
from workers.errors import RunError

NAME = "start"
LOOP, RUN = "a loop with WideHead", "hybrid train"
WANTED_S = 5.0
"""Until the last stage, the first step, in the median of the starts that count."""
_LIMIT_S = 300.0
_PAUSE_S = 0.5
_KNOWN = re.compile(r"training images, (?P<tags>[\d,]+) tags")
_TOLD = re.compile(r"first step after [\d.]+ s \((?P<stages>.*)\)")


def main() -> int:
    """Start again and again; the first time, which may compile, does not count. 1 if a first step comes too late."""
    restart_if_blas_is_forced()
    options = _options()
    title = f"From the birth of a process to its first step: {options.num_tags:,} tags, dim {options.dim}"
    record = Record(NAME, title, vars(options))
    with tempfile.TemporaryDirectory(prefix="hybrid-bench-") as scratch:
        folder = Path(scratch)
        write_folder(folder / "pictures", options.num_tags)
        for is_counted in [False, *[True] * options.rounds]:
            ended = {
                LOOP: start_loop(options.num_tags, options.dim, options.workers),
                RUN: start_run(folder, options.num_tags, options.dim, options.workers),
            }
            for form, ended_s in ended.items() if is_counted else ():
                record.add({"form": form, "ended_s": ended_s})
                path = record.write(options.results)
    print_pages(path, write_page(path, report_text))
    written = read_record(path)
    return int(any(verdict_on(first_step_s(form, written).median) == SHORT for form in (LOOP, RUN)))


def start_loop(num_tags: int, dim: int, workers: int) -> dict[str, float]:
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


def start_run(folder: Path, num_tags: int, dim: int, workers: int) -> dict[str, float]:
    """The same of a fresh run on `folder/pictures`, as its launcher tells it; then the run is ended.

    What it caches is in `folder`, too.

    Raises:
        RunError: it ended before its first step, took too long, or knows another number of tags.
    """
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        options = {
            "data": f"folder:{folder / 'pictures'}",
            "max-tags": num_tags,
            "dim": dim,
            "workers": workers,
            "minutes": 2 * _LIMIT_S / 60,
            "run-dir": Path(runs) / "run",
        }
        named = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "launch", "train", *named]
        process = subprocess.Popen(
            command,
            cwd=RESULTS.parents[1],
            env=clean(os.environ) | {"HYBRID_CACHE": str(folder / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        limit = threading.Timer(_LIMIT_S, process.kill)
        limit.start()
        with process:
            try:
                return _told_by(process, num_tags, command)
            finally:
                limit.cancel()


def _told_by(process: "subprocess.Popen[str]", num_tags: int, command: list[str]) -> dict[str, float]:
    assert process.stdout is not None, "it is a pipe"
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if (known := _KNOWN.search(line)) and int(known["tags"].replace(",", "")) != num_tags:
            process.kill()
            raise RunError(f"{' '.join(command[1:])} knows {known['tags']} tags, not {num_tags:,}.")
        if told := _TOLD.search(line):
            _end(process)
            return stages_of(told["stages"])
    raise RunError(f"{' '.join(command[1:])} ended with {process.wait()}:\n{''.join(lines)}")


def _end(process: "subprocess.Popen[str]") -> None:
    """Interrupt a launcher twice: then it has killed all its processes when it ends."""
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(_PAUSE_S)


def stages_of(text: str) -> dict[str, float]:
    """When each stage had ended, of the seconds that each took.

    >>> stages_of("launcher 0.5, data 1.0, trunk and workers 2.0")
    {'launcher': 0.5, 'data': 1.5, 'trunk and workers': 3.5}
    """
    stages = [stage.rpartition(" ") for stage in text.split(", ")]
    ended_s = itertools.accumulate(float(seconds) for _, _, seconds in stages)
    return {name: round(end, 3) for (name, _, _), end in zip(stages, ended_s, strict=True)}


def report_text(record: Mapping[str, Any]) -> str:
    """A row per stage of each form: when it ended."""
    rows = []
    for form in (LOOP, RUN):
        *stages, last = _ended_s(form, record)[0]
        for stage in (*stages, last):
            spread = spread_of([ended_s[stage] for ended_s in _ended_s(form, record)])
            judged = [f"≤ {WANTED_S:g}", verdict_on(spread.median)] if stage == last else ["", ""]
            times = [f"{spread.median:.1f}", f"{spread.smallest:.1f} to {spread.largest:.1f}"]
            rows.append([form if stage == (stages or [last])[0] else "", stage, *times, *judged])
    table = markdown_table(["", "ended with", "s, median", "range", "wanted", "verdict"], rows)
    workers, num_starts = record["settings"]["workers"], len(_ended_s(RUN, record))
    rule = (
        f"{num_starts} starts of each with {workers} workers after one that does not count; kernels come from their "
        "cache, and so do data."
    )
    return page_text(record, table, rule)


def first_step_s(form: str, record: Mapping[str, Any]) -> Spread:
    """How long starts took to the end of their last stage."""
    return spread_of([list(ended_s.values())[-1] for ended_s in _ended_s(form, record)])


def verdict_on(seconds: float) -> str:
    """`OK` or `SHORT`, of the time to the first step."""
    return OK if seconds <= WANTED_S else SHORT


def _ended_s(form: str, record: Mapping[str, Any]) -> list[dict[str, float]]:
    return [result["ended_s"] for result in record["results"] if result["form"] == form]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--num-tags", type=positive_int, default=1_000_000)
    parser.add_argument("--dim", type=positive_int, default=256)
    parser.add_argument("--workers", type=positive_int, default=default_num_workers())
    parser.add_argument("--rounds", type=positive_int, default=9)
    add_results(parser)
    options = parser.parse_args()
    if options.num_tags < BATCH:
        parser.error(f"--num-tags must be at least {BATCH}, the examples of the step")
    return options


if __name__ == "__main__":
    run_program(main)
