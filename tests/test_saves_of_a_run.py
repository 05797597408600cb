"""What a run saves: what it learned before workers or pictures failed, and its last step once."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hybrid.checkpoint import newest_whole_checkpoint
from hybrid.checkpoint_pace import CheckpointPace
from hybrid.head import WideHead
from hybrid.rundir import RunDirectory
from hybrid.tag_batch import TagBatch
from hybrid.trainer import Progress, Trainer
from hybrid.training_run import TrainingRun
from hybrid.upload import Upload
from launch.config import DataConfig, RunConfig, TrainConfig
from launch.run_settings import propose_config, read_config, write_config
from workers.config import HeadConfig
from workers.endpoint import make_endpoint, remove_endpoint
from workers.errors import DataError, RunError, WorkerLost
from workers.matrix import TagMatrix
from workers.matrix_io import open_rows
from workers.pool import WorkerPool
from workers.router import Router

NUM_TAGS, D, SIDE, NUM_ITEMS, BATCH = 12, 8, 8, 16, 4
HEAD = HeadConfig(negatives=4)


@pytest.fixture(scope="module")
def workers():
    """A matrix with the true tags of all items, as the launcher makes it, an endpoint and a worker."""
    truth = TagBatch.of([[i % NUM_TAGS] for i in range(NUM_ITEMS)], NUM_TAGS)
    matrix = TagMatrix.create(NUM_TAGS, D, config=HEAD, item_offsets=truth.offsets, item_tags=truth.ids)
    with contextlib.ExitStack() as stack:
        stack.callback(matrix.close)
        endpoint = make_endpoint()
        stack.callback(remove_endpoint, endpoint)
        pool = WorkerPool(matrix, endpoint, 1)
        stack.callback(pool.close)
        router = Router(endpoint, head=HEAD, matrix=matrix, membership=pool)
        head = WideHead.attached(matrix, router, HEAD, positives=1, seed=0)
        stack.callback(head.close)
        yield head


class Launcher:
    """The trunk's side of a link that nobody is at the other end of."""

    def __init__(self):
        self.stop_asked, self.is_told_to_stop, self.notes = False, False, []

    def tell(self, kind, text="", **fields):
        if kind == "note":
            self.notes.append(text)

    def progress(self, phase, text, done=0, total=0):
        pass


@pytest.fixture
def run(workers, tmp_path, monkeypatch):
    """A run of three epochs of four batches each."""
    pictures = np.random.default_rng(0).integers(0, 256, (NUM_ITEMS, SIDE, SIDE, 3), np.uint8)

    def batches(view, order, batch_size, processes, empty):
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size], pictures[order[start : start + batch_size]]

    monkeypatch.setattr("hybrid.training_run.batches", batches)
    return make_run(workers, tmp_path)


def make_run(head, folder, progress=None):
    run = TrainingRun.__new__(TrainingRun)
    config = TrainConfig(batch_size=BATCH, epochs=3.0, augment=False, checkpoint_minutes=60.0)
    run.head, run.supervision, run.config = head, Launcher(), RunConfig(train=config, data=DataConfig(image_size=SIDE))
    run.run = RunDirectory(folder)
    run.view = SimpleNamespace(train_items=np.arange(NUM_ITEMS))
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, D), nn.BatchNorm1d(D))
    run.trainer = Trainer(
        trunk, head, config, num_items=NUM_ITEMS, device="cpu", precision="float32", progress=progress or Progress()
    )
    run.upload = Upload(run.trainer.device, run._inputs)
    head.step = run.trainer.progress.step
    run.reporter = SimpleNamespace(add=lambda report: None, finish=lambda: None)
    run.validation = SimpleNamespace(after_step=lambda: None)
    run.pace = CheckpointPace(num_bytes=0, most_s=3600.0)
    return run


def fail_at(monkeypatch, run, at, error):
    """The call number `at` of the head's `collect` fails: the second micro-batch of a step is an odd one."""
    collect, calls = run.head.collect, []

    def failing(ticket, *limits):
        calls.append(ticket)
        if len(calls) - 1 == at:
            raise error
        return collect(ticket, *limits)

    monkeypatch.setattr(run.head, "collect", failing)


def seen_by(run):
    """The items of the batches that a run asks for from now on."""
    items, followed = [], run._followed

    def noting(epoch):
        for images, tags in followed(epoch):
            items.append(tags.items_B.tolist())
            yield images, tags

    run._followed = noting
    return items


def test_workers_that_do_not_answer_cost_the_step_alone(run, workers, tmp_path, monkeypatch):
    """The batch of the step that failed is the first that the resumed run learns from."""
    fail_at(monkeypatch, run, at=11, error=WorkerLost("no answer."))  # in the middle of step 6, the second of epoch 1
    asked = seen_by(run)
    with pytest.raises(WorkerLost, match=r"no answer\. What was learned up to step 5 is saved\.$"):
        run.train()
    monkeypatch.undo()
    saved = newest_whole_checkpoint(tmp_path / "checkpoints")
    progress = Progress(**saved.progress)
    assert (saved.step, progress.step, progress.epoch, progress.num_examples) == (5, 5, 1, 20)
    assert progress.last_item == asked[4][-1]
    assert len(asked) == 6
    resumed = make_run(workers, tmp_path, progress)
    monkeypatch.setattr("hybrid.training_run.batches", lambda view, order, *rest: iter([(order[:BATCH], PIXELS)]))
    ((_, tags),) = resumed._epoch()
    assert tags.items_B.tolist() == asked[5]


PIXELS = np.zeros((BATCH, SIDE, SIDE, 3), np.uint8)


