"""What `--negatives auto` buys at equal training time: `python -m benchmarks.auto_negatives --help`."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.auto_negatives_report import write_report
from benchmarks.command_line import add_results, count, positive_float, positive_int, run_program
from benchmarks.environment import clean, restart_if_blas_is_forced
from benchmarks.page import MEASURES, print_pages
from benchmarks.record import Record
from benchmarks.waiting_trunk import BACKWARD_S, FORWARD_S
from hybrid.metrics_log import read_metrics
from hybrid.rundir import open_run
from launch.config import TrainConfig
from workers.config import HeadConfig
from workers.errors import RunError

NAME = "auto_negatives"
AUTO = "auto"
"""Contenders whose number is steered begin with it."""
_ROOT = Path(__file__).resolve().parent.parent
_LIMIT_S, _LIMIT_PER_BUDGET = 1800.0, 3.0
_SERIES = ("used_s", "negatives", "loss", "wait_fraction", "examples_per_s", "shadow_ms", "worker_ms", "trunk_cores")


def main() -> None:
    """Train every contender with every seed, write JSON after each, then table and plot."""
    restart_if_blas_is_forced()
    options = _options()
    title = (
        f"Emoji at equal training time: cnn-small that waits {1000 * FORWARD_S:g} ms more in each forward pass and "
        f"{1000 * BACKWARD_S:g} ms in each backward pass of a micro-batch"
    )
    record = Record(NAME, title, vars(options))
    for seed in options.seeds:
        for negatives in contenders(options.negatives):
            record.add(trained(negatives, seed, options))
            path = record.write(options.results)
    print_pages(path, *write_report(path))


def contenders(numbers: list[int]) -> list[str]:
    """Those numbers; `auto`, which starts from the default as users have it; and from the smallest of the numbers.

    >>> contenders([64, 4096])
    ['64', '4096', 'auto', 'auto from 64']
    """
    return [*map(str, numbers), AUTO, f"{AUTO} from {min(numbers)}"]


def trained(negatives: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run of `hybrid train`, and what it left behind.

    Raises:
        RunError: the run failed, or took far longer than its budget.
    """
    with tempfile.TemporaryDirectory(prefix="hybrid-bench-") as folder:
        directory = Path(folder) / "run"
        command = _command(negatives, seed, options, directory)
        limit_s = _LIMIT_S + _LIMIT_PER_BUDGET * 60 * options.minutes
        try:
            subprocess.run(command, cwd=_ROOT, env=clean(os.environ), stdout=sys.stderr, check=True, timeout=limit_s)
        except subprocess.SubprocessError as e:
            raise RunError(f"the run with {negatives} negatives failed: {e}. Standard error above says why.") from e
        return {"negatives": negatives, "seed": seed, **measured(directory)}


def measured(directory: Path) -> dict[str, Any]:
    """Pace, and the measures on validation pictures; the test pictures are not for choosing settings."""
    run = open_run(directory)
    lines = [line for line in read_metrics(run.metrics_file) if line["kind"] == "train"]
    table = run.results()["valid"]
    return {
        "steps": lines[-1]["step"],
        "training_s": lines[-1]["used_s"],
        "examples": lines[-1]["step"] * TrainConfig().batch_size,
        "final": {name: table[name] for name in MEASURES},
        "popularity": {name: table["popularity"][name] for name in MEASURES},
        "samples": {name: [line.get(name) for line in lines] for name in _SERIES},
    }


def _command(negatives: str, seed: int, options: argparse.Namespace, directory: Path) -> list[str]:
    is_auto = negatives.startswith(AUTO)
    given: dict[str, object] = {
        "trunk": "benchmarks.waiting_trunk:waiting_cnn_small",
        "trunk-threads": 1,  # or else it would take two, and leave no core to the workers
        "negatives": AUTO if is_auto else negatives,
        "workers": options.workers,
        "minutes": options.minutes,
        "seed": seed,
        "max-tags": options.max_tags,
        "max-items": options.max_items,
        "run-dir": directory,
    }
    first = negatives.removeprefix(AUTO).removeprefix(" from ") if is_auto else ""
    settings = {"head.negatives": first, "train.max_negatives": options.max_negatives if is_auto else None}
    start = [text for name, value in settings.items() if value for text in ("--set", f"{name}={value}")]
    named = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-m", "launch", "train", *named, *start]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.auto_negatives", description=__doc__)
    fixed, a_core = [64, HeadConfig().negatives], "of each training; the trunk needs a core now and then"
    parser.add_argument("--minutes", type=positive_float, default=5.0, help="of each training")
    parser.add_argument("--seeds", type=count, nargs="+", default=[0, 1, 2])
    parser.add_argument("--negatives", type=positive_int, nargs="+", default=fixed, help="fixed numbers, beside auto")
    parser.add_argument("--max-negatives", type=positive_int, help="bound of auto; default: that of a run")
    parser.add_argument("--workers", type=positive_int, default=1, help=a_core)
    parser.add_argument("--max-tags", type=count, default=0, help="keep only so many of the most frequent tags; 0: all")
    parser.add_argument("--max-items", type=count, default=0, help="use only so many pictures; 0: all")
    add_results(parser, "JSON, table and plot")
    return parser.parse_args()


if __name__ == "__main__":
    run_program(main)
