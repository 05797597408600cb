"""The live view of a run in a terminal."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from launch.figures import count, duration, rate, share, sparkline
from launch.phase_bar import phase_bar
from launch.snapshot import Snapshot

_REFRESH_S = 0.25
_WIDE = 80
"""Columns of a terminal that shows everything; in a narrower one figures stand in pairs, workers have fewer columns."""
_ROOMY = 90
"""Columns from which on columns of tables stand two spaces apart, not one."""
_FRAME_LINES, _NARROW_FRAME_LINES = 16, 18  # lines of the view that are not workers
_MIN_WORKER_LINES = 4
_WORKER_SHARES = {
    "busy": ("receive", "draw", "kernel", "reply"),
    "receive": ("receive",),
    "draw": ("draw",),
    "kernel": ("kernel",),
    "reply": ("reply",),
}
"""Column -> phases of a worker whose shares it adds up."""
_NARROW_SHARES = ("busy", "kernel")
_ENDED = ("finished", "failed", "stopped")
_STATE_STYLES = {"ready": "green", "starting": "yellow", "draining": "yellow", "lost": "red"}


class LiveView:
    """Redraws a snapshot in place, in its caller's thread, which waits as long as the terminal takes nothing."""

    def __init__(self, console: Console) -> None:
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,  # else whoever prints in another thread would wait for the terminal, too
            redirect_stderr=False,
            vertical_overflow="ellipsis",
        )
        self._drawn_s = 0.0

    def start(self) -> None:
        """Take over the lower part of the terminal."""
        self._live.start()

    def update(self, snapshot: Snapshot, *, force: bool = False) -> None:
        """Redraw, at most a few times a second."""
        now_s = time.monotonic()
        if force or now_s - self._drawn_s >= _REFRESH_S:
            self._drawn_s = now_s
            self._live.update(render(snapshot, self._live.console.height, self._live.console.width), refresh=True)

    def note(self, text: str) -> None:
        """Print a remark above the view."""
        self._live.console.print(Text.assemble(("note ", "yellow"), text))

    def stop(self, snapshot: Snapshot) -> None:
        """Draw once more, then give the terminal back; safe to call twice."""
        if self._live.is_started:
            try:
                self.update(snapshot, force=True)
            finally:
                self._live.stop()


def render(snapshot: Snapshot, height: int, width: int = _WIDE) -> RenderableType:
    """The view as lines: header, progress, figures, workers, and what keys do."""
    parts: list[RenderableType] = [_header(snapshot), _progress(snapshot)]
    if snapshot.step:
        parts += ["", _figures(snapshot, width)]
        if snapshot.step["workers"]:
            frame_lines = _FRAME_LINES if width >= _WIDE else _NARROW_FRAME_LINES
            parts += ["", _workers(snapshot, max(_MIN_WORKER_LINES, height - frame_lines), width)]
    parts += ["", _footer(snapshot)]
    return Group(*parts)


def _header(snapshot: Snapshot) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 2, 0, 0), pad_edge=False)
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    line.add_column(justify="right", no_wrap=True)
    title = Text.assemble(("hybrid ", "bold"), (snapshot.source, "bold cyan"), "  ", (snapshot.run, "dim"))
    line.add_row(title, Text.assemble((snapshot.state, "bold"), f"  {duration(snapshot.elapsed_s)}"))
    return line


def _progress(snapshot: Snapshot) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True, justify="right")
    if snapshot.phase:
        known = snapshot.total > 0
        bar = ProgressBar(total=snapshot.total or 1, completed=snapshot.done if known else 0, pulse=not known)
        state = f"{count(snapshot.done)} / {count(snapshot.total)}" if known else ""
        line.add_row(snapshot.text or snapshot.phase, bar, state)
    elif snapshot.step:
        fraction = snapshot.step["fraction"]
        bar = ProgressBar(total=1.0, completed=min(max(fraction, 0.0), 1.0))
        line.add_row(
            f"epoch {snapshot.step['epoch']:.1f}", bar, f"{share(fraction)}  ETA {duration(snapshot.step['eta_s'])}"
        )
    elif snapshot.state in _ENDED:  # without a step
        line.add_row("", ProgressBar(total=1.0, completed=float(snapshot.state == "finished")), "")
    else:
        line.add_row("starting", ProgressBar(total=1.0, pulse=True), "")
    return line


