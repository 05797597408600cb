"""The SVG file of a plot that stands beside its record."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from benchmarks.record import digest_of
from workers.disk import write_whole

_STYLE: Any = {"svg.hashsalt": "hybrid"}
"""Else names within the file would be drawn by chance, and every run of the report would change it."""


def write_plot_file(figure: Figure, path: Path, record: Mapping[str, Any]) -> None:
    """Write a figure with the digest of the record that it shows among its metadata; closes the figure."""
    file = io.StringIO()
    with pyplot.rc_context(_STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None, "Identifier": digest_of(record)})
    pyplot.close(figure)
    write_whole(path, file.getvalue())
