"""Shares of the trunk's time by phase, as a coloured bar with its legend."""

from collections.abc import Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from launch.figures import LEAST_SHOWN, share

_STYLES = {
    "load": "magenta",
    "augment": "bright_magenta",
    "forward": "cyan",
    "ship": "blue",
    "wait": "red",
    "backward": "green",
    "optimizer": "yellow",
    "validate": "bright_cyan",
    "save": "bright_yellow",
    "other": "bright_black",
}


def phase_bar(phase_fraction: Mapping[str, float]) -> RenderableType:
    """Two lines: a bar in the order of a step, and below it the phases by size; the smallest go where room is short."""
    known = [name for name in _STYLES if name in phase_fraction] + sorted(set(phase_fraction) - set(_STYLES))
    bar = Table.grid(expand=True)
    cells = []
    for name in known:
        ratio = round(1000 * phase_fraction[name])
        if ratio > 0:
            bar.add_column(ratio=ratio, no_wrap=True, overflow="crop")
            cells.append(Text("█" * 200, style=_style(name)))
    bar.add_row(*cells)
    legend = Text(no_wrap=True, overflow="ellipsis")
    for name, fraction in sorted(phase_fraction.items(), key=lambda item: -item[1]):
        if fraction >= LEAST_SHOWN:
            legend.append("■ ", _style(name)).append(f"{name} ", "dim").append(f"{share(fraction)}  ", "bold")
    line = Table.grid(expand=True, padding=(0, 1, 0, 0))
    line.add_column(no_wrap=True, style="dim")
    line.add_column(ratio=1)
    line.add_row("trunk", bar)
    line.add_row("", legend)
    return line


def _style(name: str) -> str:
    return _STYLES.get(name, "white")