def _figures(snapshot: Snapshot, width: int) -> RenderableType:
    step = snapshot.step
    named = (
        ("step", count(step["step"])),
        ("examples/s", rate(step["examples_per_s"])),
        ("negatives", count(step["negatives"])),
        ("loss", f"{step['loss']:.4f}"),
        ("trunk waited", share(step["wait_fraction"])),
        ("chunks in flight", count(step["in_flight"])),
        ("lr trunk", f"{step['lr']:.2e}"),
        ("staleness, chunks", rate(step["staleness_chunks"])),
        ("sent again", count(step["chunks_resent"])),
        ("lr rows", f"{step['row_lr']:.2e}"),
        ("workers lost", count(snapshot.workers_lost)),
        ("trunk on", _place(step)),
    )
    table = Table.grid(padding=_padding(width))
    pairs = 3 if width >= _WIDE else 2
    for style in ("dim", "bold") * pairs:
        table.add_column(style=style, no_wrap=True)
    for start in range(0, len(named), pairs):
        table.add_row(*(Text(text) for pair in named[start : start + pairs] for text in pair))
    line = sparkline(snapshot.losses.points, min(60, width - len("loss  ")))
    curve = Text.assemble(("loss  ", "dim"), (line, "cyan"))
    parts: list[RenderableType] = [table, curve]
    if phase_fraction := step.get("phase_fraction"):
        parts.append(phase_bar(phase_fraction))
    return Group(*parts)


def _padding(width: int) -> tuple[int, int, int, int]:
    return 0, 2 if width >= _ROOMY else 1, 0, 0


def _place(step: Mapping[str, Any]) -> str:
    """Device and threads of the trunk, where it says them."""
    threads = step.get("threads")
    shown = "" if threads is None else f", {count(threads)} thread{'' if threads == 1 else 's'}"
    return f"{step.get('device', '-')}{shown}"


def _workers(snapshot: Snapshot, lines: int, width: int) -> RenderableType:
    workers = snapshot.step["workers"]
    columns = tuple(_WORKER_SHARES) if width >= _WIDE else _NARROW_SHARES
    table = Table(box=None, pad_edge=False, padding=_padding(width), header_style="dim")
    table.add_column(f"worker ({len(workers)} of {snapshot.workers_wanted})", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("rows/s", "in flight", *columns):
        table.add_column(name, justify="right", no_wrap=True)
    shown = workers if len(workers) <= lines else workers[: lines - 1]
    for worker in shown:
        state = Text(worker["state"], style=_STATE_STYLES.get(worker["state"], ""))
        numbers = (rate(worker["rows_per_s"]), count(worker["in_flight"]))
        table.add_row(Text(worker["name"]), state, *numbers, *_shares([worker], columns))
    if rest := workers[len(shown) :]:
        numbers = (rate(sum(w["rows_per_s"] for w in rest)), count(sum(w["in_flight"] for w in rest)))
        table.add_row(f"{len(rest)} more", "", *numbers, *_shares(rest, columns))
    return table


def _shares(workers: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """The mean share of their time in each of these `_WORKER_SHARES`; `-` where a worker tells none."""
    told = [worker["phase_fraction"] for worker in workers if worker.get("phase_fraction")]
    sums = [[sum(one[phase] for phase in _WORKER_SHARES[name]) for one in told] for name in columns]
    return [share(sum(column) / len(column)) if column else "-" for column in sums]


def _footer(snapshot: Snapshot) -> RenderableType:
    if snapshot.state in _ENDED:
        return Text("")
    if snapshot.state == "stopping":
        return Text("finishing the step, then saving; a second Ctrl-C ends everything at once", style="yellow")
    return Text("Ctrl-C finishes the step, saves and exits", style="dim")
