"""Plots of the report as SVG that takes its colours from the page, light or dark."""

import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.gates import HIGHER, NOT_MEASURED, OK, SHORT
from benchmarks.spread import spread_of
from benchmarks.verdict_table import shown

_INK, _OK, _SHORT, _UNJUDGED = "#010203", "#010204", "#010205", "#010206"
_PAGE_COLOURS = {_INK: "currentColor", _OK: "var(--ok)", _SHORT: "var(--short)", _UNJUDGED: "var(--unjudged)"}
"""Placeholders that no plot holds by chance, and what they become."""
_COLOUR = {OK: _OK, SHORT: _SHORT, NOT_MEASURED: _UNJUDGED}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hybrid",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_ROW_INCHES = 0.34
_SERIES = ("o", "s", "^", "D")

Result = Mapping[str, Any]


def gates_plot(results: Sequence[Result]) -> str:
    """Every value over its gate, on a logarithmic scale, so that right of the line is always better; "" without values.

    A dot for each round, a thick line between the quartiles, a tick at the ambition.
    """
    shown_results = [result for result in results if result["values"]]
    if not shown_results:
        return ""

    def draw(axis: Axes) -> None:
        for row, result in enumerate(reversed(shown_results)):
            colour, spread = _COLOUR[result["verdict"]], spread_of(result["values"])
            values = [_over_gate(result, value) for value in result["values"]]
            quartiles = [_over_gate(result, value) for value in (spread.low_quartile, spread.high_quartile)]
            axis.plot(values, [row] * len(values), "o", color=colour, markersize=3, alpha=0.4)
            axis.plot(quartiles, [row, row], color=colour, linewidth=4, alpha=0.6, solid_capstyle="butt")
            axis.plot([_over_gate(result, spread.median)], [row], "o", color=colour, markersize=8)
            axis.plot([_over_gate(result, result["ambition"])], [row], "|", color=_INK, markersize=12)
        axis.axvline(1.0, color=_INK, linewidth=1)
        axis.set_yticks(range(len(shown_results)), [_label(result) for result in reversed(shown_results)])
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axis.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else "")
        axis.set_xlabel("value over gate: right of 1 is reached; a tick is the ambition")

    return _svg(draw, height=1.0 + _ROW_INCHES * len(shown_results))


def tags_plot(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Time of a step against the number of tags, over that of the smallest number; "" without results."""
    series = {}
    if "head_scaling" in records:
        pairs = [(r["num_tags"], statistics.median(r["round_step_ms"])) for r in records["head_scaling"]["results"]]
        series["head with shared negatives"] = sorted(pairs)
    steps = {result["name"]: result["value"] for result in records.get("scaling", {"results": []})["results"]}
    sizes = {"step_10K": 10**4, "step_100K": 10**5, "step_1M": 10**6, "step_10M": 10**7}
    private = [(num_tags, steps[name]) for name, num_tags in sizes.items() if steps.get(name)]
    if private:
        series["worker step with private negatives"] = private
    if not series:
        return ""

    def draw(axis: Axes) -> None:
        for marker, (name, points) in zip(_SERIES, series.items(), strict=False):
            tags, times = zip(*points, strict=True)
            growth = [time / times[0] for time in times]
            axis.plot(tags, growth, marker=marker, color=_INK, label=name, linewidth=1)
        axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_xlabel("tags")
        axis.set_ylabel("time of a step over\nthat of the fewest tags")
        axis.legend(frameon=False)

    return _svg(draw, height=3.2)


def _over_gate(result: Result, value: float) -> float:
    ratio = value / result["gate"]
    return ratio if result["direction"] == HIGHER else 1.0 / ratio


def _label(result: Result) -> str:
    return f"{result['what'].partition(':')[0]}   {shown(result['value'], result['unit'])}"


def _svg(draw: Callable[[Axes], None], height: float) -> str:
    with pyplot.rc_context(_STYLE):
        figure, axis = pyplot.subplots(figsize=(11.0, height))
        draw(axis)
        figure.tight_layout()
        return inline(_saved(figure))


def _saved(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    return file.getvalue()


def inline(svg: str) -> str:
    """An SVG file as an element of a page: without prolog, in the colours of the page."""
    element = svg[svg.index("<svg") :]
    for placeholder, colour in _PAGE_COLOURS.items():
        element = element.replace(placeholder, colour)
    return element
