"""Quality with 1, 2 and 4 workers after the same number of examples: `python -m benchmarks.worker_quality --help`."""

import argparse
import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.command_line import add_results, count, positive_float, positive_int, run_program
from benchmarks.curve_process import check_curves, run_in_process
from benchmarks.curve_settings import ROW_LR, CurveSettings
from benchmarks.environment import restart_if_blas_is_forced
from benchmarks.markdown import markdown_table
from benchmarks.page import MEASURES, page_text, print_pages, write_page
from benchmarks.record import Record
from hybrid.device import choose_device
from launch.config import DEVICES

NAME = "worker_quality"


def main() -> None:
    """Train every number of workers with every seed, write JSON after each, then the table."""
    restart_if_blas_is_forced()
    options = _options()
    record = Record(NAME, "Quality by number of workers, after the same number of examples", vars(options))
    curves = [
        CurveSettings(
            kind="hybrid",
            workers=workers,
            seed=seed,
            epochs=options.epochs,
            max_tags=options.max_tags,
            max_items=options.max_items,
            row_lr=options.row_lr,
            measurements=1,
            device=choose_device(options.device).type,
        )
        for seed in options.seeds
        for workers in options.workers
    ]
    check_curves(curves)
    for curve in curves:
        record.add(run_in_process(curve))
        path = record.write(options.results)
    print_pages(path, write_page(path, report_text))


def report_text(record: Mapping[str, Any]) -> str:
    """Means over seeds by number of workers, and how far apart they are."""
    rows, means = [], []
    for workers in sorted({result["settings"]["workers"] for result in record["results"]}):
        results = [result for result in record["results"] if result["settings"]["workers"] == workers]
        finals = {name: [result["final"][name] for result in results] for name in MEASURES}
        cells = [_spread(values) for values in finals.values()]
        rate = statistics.median(result["examples_per_s"] for result in results)
        rows.append([str(workers), *cells, f"{rate:,.0f}"])
        means.append(statistics.mean(finals["P@5"]))
    table = markdown_table(["workers", *MEASURES, "examples/s"], rows)
    seeds = len({result["settings"]["seed"] for result in record["results"]})
    text = (
        f"Validation pictures; mean over {seeds} seeds (smallest to largest). Largest difference between mean P@5: "
        f"{100 * (max(means) - min(means)):.2f} points."
    )
    return page_text(record, table, text)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker_quality", description=__doc__)
    parser.add_argument("--epochs", type=positive_float, default=6.0, help="of each training")
    parser.add_argument("--workers", type=positive_int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=count, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-tags", type=count, default=0, help="keep only so many of the most frequent tags; 0: all")
    parser.add_argument("--max-items", type=count, default=0, help="use only so many pictures; 0: all")
    parser.add_argument("--row-lr", type=positive_float, default=ROW_LR["hybrid"])
    parser.add_argument("--device", default="auto", choices=DEVICES)
    add_results(parser)
    return parser.parse_args()


if __name__ == "__main__":
    run_program(main)
