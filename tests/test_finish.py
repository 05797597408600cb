"""The end of a run: a wish to stop is heard while it is measured; a full disk in between does not end it."""

from types import SimpleNamespace

import pytest
import torch

from hybrid import finish
from hybrid.checkpoint_pace import CheckpointPace
from hybrid.training_run import TrainingRun
from workers.errors import RunError


class Launcher:
    """The trunk's side of a link, on which the wish to stop arrives with the second look."""

    def __init__(self):
        self.told, self.looks, self.stop_asked = [], 0, False

    def poll(self):
        self.looks += 1
        self.stop_asked = self.looks >= 2
        return []

    def progress(self, phase, text, done=0, total=0):
        self.told.append((phase, text))

    def tell(self, kind, **fields):
        self.told.append((kind, fields.get("text", "")))


def test_a_wish_to_stop_ends_the_measuring_and_writes_nothing(tmp_path, monkeypatch):
    measured = []

    def measure(*arguments, progress, **named):
        for part in range(5):
            progress("test pictures", part, 5)
            measured.append(part)

    monkeypatch.setattr(finish, "measure_splits", measure)
    monkeypatch.setattr(finish, "score_bias_N", lambda *arguments: None)
    head = SimpleNamespace(matrix=None, config=None)
    progress = SimpleNamespace(step=3)
    trainer = SimpleNamespace(head=head, trunk=None, device="cpu", precision=torch.float32, progress=progress)
    config = SimpleNamespace(data=SimpleNamespace(image_size=16, loader_processes=0))
    launcher, threads = Launcher(), torch.get_num_threads()
    try:
        finish.finish_run(None, config, None, trainer, None, launcher, None)
    finally:
        torch.set_num_threads(threads)
    assert measured == [0]
    assert launcher.told[-1] == ("note", "stopped before everything was measured")
    assert "done" not in {kind for kind, _ in launcher.told}


def test_a_checkpoint_that_cannot_be_written_is_told_and_tried_again_later_but_the_last_one_must_be(monkeypatch):
    run = TrainingRun.__new__(TrainingRun)
    run.supervision, run.pace = Launcher(), CheckpointPace(num_bytes=0, most_s=300.0)
    run.config = SimpleNamespace(train=SimpleNamespace(checkpoint_minutes=5.0))

    def fail(run):
        raise RunError("cannot write a checkpoint of step 3: No space left on device")

    monkeypatch.setattr(TrainingRun, "save", fail)
    run._save_if_possible()
    ((kind, text),) = run.supervision.told
    assert kind == "note" and "No space left on device. Training goes on, and tries again in 5 minutes" in text
    assert run.pace.pause_s == 300.0 and not run.pace.is_due(), "not again at the next step"
    with pytest.raises(RunError):
        run.save()
