"""Row learning rates tried alike for the hybrid and its rivals: `python -m benchmarks.row_lr_search --help`."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.curve_process import run_in_process
from benchmarks.curve_settings import KINDS, CurveSettings
from benchmarks.environment import restart_if_blas_is_forced
from benchmarks.markdown import markdown_table
from benchmarks.record import RESULTS, Record, read_record, surroundings
from hybrid.device import choose_device
from hybrid.whole_file import write_whole
from launch.config import DEVICES, default_num_workers

NAME = "row_lr_search"


def main() -> None:
    """Train every contender with every rate on every size, write JSON after each, then the table."""
    restart_if_blas_is_forced()
    options = _options()
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    record = Record(NAME, "Validation P@5 / mAP by row learning rate, the same trials for all contenders", settings)
    for max_tags in options.tags:
        for row_lr in options.rates:
            for kind in KINDS:
                curve = CurveSettings(
                    kind=kind,
                    workers=default_num_workers() if kind == "hybrid" else 0,
                    max_tags=max_tags,
                    max_items=options.max_items,
                    seconds=options.seconds,
                    row_lr=row_lr,
                    measurements=1,
                    device=choose_device(options.device).type,
                )
                record.add(run_in_process(curve))
                path = record.write(options.results)
    table = path.with_suffix(".md")
    write_whole(table, report_text(read_record(path)))
    print(path, table, sep="\n")


def report_text(record: Mapping[str, Any]) -> str:
    """A row per contender and size, a column per rate."""
    results = record["results"]
    rates = sorted({result["settings"]["row_lr"] for result in results})
    found = {(r["num_tags"], r["contender"], r["settings"]["row_lr"]): r["final"] for r in results}
    rows = []
    for num_tags, contender in dict.fromkeys((result["num_tags"], result["contender"]) for result in results):
        finals = [found.get((num_tags, contender, rate)) for rate in rates]
        cells = [f"{final['P@5']:.3f} / {final['mAP']:.3f}" if final else "" for final in finals]
        rows.append([f"{num_tags:,} tags, {contender}", *cells])
    table = markdown_table(["", *(f"{rate:g}" for rate in rates)], rows)
    return f"# {record['title']}\n\n{table}\n\n{surroundings(record)}\n\n`{record['command']}`\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.row_lr_search", description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.003, 0.01, 0.03, 0.1])
    parser.add_argument("--tags", type=int, nargs="+", default=[10_000, 0], help="sizes of vocabulary; 0: all")
    parser.add_argument("--seconds", type=float, default=50.0, help="training time of each trial")
    parser.add_argument("--max-items", type=int, default=0, help="use only so many pictures; 0: all")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for JSON and table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
