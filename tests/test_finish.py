"""The end of a run: a wish to stop is heard while it is measured; a full disk in between does not end it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hybrid import finish
from hybrid.checkpoint_pace import CheckpointPace
from hybrid.image_index import ImageIndex
from hybrid.last_save import save_at_last
from hybrid.rundir import RunDirectory
from hybrid.training_run import TrainingRun
from launch.config import RunConfig
from workers.errors import RunError


class Launcher:
    """The trunk's side of a link, on which the wish to stop arrives with the second look."""

    def __init__(self):
        self.told, self.looks, self.stop_asked, self.is_told_to_stop = [], 0, False, False

    def poll(self):
        self.looks += 1
        self.stop_asked = self.looks >= 2
        return []

    def progress(self, phase, text, done=0, total=0):
        self.told.append((phase, text))

    def tell(self, kind, **fields):
        self.told.append((kind, fields.get("text", "")))


def trained(run, launcher):
    """A training at its end."""
    return SimpleNamespace(
        run=run,
        view=None,
        supervision=launcher,
        trainer=SimpleNamespace(head=SimpleNamespace(matrix=None, config=None), progress=SimpleNamespace(step=3)),
        features=None,
        loss_weight_N=None,
        metrics=SimpleNamespace(write=lambda *line: None),
    )


def test_a_wish_to_stop_ends_the_measuring_and_writes_nothing(tmp_path, monkeypatch):
    measured = []

    def measure(*arguments, progress, **named):
        for part in range(5):
            progress("test pictures", part, 5)
            measured.append(part)

    monkeypatch.setattr(finish, "measure_splits", measure)
    monkeypatch.setattr(finish, "score_bias_N", lambda *arguments: None)
    launcher, threads = Launcher(), torch.get_num_threads()
    try:
        finish.finish_run(trained(None, launcher))
    finally:
        torch.set_num_threads(threads)
    assert measured == [0]
    assert launcher.told[-1] == ("note", "stopped before everything was measured")
    assert "done" not in {kind for kind, _ in launcher.told}


@pytest.mark.parametrize("is_validated", [True, False])
def test_without_test_pictures_the_measures_on_validation_pictures_are_told(tmp_path, monkeypatch, is_validated):
    """But there is no gallery, as no picture can be searched."""
    tables = {"valid": {"P@5": 0.5, "popularity": {"P@5": 0.1}}} if is_validated else {}
    index = ImageIndex(np.empty(0, np.int64), np.empty((0, 8), np.float32), "fingerprint", 3)
    monkeypatch.setattr(finish, "measure_splits", lambda *arguments, **named: (tables, index))
    monkeypatch.setattr(finish, "score_bias_N", lambda *arguments: None)
    monkeypatch.setattr(finish, "save_measured", lambda *arguments: True)
    told, threads = {}, torch.get_num_threads()
    launcher = SimpleNamespace(tell=lambda kind, **fields: told.update({kind: fields}))
    try:
        finish.finish_run(trained(RunDirectory(tmp_path), launcher))
    finally:
        torch.set_num_threads(threads)
    assert told.get("metrics") == ({"table": tables} if is_validated else None)
    assert ("nothing to measure" in told["note"]["text"]) is not is_validated
    assert set(told["done"]["outputs"]) == {"checkpoint", "metrics", "tensorboard"}


def test_a_checkpoint_that_cannot_be_written_is_told_and_tried_again_later(monkeypatch):
    run = TrainingRun.__new__(TrainingRun)
    run.supervision, run.pace = Launcher(), CheckpointPace(num_bytes=0, most_s=300.0)
    run.config = SimpleNamespace(train=SimpleNamespace(checkpoint_minutes=5.0))

    def fail(run):
        raise RunError("cannot write a checkpoint of step 3: No space left on device.")

    monkeypatch.setattr(TrainingRun, "save", fail)
    run._save_if_possible()
    ((kind, text),) = run.supervision.told
    assert kind == "note" and "No space left on device. Training goes on, and tries again in 5 minutes" in text
    assert run.pace.pause_s == 300.0 and not run.pace.is_due(), "not again at the next step"


class Disk:
    """Takes the checkpoint of attempt number `room_at`, on a clock that sleeping moves."""

    def __init__(self, monkeypatch, room_at):
        self.now_s, self.attempts_s, self.room_at = 0.0, [], room_at
        monkeypatch.setattr("hybrid.last_save.time", SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.sleep))

    def sleep(self, seconds):
        self.now_s += seconds

    def save(self):
        self.attempts_s.append(self.now_s)
        if len(self.attempts_s) < self.room_at:
            raise RunError("cannot write a checkpoint of step 3: No space left on device.")


