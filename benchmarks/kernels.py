"""Suite: the kernels against the ceiling of memory, against each other, and against the loop that everybody writes."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.ceiling import Ceiling
from benchmarks.contestant_process import LocalContestant
from benchmarks.engine_work import PRIVATE, EngineWork, make_matrix
from benchmarks.gates import PAIR
from benchmarks.id_streams import BATCH, NEGATIVES, POSITIVES, IdStream, make_stream
from benchmarks.kernel_work import KernelWork
from benchmarks.measurement import Floor, Measurement
from benchmarks.one_pass import OnePass
from benchmarks.progress import Progress
from benchmarks.suite_options import SuiteOptions
from benchmarks.turns import Contestant, Turns
from workers.config import HeadConfig
from workers.matrix import TagMatrix

TITLE = "Kernels, one core: 256 examples a chunk, 5 Zipf(1.0) positives and 20 private Zipf(0.75) negatives each"
NUM_TAGS, MANY_TAGS = 1_000_000, 10_000_000
DIM, OTHER_DIMS = 256, (128, 300, 512)  # 300: its half is no multiple of a vector's 16
SGD = replace(PRIVATE, row_optimizer="sgd", row_lr=1e-3)
BFLOAT16 = replace(SGD, row_dtype="bfloat16")
PRIVATE_UPDATES = float(BATCH * (POSITIVES + NEGATIVES))
SHARED_64 = replace(SGD, private_negatives=False, negatives=64)
STARTS = 3
"""How often matrices and working memory are made anew: what they happen to lie on stays with each."""


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """One stage per dim; all that is compared takes its turns on matrices that live at the same time."""
    measured = at_main_dim(options, progress)
    if options.is_quick:
        return measured
    for dim in OTHER_DIMS:
        measured += against_ceiling(dim, options, progress)
    return measured + many_tags(options, progress)


class Stage:
    """Matrices and contestants that take turns; closes what it opened."""

    def __init__(self, options: SuiteOptions, progress: Progress) -> None:
        self.options, self.progress = options, progress
        self.contestants: dict[str, Contestant] = {}
        self.matrices: dict[str, TagMatrix] = {}
        self.bare: dict[str, Ceiling] = {}
        self._stack = ExitStack()

    def matrix(self, name: str, num_tags: int, config: HeadConfig, dim: int) -> tuple[TagMatrix, IdStream]:
        """A matrix with its stream."""
        self.progress.stage(f"{name}: {num_tags:,} tags, dim {dim}, {config.row_dtype}")
        matrix = self._stack.enter_context(closing(make_matrix(num_tags, config, dim=dim)))
        self.matrices[name] = matrix
        return matrix, make_stream(num_tags, batch=config.chunk_size)

    def kernel(self, name: str, matrix: TagMatrix, config: HeadConfig, stream: IdStream) -> None:
        """The compiled kernel alone, on chunks that are drawn, checked and planned in advance."""
        self._add(name, KernelWork(matrix, config, stream).step)

    def step(self, name: str, matrix: TagMatrix, config: HeadConfig, stream: IdStream) -> None:
        """A worker's whole step: checks, draws, plan, kernel. Its units are the updates of a private step, whatever
        it draws itself, so that two of them compare by the time of a chunk."""
        self._add(name, EngineWork(matrix, config, stream, updates=PRIVATE_UPDATES).step)

    def ceiling(self, name: str, matrix: TagMatrix, stream: IdStream) -> None:
        """The bare rewriting of the same rows."""
        rows_NS = matrix.rows_NS
        self.bare[name] = Ceiling(rows_NS if rows_NS.dtype == np.float32 else rows_NS.view(np.uint16), stream.batches)
        self._add(name, self.bare[name].step)

    def one_pass(self, matrix: TagMatrix, stream: IdStream) -> None:
        """The plain loop."""
        self._add("one pass", OnePass(matrix.rows_NS, stream.batches).step)

    def _add(self, name: str, step: Callable[[], float]) -> None:
        step()  # compiled before the first turn
        self.contestants[name] = LocalContestant(step)

    def turns(self) -> Turns:
        """Let all take turns, for this start's part of the rounds."""
        runs_more = {"step": "kernel"} if {"step", "kernel"} <= set(self.contestants) else {}
        return self.options.take_turns(self.contestants, self.progress, starts=STARTS, runs_more=runs_more)

    @property
    def facts(self) -> dict[str, Any]:
        """What a result should say of its circumstances."""
        pages = {f"memory of {name}": matrix.huge_pages for name, matrix in self.matrices.items()}
        return pages | {name: bare.program for name, bare in self.bare.items()} | {"starts": STARTS}

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self.contestants.clear()
        self._stack.close()


