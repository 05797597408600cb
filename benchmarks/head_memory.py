"""Memory of all processes that train a head of a million rows: `python -m benchmarks.head_memory --help`."""

import argparse
from typing import Any

import torch

from benchmarks.command_line import add_results, positive_int, run_program
from benchmarks.environment import restart_if_blas_is_forced
from benchmarks.head_report import memory_text
from benchmarks.page import print_pages, write_page
from benchmarks.process_memory import PeakMemory
from benchmarks.record import Record
from benchmarks.synthetic_tags import SyntheticTags
from hybrid.head import WideHead
from hybrid.trainer import Trainer
from hybrid.trunks import build_trunk
from launch.config import DataConfig, TrainConfig, TrunkConfig

NAME = "head_memory"
LIMIT_FACTOR, LIMIT_EXTRA_BYTES = 1.25, int(1.5 * 2**30)
"""The limit: so many times matrix and state, and so much beside for all processes."""
_EPOCHS = 1000.0


def main() -> None:
    """Train some steps with a real trunk, rank once; how much memory did that take?"""
    restart_if_blas_is_forced()
    options = _options()
    record = Record(NAME, "Memory of trunk and workers together, by kind", vars(options))
    record.add(measure(options))
    path = record.write(options.results)
    print_pages(path, write_page(path, memory_text))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The peak of memory from before the matrix is made to after an exact ranking."""
    train, size = TrainConfig(epochs=_EPOCHS), DataConfig().image_size
    tags = SyntheticTags(options.tags, seed=0)
    trunk = build_trunk(TrunkConfig(dim=options.dim), size)
    peak = PeakMemory()
    with WideHead(options.tags, options.dim, options.workers, tag_counts=tags.counts_N) as head:
        trainer = Trainer(trunk, head, train, num_items=train.batch_size)
        for _ in range(options.steps):
            _, batch = tags.batch(train.batch_size, options.dim, train.positives)
            trainer.step(torch.randn(train.batch_size, 3, size, size), batch)
        head.eval()
        head.topk(torch.randn(train.batch_size, options.dim, device=trainer.device), k=5)
        matrix = head.matrix
        rows_bytes, state_bytes = matrix.rows_ND.nbytes, matrix.tag_state_N4.nbytes
        limit_bytes = int(LIMIT_FACTOR * (rows_bytes + state_bytes)) + LIMIT_EXTRA_BYTES
        memory = peak.read()
        return {
            "num_tags": options.tags,
            "dim": options.dim,
            "workers": options.workers,
            "rows_bytes": rows_bytes,
            "state_bytes": state_bytes,
            "shared_bytes": matrix.nbytes,
            "huge_pages": matrix.huge_pages,
            "limit_bytes": limit_bytes,
            "memory_bytes": memory,
            "is_within_limit": memory["Pss"] <= limit_bytes,
        }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head_memory", description=__doc__)
    parser.add_argument("--tags", type=positive_int, default=1_000_000)
    parser.add_argument("--dim", type=positive_int, default=256)
    parser.add_argument("--workers", type=positive_int, default=2)
    parser.add_argument("--steps", type=positive_int, default=20)
    add_results(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_program(main)
