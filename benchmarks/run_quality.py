"""What finished runs measured, side by side: `python -m benchmarks.run_quality NAME=RUN ...`."""

import argparse
import json
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table, print_pages
from benchmarks.record import Record, read_record, surroundings
from hybrid.metrics_log import read_metrics
from hybrid.rundir import open_run
from workers.disk import write_whole

NAME = "run_quality"
MEASURES = ("P@1", "P@5", "nDCG@5", "PSP@5", "mAP")


def main() -> None:
    """Read the runs, write JSON, then the table."""
    options = _options()
    record = Record(options.name, "Held-out pictures, measured at the end of runs with default settings", vars(options))
    for pair in options.runs:
        name, _, directory = pair.partition("=")
        record.add({"name": name, **measured_run(Path(directory))})
    path = record.write()
    table = path.with_suffix(".md")
    write_whole(table, report_text(read_record(path)))
    print_pages(path, table)


def measured_run(directory: Path) -> dict[str, Any]:
    """Settings, pace, and the measures that the run, or `hybrid evaluate` since, left behind."""
    run = open_run(directory)
    lines = [line for line in read_metrics(run.metrics_file) if line["kind"] == "train"]
    started = json.loads((directory / "run.json").read_text())["started"]
    settings = asdict(run.config())
    settings["data"]["source"] = settings["data"]["source"].partition(":")[0]  # a path is nobody else's business
    return {
        "settings": settings,
        "started": started,
        "commit": _commit_at(started),
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
    header = ["popularity in brackets", *MEASURES, "minutes", "waited"]
    return f"# {record['title']}\n\n{markdown_table(header, rows)}\n\n{surroundings(record)}\n\n`{record['command']}`\n"


def _percent(fractions: list[float]) -> str:
    return f"{100 * statistics.mean(fractions):.1f}%"


def _commit_at(started: float) -> str:
    """The commit that was the newest when a run began."""
    command = ["git", "rev-list", "-1", f"--before={int(started)}", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _name(text: str) -> str:
    if not text.startswith(NAME):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with {NAME}, so README would not show it.")
    return text


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_quality", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="a name for the table, and a finished run")
    parser.add_argument(
        "--name", type=_name, default=NAME, help="of the files; another keeps an earlier result beside it"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
