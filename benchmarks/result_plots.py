"""The plot that stands beside some JSON of results."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import auto_negatives_report, gpu_only_report, pipeline_plot
from benchmarks.plot_file import write_plot_file
from benchmarks.record import RESULTS
from benchmarks.rival_verdicts import SUITE
from workers.errors import DataError

Record = Mapping[str, Any]

_PLOTS: dict[str, Callable[[Record], Figure]] = {
    "auto_negatives": auto_negatives_report.plot_of,
    "pipeline_efficiency": pipeline_plot.plot_of,
    SUITE: gpu_only_report.plot_of,
}
"""How names of records begin -> what draws them."""


def write_plots(records: Mapping[str, Record], folder: Path = RESULTS) -> None:
    """Draw all of them again; a plot whose record now holds nothing that counts is removed, since it shows another."""
    for name, record in records.items():
        for known, plot_of in _PLOTS.items():
            if name.startswith(known):
                path = folder / f"{name}.svg"
                try:
                    write_plot_file(plot_of(record), path, record)
                except DataError:
                    path.unlink(missing_ok=True)
