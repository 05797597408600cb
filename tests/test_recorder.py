"""What run.json says of how a run ended, and what is said where it cannot be written."""

import contextlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from full_disk import full_disk

from launch.interruption import Interrupted, StoppedBeforeStart
from launch.recorder import AnothersRun, Recorder
from launch.run_record import RunRecord, read_record, write_record
from launch.snapshot import Snapshot
from launch.train import _supervise
from workers.errors import RunError


@dataclass
class Run:
    """As much of a supervisor as its caller needs: a run that ends with an error, on a disk that may be full."""

    directory: Path
    error: Exception
    is_disk_full: bool = False
    snapshot: Snapshot = field(default_factory=lambda: Snapshot(run="run", source="emoji"))

    def run(self):
        recorder = Recorder(self.directory, self.snapshot, "ipc://nowhere")
        with recorder.until_the_end(lambda: False):
            if not self.is_disk_full:
                raise self.error
            with full_disk(), recorder.until_the_end(lambda: False):
                raise self.error


@pytest.mark.parametrize(("error", "state"), [(StoppedBeforeStart(), "stopped"), (ValueError("no"), "failed")])
def test_the_end_of_a_run_is_recorded(tmp_path, error, state):
    with pytest.raises(type(error)):
        Run(tmp_path, error).run()
    assert read_record(tmp_path).state == state


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RunError("trunk was killed by SIGKILL.\n\nThe end of its log:\n\nTraceback"), "trunk was killed by SIGKILL."),
        (RunError("the disk\nis full"), "the disk is full."),
        (Interrupted("interrupted twice"), "interrupted twice."),
        (ValueError("no"), "ValueError: no. This is a defect of the launcher."),
        (StoppedBeforeStart(), ""),
    ],
)
def test_why_a_run_failed_is_recorded_in_a_sentence(tmp_path, error, reason):
    with pytest.raises(type(error)):
        Run(tmp_path, error).run()
    assert read_record(tmp_path).reason == reason


def launch_again(directory, state, *, error=None, was_stopped=False, step=None):
    """The record of a run that was in a state and has a checkpoint, before and after another launch."""
    (directory / "checkpoints" / "step-000000020" / "matrix").mkdir(parents=True)
    before = RunRecord(pid=1, control="ipc://before", started=1.0, state=state, reason="")
    write_record(directory, before)
    snapshot = Snapshot(run="run", source="emoji")
    with contextlib.suppress(RunError, StoppedBeforeStart):
        recorder = Recorder(directory, snapshot, "ipc://now", resume=True)
        with recorder.until_the_end(lambda: was_stopped):
            recorder.enter("training")
            assert read_record(directory).control == "ipc://now"
            snapshot.step = step or {}
            if error is not None:
                raise error
    return before, read_record(directory)


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_resume_that_is_refused_leaves_the_run_as_it_was_but_for_the_reason(tmp_path, state):
    before, after = launch_again(tmp_path, state, error=RunError("the data are others. Nothing was done."))
    assert after == replace(before, reason="the data are others. Nothing was done.")


@pytest.mark.parametrize("state", ["failed", "training"])
def test_a_resume_of_a_failed_run_that_is_refused_leaves_it_failed_with_the_last_reason(tmp_path, state):
    before, after = launch_again(tmp_path, state, error=RunError("the data are others."))
    assert after == replace(before, state="failed", reason="the data are others.")


def test_a_resume_of_a_finished_run_that_learns_nothing_leaves_its_start(tmp_path):
    assert len(set(launch_again(tmp_path, "finished"))) == 1


@pytest.mark.parametrize(("state", "after"), [("finished", "finished"), ("stopped", "stopped"), ("failed", "stopped")])
def test_a_resume_that_is_stopped_before_a_step_leaves_the_start(tmp_path, state, after):
    before, left = launch_again(tmp_path, state, was_stopped=True)
    assert left == replace(before, state=after)


def test_a_resume_that_has_made_a_step_is_a_launch_of_its_own(tmp_path):
    before, after = launch_again(tmp_path, "stopped", step={"step": 21}, error=RunError("the trunk ended"))
    assert (after.state, after.reason, after.control) == ("failed", "the trunk ended.", "ipc://now")
    assert after.started > before.started


def test_a_directory_that_was_made_anew_for_another_run_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.recorder._CHECK_S", 0.0)
    recorder = Recorder(tmp_path, Snapshot(run="run", source="emoji"), "ipc://ours")
    recorder.check()
    (tmp_path / "run.json").unlink()
    recorder.check()  # it may have been moved away: where the trunk saves next, it is told
    another = RunRecord(pid=456, control="ipc://another", started=2.0, state="preparing")
    write_record(tmp_path, another)
    with pytest.raises(AnothersRun, match=r"another run's now \(process 456\)") as raised, recorder.until_the_end(bool):
        recorder.check()
    with pytest.raises(ValueError, match="no") as other, recorder.until_the_end(bool):
        raise ValueError("no")
    assert read_record(tmp_path) == another
    assert not hasattr(raised.value, "__notes__") and other.value.__notes__ == [str(raised.value)]


def test_a_record_of_an_earlier_version_has_no_reason(tmp_path):
    values = {"pid": 1, "control": "ipc://x", "started": 1.0, "state": "failed", "format": 1}
    (tmp_path / "run.json").write_text(json.dumps(values))
    assert read_record(tmp_path).reason == ""


@pytest.mark.parametrize("error", [StoppedBeforeStart(), RunError("the trunk ended"), ValueError("a defect")])
def test_a_full_disk_does_not_hide_why_a_run_ended(tmp_path, error):
    run = Run(tmp_path, error, is_disk_full=True)
    with pytest.raises(type(error), match=str(error)) as raised:
        run.run()
    assert raised.value.__notes__[0].startswith("cannot write ") and "run.json" in raised.value.__notes__[0]
    status, told = _supervise(run)
    assert status == (130 if isinstance(error, StoppedBeforeStart) else 1)
    assert told.index(str(error)) < told.index("cannot write ")
