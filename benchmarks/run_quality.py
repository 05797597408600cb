"""What finished runs measured, side by side: `python -m benchmarks.run_quality NAME=RUN ...`."""

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.command_line import named_run, run_program
from benchmarks.machine import git
from benchmarks.markdown import markdown_table
from benchmarks.page import page_text, print_pages, write_page
from benchmarks.record import Record
from hybrid.metrics_log import read_metrics
from hybrid.rundir import open_run
from launch.run_record import RUN_FILE

NAME = "run_quality"
MEASURES = ("P@1", "P@5", "nDCG@5", "PSP@5", "mAP")


def main() -> None:
    """Read the runs, write JSON, then the table."""
    options = _options()
    settings = vars(options) | {"runs": [f"{name}={directory}" for name, directory in options.runs]}
    record = Record(options.name, "Held-out pictures, measured at the end of runs with default settings", settings)
    for name, directory in options.runs:
        record.add({"name": name, **measured_run(directory)})
    path = record.write()
    print_pages(path, write_page(path, report_text))


def measured_run(directory: Path) -> dict[str, Any]:
    """Settings, pace, and the measures that the run, or `hybrid evaluate` since, left behind."""
    run = open_run(directory)
    lines = [line for line in read_metrics(run.metrics_file) if line["kind"] == "train"]
    started = json.loads((directory / RUN_FILE).read_text())["started"]
    settings = asdict(run.config())
    settings["data"]["source"] = settings["data"]["source"].partition(":")[0]  # a path is nobody else's business
    return {
        "settings": settings,
        "started": started,
        "commit": git("rev-list", "-1", f"--before={int(started)}", "HEAD"),  # the newest one when the run began
        "steps": lines[-1]["step"],
        "training_s": lines[-1]["used_s"],
        "examples_per_s": [line["examples_per_s"] for line in lines],
        "wait_fraction": [line["wait_fraction"] for line in lines],
        "loss": [line["loss"] for line in lines],
        "tables": run.results(),
    }


def report_text(record: Mapping[str, Any]) -> str:
    """A row per run and set of pictures, popularity in brackets."""
    rows = []
    for result in record["results"]:
        for split, table in result["tables"].items():
            if split == "valid":
                continue
            cells = [f"{table[name]:.3f} ({table['popularity'][name]:.3f})" for name in MEASURES]
            low, high = table["mAP bounds"]
            title = f"{result['name']}: {split}, {table['items']:,} pictures, mAP of tags with {low} to {high}"
            rows.append([title, *cells, f"{result['training_s'] / 60:.1f}", _percent(result["wait_fraction"])])
    return page_text(record, markdown_table(["popularity in brackets", *MEASURES, "minutes", "waited"], rows))


def _percent(fractions: list[float]) -> str:
    return f"{100 * statistics.mean(fractions):.1f}%"


def _name(text: str) -> str:
    if not text.startswith(NAME):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with {NAME}, so README would not show it.")
    return text


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_quality", description=__doc__)
    help_text = "a name for the table, and a finished run"
    parser.add_argument("runs", nargs="+", type=named_run, metavar="NAME=RUN", help=help_text)
    parser.add_argument(
        "--name", type=_name, default=NAME, help="of the files; another keeps an earlier result beside it"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_program(main)
