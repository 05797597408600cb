"""Time of the wide head per step as the number of tags grows: `python -m benchmarks.head_scaling --help`."""

import argparse
import statistics
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.command_line import add_results, positive_int, run_program
from benchmarks.environment import restart_if_blas_is_forced
from benchmarks.head_report import scaling_text
from benchmarks.page import print_pages, write_page
from benchmarks.record import Record
from benchmarks.synthetic_tags import SyntheticTags
from hybrid.head import WideHead
from hybrid.head_tickets import COLLECT_TIMEOUT_S
from launch.config import TrainConfig

NAME = "head_scaling"
_NUM_BATCHES = 32
"""Made in advance and used in turn, so that making them is not timed."""
_NS_PER_MS = 1e6


class TimedHead:
    """A head of one size with workers of its own."""

    def __init__(self, num_tags: int, options: argparse.Namespace) -> None:
        positives = TrainConfig().positives
        tags = SyntheticTags(num_tags, seed=0)
        self.num_tags = num_tags
        self.head = WideHead(num_tags, options.dim, options.workers, tag_counts=tags.counts_N, positives=positives)
        self._batches = [tags.batch(options.batch_size, options.dim, positives) for _ in range(_NUM_BATCHES)]

    def step(self) -> tuple[float, float]:
        """Milliseconds from shipping a batch to having its gradient, and those that workers computed, summed."""
        features_BD, batch = self._batches[self.head.step % _NUM_BATCHES]
        start_s = time.perf_counter()
        ticket = self.head.submit(features_BD, batch, update=True)
        replies = self.head.router.collect(ticket, COLLECT_TIMEOUT_S)
        step_ms = 1000 * (time.perf_counter() - start_s)
        self.head.step += 1
        return step_ms, sum(reply.draw_ns + reply.kernel_ns for reply in replies) / _NS_PER_MS


def main() -> None:
    """Time all sizes round by round, write JSON and table."""
    restart_if_blas_is_forced()
    options = _options()
    record = Record(NAME, "Time of the wide head per step, without a trunk, by number of tags", vars(options))
    for result in measure(options):
        record.add(result)
    path = record.write(options.results)
    print_pages(path, write_page(path, scaling_text))


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rounds in which every size has its turn, so that a drift of the machine hits all sizes alike."""
    with ExitStack() as stack:
        heads = [TimedHead(num_tags, options) for num_tags in options.sizes]
        for timed in heads:
            stack.enter_context(timed.head)
        rounds: list[list[list[tuple[float, float]]]] = []
        for _ in range(1 + options.rounds):  # the first one warms up
            rounds.append([[timed.step() for _ in range(options.steps)] for timed in heads])
        return [_result(timed, [by_size[i] for by_size in rounds[1:]]) for i, timed in enumerate(heads)]


def _result(timed: TimedHead, rounds: list[list[tuple[float, float]]]) -> dict[str, Any]:
    step_ms = [[step for step, _ in steps] for steps in rounds]
    kernel_ms = [[kernel for _, kernel in steps] for steps in rounds]
    return {
        "num_tags": timed.num_tags,
        "head_config": {"negatives": timed.head.config.negatives, "chunk_size": timed.head.config.chunk_size},
        "huge_pages": timed.head.matrix.huge_pages,
        "round_step_ms": [statistics.median(steps) for steps in step_ms],
        "round_kernel_ms": [statistics.median(steps) for steps in kernel_ms],
        "samples": {
            "step_ms": [[round(ms, 4) for ms in steps] for steps in step_ms],
            "kernel_ms": [[round(ms, 4) for ms in steps] for steps in kernel_ms],
        },
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head_scaling", description=__doc__)
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument("--sizes", type=positive_int, nargs="+", default=sizes, help="numbers of tags")
    parser.add_argument("--dim", type=positive_int, default=256)
    parser.add_argument("--workers", type=positive_int, default=2, help="worker processes for each size")
    parser.add_argument("--batch-size", type=positive_int, default=TrainConfig().batch_size)
    parser.add_argument("--rounds", type=positive_int, default=11)
    parser.add_argument("--steps", type=positive_int, default=40, help="steps of each size per round")
    add_results(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_program(main)
