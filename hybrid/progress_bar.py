"""A progress bar on the error stream for work in this process."""

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Shows `(text, done, total)` reports, one bar per text; without a terminal, one line per text; else nothing."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._progress.live.is_started:  # else it would write an empty line
            self._progress.stop()

    def __call__(self, text: str, done: int, total: int) -> None:
        if text not in self._tasks:
            self._tasks[text] = self._progress.add_task(text, total=total or 1)
            if self._progress.console.is_terminal:
                self._progress.start()
            else:
                print(text, file=sys.stderr, flush=True)
        self._progress.update(self._tasks[text], completed=done, total=total or 1)
