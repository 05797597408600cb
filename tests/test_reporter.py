"""What a training tells of itself at its end, and of chunks that lost workers had."""

from types import SimpleNamespace

import pytest

import hybrid.reporter
from hybrid.reporter import Reporter
from hybrid.schedule import Budget
from hybrid.trainer import StepReport
from workers.router_counters import RouterCounters


class Training:
    """A reporter of a training of 100 examples, ten a step, whose clock stands still unless it is moved."""

    def __init__(self, monkeypatch):
        self.now_s, self.told = 100.0, []
        monkeypatch.setattr(hybrid.reporter, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        monkeypatch.setattr(hybrid.reporter, "WorkerPhases", lambda matrix: SimpleNamespace(take=lambda places: {}))
        self.progress = SimpleNamespace(step=0, num_examples=0, used_s=0.0)
        self.budget = Budget(epochs=1.0, minutes=None, num_items=100)
        self.head, self.device, self.tuner = SimpleNamespace(matrix=None, num_negatives=8), "cpu", None
        self.counters = RouterCounters()
        router = SimpleNamespace(counters=self.counters, workers=list)
        supervision = SimpleNamespace(tell=lambda kind, **fields: self.told.append((kind, fields)))
        self.reporter = Reporter(self, router, supervision, SimpleNamespace(write=lambda *line: None))

    @property
    def fraction(self):
        return self.budget.fraction(self.progress.num_examples)

    def make_step(self, loss):
        report = StepReport(loss, 10, lr=1e-3, row_lr=1e-2, fraction=self.fraction, num_chunks=2)
        self.progress.step += 1
        self.progress.num_examples += 10
        self.reporter.add(report)

    def last(self, kind):
        return [fields for told, fields in self.told if told == kind][-1]


@pytest.fixture
def training(monkeypatch):
    return Training(monkeypatch)


def test_the_last_frame_shows_the_final_step_with_the_budget_spent(training):
    for step in range(10):
        training.make_step(loss=float(step))
    assert training.last("step")["step"] == 1, "others came too soon after it"
    training.reporter.finish()
    last = training.last("step")
    assert (last["step"], last["fraction"], last["epoch"], last["eta_s"]) == (10, 1.0, 1.0, 0.0)
    assert last["loss"] == 5.0, "the mean of those that were not shown yet"


def test_a_last_step_that_was_shown_already_is_shown_at_its_end(training):
    for _ in range(10):
        training.now_s += 1.0
        training.make_step(loss=3.0)
    shown = training.last("step")
    assert (shown["step"], shown["fraction"]) == (10, 0.9)
    training.reporter.finish()
    assert training.last("step") == {**shown, "fraction": 1.0}


def test_a_training_that_was_stopped_ends_where_it_is(training):
    for _ in range(3):
        training.make_step(loss=3.0)
    training.reporter.finish()
    assert (training.last("step")["step"], training.last("step")["fraction"]) == (3, 0.3)


def test_a_training_without_a_step_tells_none(training):
    training.reporter.finish()
    assert training.told == []


def test_chunks_that_are_sent_again_are_told_once_and_only_if_there_are_any(training):
    training.counters.workers_lost = 1
    training.make_step(loss=3.0)
    assert not [kind for kind, _ in training.told if kind == "note"]
    training.counters.chunks_resent = 2
    for _ in range(2):
        training.make_step(loss=3.0)
    training.counters.chunks_resent = 3
    training.make_step(loss=3.0)
    notes = [fields["text"] for kind, fields in training.told if kind == "note"]
    assert notes == [
        "2 unanswered chunks were sent again, to other workers",
        "1 unanswered chunk was sent again, to other workers",
    ]
