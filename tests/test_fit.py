"""`Trainer.fit`: schedules, budgets, rounds, and what it leaves behind."""

import contextlib
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_trainer import D, N, make_batch, make_trainer

import hybrid.schedule
from hybrid.head import WideHead
from workers.errors import DataError

ROW_LR = 0.02


@pytest.fixture(scope="module")
def shared_head():
    with WideHead(num_tags=N, dim=D, workers=1, negatives=8, chunk_size=4, row_lr=ROW_LR) as head:
        yield head


@pytest.fixture
def head(shared_head):
    shared_head.step = 0
    return shared_head


def test_rates_of_trunk_and_rows_follow_one_schedule(head):
    trainer = make_trainer(head)  # 80 examples: 8 steps, 2 of them warm-up
    reports = []
    trainer.fit((make_batch(seed=i) for i in itertools.count()), reports.append)
    middles = (np.arange(8) + 0.5) / 8
    factors = [*middles[:2] / 0.25, *(0.5 * (1 + np.cos(np.pi * (middles[2:] - 0.25) / 0.75)))]
    assert [report.fraction for report in reports] == [i / 8 for i in range(8)]
    np.testing.assert_allclose([report.lr for report in reports], 0.01 * np.array(factors))
    np.testing.assert_allclose([report.row_lr for report in reports], 0.02 * np.array(factors))
    assert trainer.fraction == 1.0 and trainer.progress.step == head.step == 8


def test_a_budget_in_minutes_ends_by_the_clock(head, monkeypatch):
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(hybrid.schedule, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    trainer = make_trainer(head, minutes=1.0)
    reports = []
    trainer.fit((make_batch(seed=i) for i in itertools.count()), reports.append)
    assert 2 <= len(reports) <= 12
    assert trainer.fraction >= 1 and reports[-1].fraction < 1
    assert trainer.progress.used_s <= 60 + 5 * 6


def test_between_two_fits_no_budget_is_used(head, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(hybrid.schedule, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def learn_for_a_while(report):
        now[0] += 20

    trainer = make_trainer(head, minutes=1.0)
    trainer.fit(iter([make_batch()]), learn_for_a_while)
    now[0] += 1000  # somebody evaluates, or waits for room on a disk
    assert trainer.budget.used_s == 20
    trainer.fit(iter(5 * [make_batch()]), learn_for_a_while)
    assert trainer.progress.step == 3 and trainer.budget.used_s == 60


def test_a_budget_of_one_step_learns(head):
    trainer = make_trainer(head, num_items=10, epochs=1.0)
    before = [p.detach().clone() for p in trainer.trunk.parameters()]
    rows = head.rows(range(N)).clone()
    trainer.fit([make_batch()])
    assert trainer.progress.step == 1 and not torch.equal(head.rows(range(N)), rows)
    assert all(not torch.equal(p, old) for p, old in zip(trainer.trunk.parameters(), before, strict=True))


def test_a_batch_that_a_collate_function_could_not_make_is_no_end_of_the_data(head):
    with pytest.raises(DataError, match="a batch is a NoneType; expected"):
        make_trainer(head).fit(iter([make_batch(), None, make_batch()]))


class Batches(torch.utils.data.Dataset):
    """Three ready batches."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return make_batch(seed=range(3)[index])


@pytest.mark.parametrize("make", [list, lambda batches: torch.utils.data.DataLoader(batches, batch_size=None)])
def test_fit_reads_batches_in_rounds_until_the_budget_is_spent(head, make):
    """80 examples in rounds of 30: two rounds, and two steps of the third."""
    trainer, reports = make_trainer(head), []
    trainer.fit(make(Batches()), reports.append)
    assert len(reports) == 8 and trainer.fraction == 1.0
    progress = trainer.progress
    assert (progress.epoch, progress.num_examples, progress.num_examples_of_epoch) == (2, 80, 20)
    assert reports[-1].lr < 0.1 * max(report.lr for report in reports), "the schedule is gone through"


def test_fit_reads_in_rounds_until_the_minutes_are_over(head, monkeypatch):
    clock = itertools.count(step=5)
    monkeypatch.setattr(hybrid.schedule, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    trainer = make_trainer(head, minutes=2.0)
    trainer.fit([make_batch()])
    assert trainer.fraction >= 1 and trainer.progress.step > 1


class OnceOnly:
    """What looks as if it could be read again."""

    def __init__(self, iterator):
        self.iterator = iterator

    def __iter__(self):
        return self.iterator


def test_batches_that_are_nothing_are_an_error_not_a_hang(head):
    with pytest.raises(DataError, match="gave none after step 0"):
        make_trainer(head).fit([])
    once = iter([make_batch()])
    with pytest.raises(DataError, match="gave none after step 1"):
        make_trainer(head).fit(OnceOnly(once))


def test_fit_ends_with_an_iterator_or_when_asked(head):
    trainer = make_trainer(head)
    trainer.fit(iter([make_batch(), make_batch()]))
    assert trainer.progress.step == 2 and trainer.progress.epoch == 0
    trainer.fit(iter(()))
    assert trainer.progress.step == 2
    reports = []
    trainer.fit((make_batch() for _ in range(5)), reports.append, should_stop=lambda: len(reports) == 1)
    assert trainer.progress.step == 3
    trainer.fit([make_batch()], should_stop=lambda: True)
    assert trainer.progress.step == 3


def test_rows_learn_at_their_own_rate_again_after_fit(head):
    trainer, rates = make_trainer(head), []
    trainer.fit([make_batch()], lambda report: rates.append(head.row_lr))
    assert rates[-1] < 0.1 * ROW_LR and head.row_lr == ROW_LR


@pytest.mark.parametrize("is_loaded", [False, True])
def test_the_schedule_starts_from_the_rate_that_was_set_on_the_head_or_saved_with_it(head, tmp_path, is_loaded):
    """Also where it was saved in the middle of a schedule, and however often it trains."""
    head.row_lr = 4 * ROW_LR
    if is_loaded:
        make_trainer(head).step(*make_batch())
        assert head.row_lr == ROW_LR, "a quarter of the peak, in the first step of a warm-up"
        head.save(tmp_path)
    with WideHead.load(tmp_path, workers=1) if is_loaded else contextlib.nullcontext(head) as tuned:
        trainer, reports = make_trainer(tuned, num_items=40), []
        for _ in range(2):
            trainer.fit(iter(4 * [make_batch()]), reports.append)
            assert tuned.row_lr == 4 * ROW_LR
        middles = (np.arange(8) + 0.5) / 8
        factors = [*middles[:2] / 0.25, *(0.5 * (1 + np.cos(np.pi * (middles[2:] - 0.25) / 0.75)))]
        np.testing.assert_allclose([report.row_lr for report in reports], 4 * ROW_LR * np.array(factors))
        assert tuned.config.row_lr == ROW_LR
    head.row_lr = ROW_LR


def test_a_rate_that_is_set_between_steps_is_the_new_peak(head):
    trainer = make_trainer(head, warmup_fraction=0.0)
    trainer.step(*make_batch())
    head.row_lr = 3 * ROW_LR
    assert head.row_lr == 3 * ROW_LR
    report = trainer.step(*make_batch())
    assert report.row_lr == pytest.approx(3 * ROW_LR * 0.5 * (1 + math.cos(math.pi * 1.5 / 8)))
    head.row_lr = ROW_LR


def test_rows_learn_at_their_own_rate_again_after_an_error(head):
    def fail(report):
        assert head.row_lr == 0.25 * ROW_LR, "the first step of a warm-up"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_trainer(head).fit([make_batch()], fail)
    assert head.row_lr == ROW_LR