def test_a_first_step_of_an_epoch_that_fails_begins_the_epoch_again(run, tmp_path, monkeypatch):
    fail_at(monkeypatch, run, at=8, error=WorkerLost("no answer."))
    with pytest.raises(WorkerLost, match="What was learned up to step 4 is saved"):
        run.train()
    progress = Progress(**newest_whole_checkpoint(tmp_path / "checkpoints").progress)
    assert (progress.step, progress.epoch, progress.num_examples_of_epoch, progress.last_item) == (4, 1, 0, None)


def test_pictures_that_cannot_be_read_any_more_cost_nothing_that_was_learned(run, tmp_path, monkeypatch):
    def batches(view, order, batch_size, processes, empty):
        asked.append(order[:BATCH].tolist())
        yield order[:BATCH], PIXELS
        raise DataError("reading pictures failed: a process was killed.")

    asked = []
    monkeypatch.setattr("hybrid.training_run.batches", batches)
    with pytest.raises(DataError, match=r"a process was killed\. What was learned up to step 1 is saved\."):
        run.train()
    saved = newest_whole_checkpoint(tmp_path / "checkpoints")
    assert saved.step == 1 and saved.progress["last_item"] == asked[0][-1]
    rows = open_rows(saved.matrix_folder)
    np.testing.assert_array_equal(rows.rows(0, NUM_TAGS), run.head.matrix.rows_ND)
    trunk = saved.trunk_tensors()
    assert all(torch.equal(trunk[name], tensor) for name, tensor in run.trainer.trunk.state_dict().items())


def test_a_failure_before_the_first_step_saves_nothing(run, tmp_path, monkeypatch):
    fail_at(monkeypatch, run, at=1, error=WorkerLost("no answer."))
    with pytest.raises(WorkerLost, match=r"^no answer\.$"):
        run.train()
    assert not (tmp_path / "checkpoints").exists()


def settings_of_checkpoints(run, monkeypatch):
    """What the run says that it learned with, each time before a checkpoint is written."""
    seen, save = [], TrainingRun.save
    monkeypatch.setattr(TrainingRun, "save", lambda self: seen.append(read_config(run.run.path)) or save(self))
    monkeypatch.setattr(CheckpointPace, "is_due", lambda pace: True)
    return seen


def test_a_step_makes_the_settings_of_a_resume_those_of_the_run_before_anything_is_saved(run, tmp_path, monkeypatch):
    before, proposed = RunConfig(workers=1), RunConfig(workers=2)
    write_config(tmp_path, before)
    propose_config(tmp_path, proposed)
    assert RunDirectory(tmp_path).config() == before and RunDirectory(tmp_path).launched_config() == proposed
    seen = settings_of_checkpoints(run, monkeypatch)
    assert run.train() is True
    assert seen == [proposed] * 12 and read_config(tmp_path) == RunDirectory(tmp_path).launched_config() == proposed


def test_a_failure_before_the_first_step_leaves_the_settings_of_a_run(run, tmp_path, monkeypatch):
    write_config(tmp_path, RunConfig(workers=1))
    propose_config(tmp_path, RunConfig(workers=2))
    fail_at(monkeypatch, run, at=1, error=WorkerLost("no answer."))
    with pytest.raises(WorkerLost):
        run.train()
    assert read_config(tmp_path).workers == 1


def test_what_cannot_be_saved_after_a_failure_is_said_and_the_failure_stays(run, tmp_path, monkeypatch):
    def fail(run):
        raise RunError("no space left.")

    fail_at(monkeypatch, run, at=3, error=WorkerLost("no answer."))
    monkeypatch.setattr(TrainingRun, "save", fail)
    with pytest.raises(WorkerLost, match=r"no answer\. What was learned since .* is lost: no space left\.$"):
        run.train()


def count_saves(monkeypatch):
    """Every step is saved; the list takes what each checkpoint says of its progress."""
    saves = []
    monkeypatch.setattr("hybrid.training_run.save_checkpoint", lambda *place, progress, **parts: saves.append(progress))
    monkeypatch.setattr(CheckpointPace, "is_due", lambda pace: True)
    return saves


@pytest.mark.parametrize("is_failure", [False, True])
def test_a_step_that_was_saved_is_not_saved_again(run, monkeypatch, is_failure):
    """A wish to stop, or a failure of the next step, finds nothing new to write."""
    saves = count_saves(monkeypatch)
    if is_failure:
        fail_at(monkeypatch, run, at=5, error=WorkerLost("no answer."))
        with pytest.raises(WorkerLost, match="up to step 2 is saved"):
            run.train()
    else:
        monkeypatch.setattr(run.pace, "saved", lambda seconds: setattr(run.supervision, "stop_asked", len(saves) == 2))
        assert run.train() is False
    assert [progress["step"] for progress in saves] == [1, 2]


@pytest.mark.parametrize("is_periodic", [False, True])
def test_the_last_checkpoint_of_a_spent_budget_says_so(run, monkeypatch, is_periodic):
    """Also if it is spent after the step: while validation pictures are measured, or a checkpoint is written."""
    saves, budget = count_saves(monkeypatch), run.trainer.budget
    monkeypatch.setattr(CheckpointPace, "is_due", lambda pace: is_periodic)
    budget.total_examples, budget.total_s = None, 3600.0

    def spend():
        if run.trainer.progress.step == 2:
            budget._earlier_s = 7200.0

    if is_periodic:
        monkeypatch.setattr(run.pace, "saved", lambda seconds: spend())
    else:
        run.validation.after_step = spend
    assert run.train() is True
    assert [progress["step"] for progress in saves] == ([1, 2, 2] if is_periodic else [2])
    assert [progress["used_s"] >= 3600 for progress in saves] == [False] * (len(saves) - 1) + [True]
