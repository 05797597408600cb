"""Draws waiting against worker time, from the JSON: `python -m benchmarks.pipeline_plot [JSON]`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from benchmarks.command_line import run_program
from benchmarks.pipeline_model import knee_ms, modelled_share, trunk_work
from benchmarks.plot_file import write_plot_file
from benchmarks.record import RESULTS, read_record
from workers.errors import DataError


def main() -> None:
    """Write the plot beside the JSON."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "pipeline_efficiency.json"
    print(write_plot(path))


def write_plot(path: Path) -> Path:
    """Draw the record; returns the plot's path.

    Raises:
        DataError: there is no record, or the machine was so busy that nothing in it counts.
    """
    record, plot = read_record(path), path.with_suffix(".svg")
    write_plot_file(plot_of(record), plot, record)
    return plot


def plot_of(record: Mapping[str, Any]) -> Figure:
    """Measured shares as points, the model as a curve, the shadow as a vertical line.

    Raises:
        DataError: the machine was so busy that nothing in the record counts.
    """
    results = [result for result in record["results"] if result["spread"]]
    if not results:
        raise DataError(
            f"{record['name']}: no round counts, since the machine was busy. Measure again when it is idle."
        )
    work = trunk_work(results[0])
    worker_ms = [result["samples"]["worker_ms"] for result in results]
    shares, lows, highs = (
        np.array([100 * result["spread"][name] for result in results])
        for name in ("median", "low_quartile", "high_quartile")
    )
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    modelled_ms = np.linspace(0, 1.1 * max(worker_ms), 400)
    axes.plot(modelled_ms, [100 * modelled_share(ms / 1000, work) for ms in modelled_ms], color="0.6", label="model")
    axes.errorbar(worker_ms, shares, [shares - lows, highs - shares], fmt="o", color="C0", capsize=3, label="measured")
    knee = knee_ms(work)
    axes.axvline(knee, color="C3", linestyle="--", label=f"shadow of the trunk: {knee:.1f} ms")
    axes.set_xlabel("worker time per micro-batch, ms")
    axes.set_ylabel("time that the trunk waits, %")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    run_program(main)
