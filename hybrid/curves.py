"""Loss, measures and negatives over a run, drawn as SVG that takes its colours from the page around it."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

SHOWN = ("P@5", "mAP")
"""Measures that are drawn over time."""
MOST_POINTS = 600
_WIDTHS = (6.4, 9.6, 12.8)
"""Of a drawing with one, two, three panels."""
_INK, _SOFT, _LINE, _TRUE, _OTHER = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {_INK: "--ink", _SOFT: "--soft", _LINE: "--line", _TRUE: "--true", _OTHER: "--other"}
"""Colours that stand for variables of the page's style, so that one drawing suits light and dark."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hybrid",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _LINE,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "grid.color": _LINE,
}


def curves_svg(lines: Sequence[dict[str, Any]]) -> str:
    """The training loss; measures on validation images where they were taken; the negatives where their number changed.

    Args:
        lines: of `metrics.jsonl`: kind `train` with `loss` and `negatives`, kind `valid` with the measures.

    Returns:
        '' without any loss.
    """
    steps, losses = _series(lines, "train", "loss")
    if len(steps) == 0:
        return ""
    measures = {name: _series(_measured_alike(lines), "valid", name) for name in SHOWN}
    negatives = _series(lines, "train", "negatives")
    panels: list[Callable[[Axes], None]] = [lambda axes: _draw_loss(axes, steps, losses)]
    if any(len(at) > 1 for at, _ in measures.values()):
        panels.append(lambda axes: _draw_measures(axes, measures))
    if len(np.unique(negatives[1])) > 1:
        panels.append(lambda axes: _draw_negatives(axes, *negatives))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTHS[len(panels) - 1], 3.0), layout="constrained")
        for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _themed(out.getvalue())


def _draw_loss(axes: Axes, steps: NDArray, losses: NDArray) -> None:
    axes.plot(*_thinned(steps, losses), color=_SOFT, alpha=0.35, linewidth=0.8)
    axes.plot(*_thinned(steps, smoothed(losses)), color=_TRUE, linewidth=1.8)
    _dress(axes, "Training loss")


def _draw_measures(axes: Axes, measures: dict[str, tuple[NDArray, NDArray]]) -> None:
    for (name, (steps, values)), colour, marker in zip(measures.items(), (_TRUE, _OTHER), "os", strict=True):
        axes.plot(steps, values, color=colour, linewidth=1.8, marker=marker, markersize=3.5)
        if len(steps):
            axes.annotate(name, (steps[-1], values[-1]), (6, 0), textcoords="offset points", va="center", color=colour)
    axes.set_ylim(bottom=0)
    axes.margins(x=0.12)
    _dress(axes, "On validation images")


def _draw_negatives(axes: Axes, steps: NDArray, negatives: NDArray) -> None:
    """Doublings are equally high: what follows worker time follows it in proportion."""
    axes.step(steps, negatives, where="post", color=_TRUE, linewidth=1.8)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _dress(axes, "Negatives per draw")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel("step")
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)


def smoothed(values: NDArray) -> NDArray[np.float64]:
    """A running mean over the last fiftieth of the curve, over what there is at its start."""
    width = max(1, len(values) // 50)
    total = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - width, 0)
    return (total[last] - total[first]) / (last - first)


def _measured_alike(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of kind `valid` that were measured as the first was.

    A finished run is measured on all validation images, at their own temperature: as one more point of the curve that
    would look like learning.
    """
    valid = [line for line in lines if line.get("kind") == "valid"]
    return [line for line in valid if all(line.get(key) == valid[0].get(key) for key in ("items", "temperature"))]


def _series(lines: Sequence[dict[str, Any]], kind: str, name: str) -> tuple[NDArray, NDArray]:
    points = {line["step"]: line[name] for line in lines if line.get("kind") == kind and line.get(name) is not None}
    steps = np.array(sorted(points))
    return steps, np.array([points[step] for step in steps.tolist()], np.float64)


def _thinned(steps: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_POINTS)).astype(int))
    return steps[chosen], values[chosen]


def _themed(svg: str) -> str:
    """Without the XML prologue, metadata or a fixed size; stand-in colours become the page's variables."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg[svg.index("<svg") :], count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 role="img" aria-label="Curves of the run"', svg, count=1)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("font: 9px", "font: 9px system-ui,")
