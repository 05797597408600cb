"""What shows a run while it goes on."""

import contextlib
import errno
import logging
import os
import sys
import threading
from dataclasses import dataclass, field, replace
from typing import Protocol

from rich.console import Console

from launch.live import LiveView
from launch.plain import PlainView
from launch.snapshot import Snapshot
from workers.json_text import escape_unprintable

_MAX_NOTES = 200
_STOP_S = 1.0

_log = logging.getLogger(__name__)


class View(Protocol):
    """Shows snapshots; may wait for whoever reads them, unless it is a `DetachedView`."""

    def start(self) -> None: ...

    def update(self, snapshot: Snapshot, *, force: bool = False) -> None:
        """Show the state; called often, draws when it is time to."""

    def note(self, text: str) -> None:
        """Show a remark that stays."""

    def stop(self, snapshot: Snapshot) -> None:
        """Show the last state and let the terminal go."""


@dataclass(slots=True)
class _Mail:
    """What is to be shown next."""

    snapshot: Snapshot | None = None
    notes: list[str] = field(default_factory=list)
    num_dropped: int = 0
    is_forced: bool = False
    is_last: bool = False


class DetachedView:
    """Another view, drawn by a thread of its own: a run outlives who watched it, and waits for nobody who is slow.

    Whoever reads slowly sees fewer states, since a later one takes the place of one that was not drawn yet. Notes wait
    for their turn, as many as there is room for.

    Concurrency: only the thread calls the other view. It draws shallow copies of snapshots: what these hold is
    replaced, but for the lists of notes and losses, of which a drawing may see one more or one less.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._mail, self._has_mail = _Mail(), threading.Condition()
        self._last: Snapshot | None = None
        self._thread = threading.Thread(target=self._show_all, name="view", daemon=True)

    @property
    def is_stuck(self) -> bool:
        """After `stop`: whether its thread still waits for a reader. Whoever writes to the same stream waits, too."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def update(self, snapshot: Snapshot, *, force: bool = False) -> None:
        with self._has_mail:
            self._mail.snapshot = replace(snapshot)
            self._mail.is_forced |= force
            self._has_mail.notify()

    def note(self, text: str) -> None:
        with self._has_mail:
            if len(self._mail.notes) < _MAX_NOTES:
                self._mail.notes.append(text)
            else:
                self._mail.num_dropped += 1
            self._has_mail.notify()

    def stop(self, snapshot: Snapshot) -> None:
        with self._has_mail:
            self._mail.snapshot = replace(snapshot)
            self._mail.is_last = True
            self._has_mail.notify()
        self._thread.join(_STOP_S)

    def _show_all(self) -> None:
        try:
            self._view.start()
            is_last = False
            while not is_last:
                mail = self._take()
                self._show(mail)
                is_last = mail.is_last
        except (OSError, ValueError) as error:
            # The terminal was closed, the reader of the pipe has left, or there is a character that it cannot take.
            _log.info("the run goes on without its view: %s", error)
            self._give_back()
        except Exception:  # noqa: BLE001 - a defect of ours: the run goes on
            _log.exception("the run goes on without its view, which has a defect")
            self._give_back()

    def _give_back(self) -> None:
        """A terminal that is still there has its cursor again, and prints what comes after the run as it is."""
        with contextlib.suppress(Exception):
            if self._last is not None:
                self._view.stop(self._last)

    def _take(self) -> _Mail:
        with self._has_mail:
            self._has_mail.wait_for(lambda: self._mail != _Mail())
            mail, self._mail = self._mail, _Mail()
        return mail

    def _show(self, mail: _Mail) -> None:
        for text in mail.notes:
            self._view.note(text)
        if mail.num_dropped:
            self._view.note(f"further notes, dropped since they came faster than they were read: {mail.num_dropped}")
        if mail.snapshot is None:
            return
        self._last = mail.snapshot
        if mail.is_last:
            self._view.stop(mail.snapshot)
        else:
            self._view.update(mail.snapshot, force=mail.is_forced)


class _RunConsole(Console):
    """Leaves the process alone when the reader of a pipe has left, where rich would end it."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def choose_view(console: Console) -> DetachedView:
    """A live view on a terminal that can show one, plain lines elsewhere."""
    return DetachedView(LiveView(console) if _can_redraw(console) else PlainView(console.file))


def choose_console(*, json_output: bool) -> Console:
    """Standard output, or standard error where standard output is kept for one JSON object; both take any character."""
    escape_unprintable()
    return _RunConsole(file=sys.stderr if json_output else sys.stdout, highlight=False)


def _can_redraw(console: Console) -> bool:
    """Whether it moves its cursor and has the characters of curves; `is_terminal` alone believes $FORCE_COLOR."""
    is_terminal = console.file.isatty() and console.is_terminal and console.is_interactive
    return is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf")
