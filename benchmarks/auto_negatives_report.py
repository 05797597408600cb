"""Table and plot of runs with fixed and with steered numbers of negatives, from their JSON."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from benchmarks.markdown import markdown_table
from benchmarks.page import MEASURES, page_text, write_page
from benchmarks.plot_file import write_plot_file
from benchmarks.record import read_record

Result = Mapping[str, Any]


def write_report(path: Path) -> tuple[Path, Path]:
    """Write the table and the plot beside the JSON; returns their paths."""
    record, plot = read_record(path), path.with_suffix(".svg")
    write_plot_file(plot_of(record), plot, record)
    return write_page(path, report_text), plot


def report_text(record: Result) -> str:
    """A row per contender: means over seeds, and how far apart they are."""
    results = record["results"]
    rows = [_row(negatives, of) for negatives, of in by_negatives(results).items()]
    popularity = [f"{results[0]['popularity'][name]:.3f}" for name in MEASURES]
    rows.append(["popularity", *popularity, "", "", "", ""])
    header = ["negatives", *MEASURES, "examples/s", "waited", "negatives at the end", "shadow filled"]
    settings = record["settings"]
    seeds = len(settings["seeds"])
    bound = f" Auto drew {settings['max_negatives']:,} at most." if settings.get("max_negatives") else ""
    averaged = f"mean over {seeds} seeds (smallest to largest)" if seeds > 1 else "one seed"
    text = (
        f"Validation pictures, after {settings['minutes']:g} minutes of training each; {averaged}. "
        f"{settings['workers']} worker(s); the trunk on one thread.{bound}"
    )
    return page_text(record, markdown_table(header, rows), text)


def by_negatives(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of all seeds by contender, in the order in which they were first trained."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result["negatives"], []).append(result)
    return found


def _row(negatives: str, results: list[Result]) -> list[str]:
    waited = statistics.mean(share for result in results for share in result["samples"]["wait_fraction"])
    last = [result["samples"]["negatives"][-1] for result in results]
    return [
        negatives,
        *(_spread([result["final"][name] for result in results]) for name in MEASURES),
        f"{statistics.mean(result['examples'] / result['training_s'] for result in results):,.0f}",
        f"{waited:.1%}",
        " / ".join(f"{number:,}" for number in last) if negatives.startswith("auto") else f"{last[0]:,}",
        " / ".join(_filled(result) for result in results) if negatives.startswith("auto") else "",
    ]


def _filled(result: Result) -> str:
    """The share of the shadow that workers filled when it was measured last."""
    worker_ms, shadow_ms = (
        [ms for ms in result["samples"][name] if ms is not None] for name in ("worker_ms", "shadow_ms")
    )
    return f"{worker_ms[-1] / shadow_ms[-1]:.0%}" if worker_ms and shadow_ms else "-"


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def plot_of(record: Result) -> Figure:
    """The number of negatives over the seconds of training."""
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    for colour, (negatives, of) in enumerate(by_negatives(record["results"]).items()):
        for number, result in enumerate(of):
            seconds, drawn = result["samples"]["used_s"], result["samples"]["negatives"]
            label = negatives if number == 0 else None
            axes.step(seconds, drawn, where="post", color=f"C{colour}", alpha=0.7, label=label)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("negatives per chunk")
    axes.grid(alpha=0.3)
    axes.legend(title="negatives")
    return figure
