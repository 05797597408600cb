"""What shows a run while it goes on."""

import sys
from collections.abc import Callable
from typing import Protocol

from rich.console import Console

from launch.live import LiveView
from launch.plain import PlainView
from launch.snapshot import Snapshot


class View(Protocol):
    """Shows snapshots; never waits."""

    def start(self) -> None: ...

    def update(self, snapshot: Snapshot, *, force: bool = False) -> None:
        """Show the state; called often, draws when it is time to."""

    def note(self, text: str) -> None:
        """Show a remark that stays."""

    def stop(self, snapshot: Snapshot) -> None:
        """Show the last state and let the terminal go."""


class Detachable:
    """Another view, for as long as its terminal or pipe exists: a run outlives who watched it."""

    def __init__(self, view: View) -> None:
        self._view: View | None = view

    def start(self) -> None:
        self._show(lambda view: view.start())

    def update(self, snapshot: Snapshot, *, force: bool = False) -> None:
        self._show(lambda view: view.update(snapshot, force=force))

    def note(self, text: str) -> None:
        self._show(lambda view: view.note(text))

    def stop(self, snapshot: Snapshot) -> None:
        self._show(lambda view: view.stop(snapshot))

    def _show(self, action: Callable[[View], None]) -> None:
        if self._view is not None:
            try:
                action(self._view)
            except OSError:  # the terminal was closed, or the reader of the pipe has left
                self._view = None


def choose_view(console: Console) -> View:
    """A live view on a terminal, plain lines elsewhere."""
    return Detachable(LiveView(console) if console.is_terminal else PlainView(console.file))


def choose_console(*, json_output: bool) -> Console:
    """Standard output, or standard error where standard output is kept for one JSON object."""
    return Console(file=sys.stderr if json_output else sys.stdout, highlight=False)