@pytest.mark.parametrize("was_stopped", [False, True])
def test_the_last_checkpoint_waits_for_room_and_is_told_once(monkeypatch, was_stopped):
    disk, launcher, served = Disk(monkeypatch, room_at=4), Launcher(), []
    launcher.is_told_to_stop = was_stopped  # before: that is why it is the last one
    save_at_last(disk.save, lambda: served.append(disk.now_s), launcher)
    assert disk.attempts_s == [0, 15, 30, 45]
    (note,) = [text for kind, text in launcher.told if kind == "note"]
    assert "No space left on device. It is the last one, and is tried again every 15 s for 30 minutes" in note
    assert len(served) >= 45 and launcher.told.count(("save", "waiting for room to save the last checkpoint")) >= 45


def test_a_last_checkpoint_that_finds_no_room_in_half_an_hour_fails(monkeypatch):
    disk = Disk(monkeypatch, room_at=10_000)
    with pytest.raises(RunError, match="No space left"):
        save_at_last(disk.save, lambda: None, Launcher())
    assert 1800 < disk.attempts_s[-1] <= 1815


def test_a_wish_to_stop_ends_the_wait_for_room(monkeypatch):
    disk, launcher = Disk(monkeypatch, room_at=10_000), Launcher()

    def serve():
        launcher.is_told_to_stop = disk.now_s >= 20

    with pytest.raises(RunError, match="No space left"):
        save_at_last(disk.save, serve, launcher)
    assert disk.attempts_s[:2] == [0, 15] and len(disk.attempts_s) == 3 and disk.attempts_s[-1] <= 21


def test_workers_that_go_while_the_last_checkpoint_waits_for_room_do_not_end_the_wait(monkeypatch):
    disk, launcher = Disk(monkeypatch, room_at=4), Launcher()

    def serve():
        launcher.stop_asked = True  # the run lacks workers; nobody wishes it to end

    save_at_last(disk.save, serve, launcher)
    assert disk.attempts_s == [0, 15, 30, 45]


@pytest.mark.parametrize(("num_steps", "is_saved"), [(0, False), (2, True)])
def test_a_run_that_is_stopped_before_its_first_step_saves_nothing(monkeypatch, num_steps, is_saved):
    """Its checkpoint would make it the `last` run, and hide those that learned something."""
    saved, progress = [], SimpleNamespace(step=7)  # of a run that was resumed

    def fit(batches, on_step, should_stop):
        progress.step += num_steps
        run.supervision.stop_asked = True

    run = TrainingRun.__new__(TrainingRun)
    run.config = RunConfig(workers=1)
    run.supervision = Launcher()
    run.supervision.stop_asked = not num_steps
    router = SimpleNamespace(wait_ready=lambda *limits: None, workers=list, service=lambda: None)
    run.head = SimpleNamespace(
        router=router, matrix=SimpleNamespace(worker_stats_WS=np.zeros((1, 1)), fill_limit_s=0.0)
    )
    run.trainer = SimpleNamespace(
        progress=progress,
        fraction=0.5,
        threads=None,
        device=torch.device("cpu"),
        precision=torch.float32,
        uses_cuda_graphs=False,
        fit=fit,
    )
    run.reporter = SimpleNamespace(finish=lambda: None)
    monkeypatch.setattr("hybrid.training_run.warm_up_report", lambda stats: "")
    monkeypatch.setattr(TrainingRun, "_epoch", lambda run: iter(()))
    monkeypatch.setattr(TrainingRun, "save", lambda run: saved.append(progress.step))
    assert run.train() is False
    assert saved == ([9] if is_saved else [])
    assert any("nothing is saved" in text for _, text in run.supervision.told) is not is_saved


def test_a_wish_to_stop_ends_the_wait_for_workers(monkeypatch):
    """Kernels that are compiled take half a minute, and a large matrix takes longer to fill."""
    run = TrainingRun.__new__(TrainingRun)
    run.config = RunConfig(workers=9)
    run.supervision = Launcher()

    def wait_ready(num_workers, limit_s, give_up):
        while not give_up():
            run.supervision.poll()

    run.head = SimpleNamespace(
        router=SimpleNamespace(wait_ready=wait_ready, workers=list),
        matrix=SimpleNamespace(fill_limit_s=0.0, worker_stats_WS=np.zeros((1, 16))),
    )
    run.trainer = SimpleNamespace(
        progress=SimpleNamespace(step=0),
        fraction=0.0,
        threads=None,
        device=torch.device("cpu"),
        precision="float32",
        uses_cuda_graphs=False,
    )
    run.reporter = SimpleNamespace(finish=lambda: None)
    assert run.train() is False
    assert [kind for kind, _ in run.supervision.told] == ["workers"] * 3 + ["note"] * 2
    assert "nothing is saved" in run.supervision.told[-1][1]


def test_workers_and_launcher_are_heard_while_a_checkpoint_is_written():
    """A worker that is scaled away meanwhile is let go, instead of being killed and taken for lost."""
    run, served = TrainingRun.__new__(TrainingRun), []
    run.supervision = Launcher()
    run.head = SimpleNamespace(router=SimpleNamespace(service=lambda: served.append(len(run.supervision.told))))
    run._while_saving(1, 3)
    assert run.supervision.told == [("save", "saving a checkpoint")] and served == [1]
