"""Heads for queries alone: nothing is started for them, what needs workers is refused, `scale` starts some."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from test_head import TAGS, D, N, make_features, make_head, parameters_of
from torch import nn
from worker_system import wait_for_exit

import hybrid.own_workers
from hybrid import Pipeline, TrainConfig, Trainer, WideHead
from workers.errors import ConfigError, HeadClosed, WorkerLost


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a head that has learned a little, and what it answered then."""
    folder = tmp_path_factory.mktemp("trained")
    with make_head() as head:
        head(make_features(), TAGS)
        head.save(folder)
        answers = head.topk(make_features(), k=5), head.rows(range(N)), head.score_bias_N()
        yield folder, answers, parameters_of(head), head(make_features(seed=9), TAGS).item()


@pytest.fixture
def loaded(trained):
    with WideHead.load(trained[0], workers=0) as head:
        yield head


def refuse(*_, **__):
    pytest.fail("something was started, or made, for workers")


def test_it_answers_what_the_head_answered_and_nothing_was_started_for_it(trained, tmp_path, monkeypatch):
    folder, (best, rows, bias_N), parameters, _ = trained
    for name in ("Ring.create", "Router", "WorkerPool", "make_endpoint"):
        monkeypatch.setattr(f"workers.ring.{name}" if "." in name else f"hybrid.own_workers.{name}", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with WideHead.load(folder, workers=0) as head:
        for got, expected in zip(head.topk(make_features(), k=5), best, strict=True):
            assert torch.equal(got, expected)
        assert torch.equal(head.rows(range(N)), rows)
        np.testing.assert_array_equal(head.score_bias_N(), bias_N)
        assert repr(head).endswith("workers=0)")
        head.save(tmp_path / "copy")
    with WideHead.load(tmp_path / "copy", workers=0) as copy:
        assert parameters_of(copy) == parameters and copy.step == 1
    with WideHead(num_tags=N, dim=D, workers=0) as fresh:
        assert np.isfinite(fresh.rows(range(N)).numpy()).all()


def test_what_needs_workers_is_refused_before_anything_moves(loaded):
    trunk, images = nn.Sequential(nn.BatchNorm1d(D), nn.Linear(D, D)), torch.randn(len(TAGS), D)
    config = TrainConfig(batch_size=len(TAGS), epochs=1)
    before, still, seen = parameters_of(loaded), loaded._still.take(loaded.step, 1), trunk[0].num_batches_tracked.item()
    calls = [
        lambda: loaded(make_features(), TAGS),
        lambda: loaded.eval()(make_features(), TAGS),
        lambda: loaded.train().submit(make_features().numpy(), TAGS, update=True),
        lambda: loaded.draw((len(TAGS), D), TAGS, update=False),
        lambda: Pipeline(trunk, loaded).backward(images, TAGS),
        lambda: Trainer(trunk, loaded, config, num_items=len(TAGS), device="cpu"),
        lambda: loaded.router,
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"this head has no workers.*call head\.scale\(1\)"):
            call()
    assert parameters_of(loaded) == before and loaded.step == 1
    assert loaded._still.take(loaded.step, 1) == still + 1, "a refused call took numbers of chunks"
    assert trunk[0].num_batches_tracked.item() == seen, "the trunk computed for a call that was refused"


def test_once_scaled_it_goes_on_as_the_head_did_and_close_ends_its_workers(trained):
    with WideHead.load(trained[0], workers=0) as head:
        for bad in (-1, 1000):
            with pytest.raises(ConfigError, match=f"workers = {bad}, but it must be between 0 and "):
                head.scale(bad)
        with pytest.raises(ConfigError, match="whole number"):
            head.scale(1.5)
        head.scale(0)
        assert repr(head).endswith("workers=0)")  # and nothing is left of these attempts
        head.scale(2)
        assert head(make_features(seed=9), TAGS).item() == pytest.approx(trained[3], rel=1e-6)
        assert head.step == 2 and repr(head).endswith("workers=2)")
        head.scale(1)
        Pipeline(nn.Linear(D, D), head).backward(torch.randn(len(TAGS), D), TAGS)
        pids = [worker.pid for worker in head._own.pool.workers]
        directory = Path(head.router.endpoint.removeprefix("ipc://")).parent
        assert directory.is_dir()
    assert wait_for_exit(pids) == [] and not directory.exists()


def test_one_that_has_learned_goes_on_without_workers_and_with_new_ones(tmp_path):
    with make_head() as head:
        first = head(make_features(), TAGS).item()
        ticket = head.submit(make_features().numpy(), TAGS, update=False)
        with pytest.raises(ConfigError, match="workers = 0, but 2 chunks are in flight: collect"):
            head.scale(0)
        answered = head.submit(make_features().numpy(), TAGS, update=False)
        head.collect(ticket)
        head.router.collect(ticket := answered, 60)
        pids, directory = [w.pid for w in head._own.pool.workers], Path(head.router.endpoint.removeprefix("ipc://"))
        before = parameters_of(head)
        head.scale(0)
        assert wait_for_exit(pids) == [] and not directory.parent.exists() and repr(head).endswith("workers=0)")
        assert np.isfinite(head.collect(ticket).loss_B).all(), "what was answered before may be collected"
        assert head.topk(make_features(), k=3)[0].shape == (5, 3) and parameters_of(head) == before
        with pytest.raises(ConfigError, match=r"or scaled to 0.*head\.scale\(1\)"):
            head(make_features(), TAGS)
        head.save(tmp_path)
        head.scale(1)
        losses = [head(make_features(), TAGS).item() for _ in range(20)]
        assert head.step == 21 and np.mean(losses[-5:]) < first
        assert parameters_of(head) != before
    with WideHead.load(tmp_path, workers=0) as saved:
        assert parameters_of(saved) == before


def test_workers_that_do_not_join_leave_a_head_that_answers_and_can_be_scaled_again(loaded, monkeypatch):
    monkeypatch.setattr(hybrid.own_workers, "_JOIN_LIMIT_S", 0.0)
    with pytest.raises(WorkerLost, match="2 workers in vain"):
        loaded.scale(2)
    assert loaded.topk(make_features(), k=1)[0].shape == (5, 1) and repr(loaded).endswith("workers=0)")
    monkeypatch.undo()
    loaded.scale(1)
    assert np.isfinite(loaded(make_features(), TAGS).item())


def test_a_closed_one_says_so(loaded):
    loaded.close()
    loaded.close()
    for call in (lambda: loaded(make_features(), TAGS), lambda: loaded.scale(1), lambda: loaded.scale(0)):
        with pytest.raises(HeadClosed):
            call()


def test_its_settings_are_checked_though_no_worker_uses_them(trained):
    with pytest.raises(ConfigError, match="transport = 'rng', but it must be one of ring, zmq"):
        WideHead.load(trained[0], workers=0, transport="rng")


def test_processes_that_work_together_may_each_have_one(trained, monkeypatch):
    """They share no training: each reads alone. Workers on it would train rows that the others do not see."""

    def several():
        raise ConfigError("several")

    monkeypatch.setattr(hybrid.own_workers, "check_alone", several)
    with WideHead.load(trained[0], workers=0) as head:
        assert head.rows([0]).shape == (1, D)
        with pytest.raises(ConfigError, match="several"):
            head.scale(1)
