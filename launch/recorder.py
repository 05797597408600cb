"""Keeping run.json true while a run goes on."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from launch.interruption import StoppedBeforeStart
from launch.runs import LIVE_STATES, RunRecord, write_record
from launch.snapshot import Snapshot
from workers.errors import RunError


class Recorder:
    """Writes the state of a run into its directory, and into what is shown, whenever it changes.

    Args:
        directory: of the run.
        snapshot: what is shown.
        control: endpoint of the control socket.
    """

    def __init__(self, directory: Path, snapshot: Snapshot, control: str) -> None:
        self._directory, self._snapshot = directory, snapshot
        self._record = RunRecord(pid=os.getpid(), control=control, started=time.time(), state="preparing")
        write_record(directory, self._record)

    def enter(self, state: str) -> None:
        """The run is in this state from here on."""
        self._snapshot.state = state
        if state not in LIVE_STATES:  # what went on last goes on no more
            self._snapshot.show("", "")
        self._record = replace(self._record, state=state)
        write_record(self._directory, self._record)

    @contextlib.contextmanager
    def until_the_end(self, was_stopped: Callable[[], bool]) -> Iterator[None]:
        """Record how what runs inside ends; if that cannot be written, whatever ended it is raised all the same.

        Args:
            was_stopped: whether a run that ended in order had been asked to.
        """
        try:
            yield
        except StoppedBeforeStart as interruption:
            self._enter_after(interruption, "stopped")
            raise
        except BaseException as error:
            self._enter_after(error, "failed")
            raise
        self.enter("stopped" if was_stopped() else "finished")

    def _enter_after(self, error: BaseException, state: str) -> None:
        try:
            self.enter(state)
        except RunError as second:
            error.add_note(str(second))
