"""Suite: one worker to two, and to as many as cores allow, on one matrix; ten thousand tags to ten million."""

import os
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.contestant_process import LocalContestant, ProcessContestant
from benchmarks.engine_work import DIM, PRIVATE, make_matrix, work_on
from benchmarks.gates import PAIR
from benchmarks.id_streams import make_stream
from benchmarks.measurement import Floor, Measurement
from benchmarks.progress import Progress
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Contestant, Together
from workers.cores import available_cores
from workers.matrix import TagMatrix
from workers.settings import to_plain

TITLE = "More workers, more tags: private kernel with 20 negatives, 256 examples a chunk, D = 256, float32"
NUM_TAGS, HOT_ROWS, FIRST_MANY = 1_000_000, 100, 3
SIZES = {"10K": 10_000, "100K": 100_000, "1M": 1_000_000, "10M": 10_000_000}

_BARE = "both, bare rows"


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """The gates of two workers; without haste also more workers, and the gates of the sizes."""
    measured = two_workers(options, progress, hot_rows=None) + two_workers(options, progress, hot_rows=HOT_ROWS)
    return measured if options.is_quick else measured + many_workers(options, progress) + sizes(options, progress)


def two_workers(options: SuiteOptions, progress: Progress, *, hot_rows: int | None) -> list[Measurement]:
    """One worker alone, and both at once, in turns; each a process that stays."""
    name = "two_workers" if hot_rows is None else "two_workers_hot"
    if len(os.sched_getaffinity(0)) < 2:
        return [Measurement.missing(name, "this process may use one core only")]
    num_tags = options.tags(NUM_TAGS) if hot_rows is None else hot_rows
    progress.stage(f"two workers on {num_tags:,} tags")
    with ExitStack() as stack:
        matrix = stack.enter_context(closing(make_matrix(num_tags, PRIVATE, hot_rows=hot_rows)))
        workers = [stack.enter_context(worker_process(matrix, index, hot_rows)) for index in range(2)]
        contestants: dict[str, Contestant] = {"solo": workers[0], "both": Together(workers)}
        if hot_rows is None:  # rows that stay in the caches do not wait for memory
            bare = [stack.enter_context(_process("ceiling_contestant", matrix, index)) for index in range(2)]
            contestants[_BARE] = Together(bare)
        turns = options.take_turns(contestants, progress)
        facts = _facts(matrix) | {"stream": make_stream(num_tags, num_batches=1, hot_rows=hot_rows).description}
    alone = f"{PAIR} by one worker" + ("" if hot_rows is None else f", all on {hot_rows} rows")
    floor = Floor(_BARE, "two processes that rewrite bare rows") if hot_rows is None else None
    measured = [
        Measurement.ratio(name, turns, over="solo", under="both", facts=facts, floor=floor),
        Measurement.times(f"{name}_solo", turns, "solo", alone),
    ]
    if floor is not None:
        what = "reading and rewriting a row, two processes together"
        measured.append(Measurement.times(f"{name}_bare", turns, _BARE, what))
    return measured


def many_workers(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Several numbers of workers on one matrix, in turns; nothing on few cores."""
    numbers = worker_numbers(available_cores())
    if not numbers:
        return []
    progress.stage(f"{', '.join(map(str, numbers))} workers on {options.tags(NUM_TAGS):,} tags")
    with ExitStack() as stack:
        matrix = stack.enter_context(closing(make_matrix(options.tags(NUM_TAGS), PRIVATE)))
        workers = [stack.enter_context(worker_process(matrix, index)) for index in range(numbers[-1])]
        contestants = {str(number): Together(workers[:number]) for number in numbers}
        turns, facts = options.take_turns(contestants, progress), _facts(matrix)
    return [
        Measurement.ratio(
            f"workers_{n}_over_1", turns, "1", str(n), f"{n} workers: rate in pairs over 1 worker's", facts
        )
        for n in numbers[1:]
    ]


def worker_numbers(cores: int) -> list[int]:
    """1, 2, 4 and so on, and one worker for each core but that of a trunk; none where that would be no more than two.

    Example:
        >>> worker_numbers(16), worker_numbers(4), worker_numbers(3)
        ([1, 2, 4, 8, 15], [1, 2, 3], [])
    """
    powers = [1 << power for power in range(cores.bit_length()) if 1 << power < cores - 1]
    return [*powers, cores - 1] if cores - 1 >= FIRST_MANY else []


def worker_process(matrix: TagMatrix, index: int, hot_rows: int | None = None) -> ProcessContestant:
    """A worker process on a matrix of this one, without a wire."""
    return _process("engine_contestant", matrix, index, hot_rows=hot_rows)


def _process(module: str, matrix: TagMatrix, index: int, **others: Any) -> ProcessContestant:
    settings = {"fd": matrix.fd, "head": to_plain(PRIVATE), "index": index, **others}
    return ProcessContestant(f"benchmarks.{module}", settings, fds=[matrix.fd])


def sizes(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """The same step on matrices of several sizes, in turns."""
    missing, contestants, facts = [], {}, {}
    with ExitStack() as stack:
        for name, num_tags in SIZES.items():
            progress.stage(f"a matrix of {options.tags(num_tags):,} tags")
            try:
                matrix = stack.enter_context(closing(make_matrix(options.tags(num_tags), PRIVATE)))
            except MemoryError as error:
                missing.append(Measurement.missing(f"step_{name}", str(error), f"{PAIR} at {name} tags"))
                continue
            contestants[name] = LocalContestant(work_on(matrix).step)
            facts[name] = _facts(matrix)
        turns = options.take_turns(contestants, progress)
    measured = [Measurement.times(f"step_{name}", turns, name, f"{PAIR} at {name} tags") for name in contestants]
    pairs = {("step_1m_over_10k", "1M", "10K"): "", ("step_10m_over_1m", "10M", "1M"): "worker step at 10M: over 1M"}
    for (name, over, under), what in pairs.items():
        if {over, under} <= set(contestants):
            measured.append(Measurement.ratio(name, turns, over, under, what, facts))
    return measured + missing


def _facts(matrix: TagMatrix) -> dict[str, str]:
    return {"memory": f"{matrix.num_tags:,} tags x {DIM}, {matrix.huge_pages}"}