def take_turns_on(
    fill: Callable[[Stage], None], options: SuiteOptions, progress: Progress
) -> tuple[Turns, dict[str, Any]]:
    """The rounds of several stages that are filled alike, one after the other, and the circumstances of the last."""
    parts, facts = [], {}
    for _ in range(STARTS):
        with Stage(options, progress) as stage:
            fill(stage)
            parts.append(stage.turns())
            facts = stage.facts
    return Turns.joined(parts), facts


def at_main_dim(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Everything that is compared at D = 256."""
    num_tags, nbytes = options.tags(NUM_TAGS), {}

    def fill(stage: Stage) -> None:
        matrix, stream = stage.matrix("float32", num_tags, SGD, DIM)
        rounded, _ = stage.matrix("bfloat16", num_tags, BFLOAT16, DIM)
        stage.ceiling("ceiling", matrix, stream)
        stage.kernel("kernel", matrix, SGD, stream)
        stage.kernel("kernel, Adagrad", matrix, PRIVATE, stream)
        stage.kernel("kernel, bfloat16", rounded, BFLOAT16, stream)
        stage.step("step", matrix, SGD, stream)
        stage.step("step, 64 shared", matrix, SHARED_64, stream)
        stage.one_pass(matrix, stream)
        nbytes.update({name: matrix.rows_NS.nbytes for name, matrix in stage.matrices.items()})

    turns, facts = take_turns_on(fill, options, progress)
    times = {
        "ceiling": "reading and rewriting a row",
        "kernel": f"{PAIR}, private kernel, SGD",
        "kernel, Adagrad": "the same, row-wise Adagrad",
        "kernel, bfloat16": "the same, SGD, bfloat16 rows",
        "step": "the same, SGD, whole worker step",
        "one pass": "the same, plain loop, draws and masks left out",
    }
    ratio = partial(Measurement.ratio, turns=turns, facts=facts)
    return [
        ratio("ceiling_share_256", over="ceiling", under="kernel"),
        ratio("step_over_kernel", over="step", under="kernel"),
        ratio(
            "step_over_one_pass",
            over="one pass",
            under="step",
            floor=Floor("ceiling", "rewriting the row of every pair"),
        ),
        ratio("adagrad_over_sgd", over="kernel, Adagrad", under="kernel"),
        ratio("bfloat16_rate", over="kernel", under="kernel, bfloat16"),
        Measurement.value("bfloat16_memory", nbytes["bfloat16"] / nbytes["float32"], "x"),
        ratio("shared_64_over_private_20", over="step, 64 shared", under="step"),
        *(Measurement.times(f"{name} at 256", turns, name, what) for name, what in times.items()),
    ]


def against_ceiling(dim: int, options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """The private kernel at another dim."""

    def fill(stage: Stage) -> None:
        matrix, stream = stage.matrix("float32", options.tags(NUM_TAGS), SGD, dim)
        stage.ceiling("ceiling", matrix, stream)
        stage.kernel("kernel", matrix, SGD, stream)

    turns, facts = take_turns_on(fill, options, progress)
    what = f"private kernel, D = {dim}: rate in pairs over the ceiling's"
    return [
        Measurement.ratio(f"ceiling_share_{dim}", turns, over="ceiling", under="kernel", what=what, facts=facts),
        Measurement.times(f"ceiling at {dim}", turns, "ceiling", f"reading and rewriting a row, D = {dim}"),
        Measurement.times(f"kernel at {dim}", turns, "kernel", f"{PAIR}, private kernel, SGD, D = {dim}"),
    ]


def many_tags(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """Ten million bfloat16 rows against a million, and what as many more cost the bare rewriting of them."""

    def fill(stage: Stage) -> None:
        for name, num_tags in (("1M", NUM_TAGS), ("10M", MANY_TAGS)):
            matrix, stream = stage.matrix(name, options.tags(num_tags), BFLOAT16, DIM)
            stage.kernel(name, matrix, BFLOAT16, stream)
            stage.ceiling(f"ceiling, {name}", matrix, stream)

    try:
        turns, facts = take_turns_on(fill, options, progress)
    except MemoryError as error:
        return [Measurement.missing("bfloat16_10m_over_1m", str(error))]
    bare = "10M bfloat16 rows, rewriting a bare row: time over that of 1M"
    return [
        Measurement.ratio("bfloat16_10m_over_1m", turns, over="10M", under="1M", facts=facts),
        Measurement.ratio("ceiling_10m_over_1m", turns, over="ceiling, 10M", under="ceiling, 1M", what=bare),
    ]
