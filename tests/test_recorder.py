"""What run.json says of how a run ended, and what is said where it cannot be written."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from full_disk import full_disk

from launch.interruption import StoppedBeforeStart
from launch.recorder import Recorder
from launch.runs import read_record
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


@pytest.mark.parametrize("error", [StoppedBeforeStart(), RunError("the trunk ended"), ValueError("a defect")])
def test_a_full_disk_does_not_hide_why_a_run_ended(tmp_path, error):
    run = Run(tmp_path, error, is_disk_full=True)
    with pytest.raises(type(error), match=str(error)) as raised:
        run.run()
    assert raised.value.__notes__[0].startswith("cannot write ") and "run.json" in raised.value.__notes__[0]
    status, told = _supervise(run)
    assert status == (130 if isinstance(error, StoppedBeforeStart) else 1)
    assert told.index(str(error)) < told.index("cannot write ")
