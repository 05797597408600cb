"""Keeping run.json true while a run goes on."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from launch.interruption import Interrupted, StoppedBeforeStart
from launch.run_record import LIVE_STATES, RunRecord, read_record, write_record
from launch.runs import latest_checkpoint
from launch.snapshot import Snapshot
from workers.errors import HybridError, RunError

_CHECK_S = 1.0


class AnothersRun(RunError):
    """The directory of a run was made anew for another one, while this one went on."""


class Recorder:
    """Writes the state of a run into its directory, and into what is shown, whenever it changes.

    A launch that goes on with a run from a checkpoint, and ends without a step, leaves its record as it was, see
    `_left_alone`. The lock of a directory goes with it when it is removed, so one that is made anew in its place is
    known by its record, which another launcher has written; nothing is written there.

    Args:
        directory: of the run.
        snapshot: what is shown.
        control: endpoint of the control socket.
        resume: whether the run goes on from its newest checkpoint, if there is one.
    """

    def __init__(self, directory: Path, snapshot: Snapshot, control: str, *, resume: bool = False) -> None:
        self._directory, self._snapshot = directory, snapshot
        self._before = _record_before(directory) if resume else None
        self._record = RunRecord(pid=os.getpid(), control=control, started=time.time(), state="preparing")
        write_record(directory, self._record)
        self._checked_s = time.monotonic()

    def check(self) -> None:
        """See now and then that the directory is still this run's; call it often.

        Raises:
            AnothersRun: it is not.
        """
        now_s = time.monotonic()
        if now_s - self._checked_s >= _CHECK_S:
            self._checked_s = now_s
            self._check_record()

    def enter(self, state: str, reason: str = "") -> None:
        """The run is in this state from here on.

        Raises:
            RunError: the record cannot be written.
            AnothersRun: see `check`.
        """
        self._snapshot.state = state
        self._record = record = replace(self._record, state=state, reason=reason)
        if state not in LIVE_STATES:
            self._snapshot.show("", "")  # what went on last goes on no more
            if self._before is not None and not self._snapshot.step:
                record = _left_alone(self._before, record)
        self._check_record()
        write_record(self._directory, record)

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
            self._enter_after(error, "failed", _reason(error))
            raise
        self.enter("stopped" if was_stopped() else "finished")

    def _enter_after(self, error: BaseException, state: str, reason: str = "") -> None:
        try:
            self.enter(state, reason)
        except RunError as second:
            if not isinstance(error, AnothersRun):
                error.add_note(str(second))

    def _check_record(self) -> None:
        try:
            found = read_record(self._directory)
        except RunError:  # it has gone, or cannot be read: whoever writes next is told why
            return
        if found.control != self._record.control:
            raise AnothersRun(
                f"{self._directory} is another run's now (process {found.pid}): it was removed or moved away, and made "
                "anew, while this run went on. Nothing more is written there, and what this run has learned is lost. "
                "Stop a run before you remove its directory, or give the next one another --run-dir."
            )


def _record_before(directory: Path) -> RunRecord | None:
    """What a run with a checkpoint said of itself when its last launch ended."""
    if latest_checkpoint(directory) is None:
        return None
    with contextlib.suppress(RunError):
        return read_record(directory)
    return None


def _left_alone(before: RunRecord, now: RunRecord) -> RunRecord:
    """The record of a run that a launch has taught nothing: its start stays, and its state where that is still true.

    A run that had finished is as finished after a stop. One that had ended in order is not a failed one because it was
    refused to go on with it; why it was is told beside its state.
    """
    if now.state == "failed" and before.state in ("finished", "stopped"):
        return replace(before, reason=now.reason)
    was_finished = now.state == "stopped" and before.state == "finished"
    return replace(before, state=before.state if was_finished else now.state, reason=now.reason)


def _reason(error: BaseException) -> str:
    """The first paragraph of an error, as a sentence; what a log says stands in that."""
    if not isinstance(error, HybridError | Interrupted):
        return f"{type(error).__name__}: {error}. This is a defect of the launcher."
    return " ".join(str(error).strip().partition("\n\n")[0].split()).removesuffix(".") + "."
