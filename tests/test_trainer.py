"""Steps of the training loop: groups of parameters, clipping, micro-batches, where it goes on."""

import contextlib
import dataclasses
import itertools
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hybrid.augment import Augmentation, Augmenter
from hybrid.head import WideHead
from hybrid.negatives_tuner import NegativesTuner
from hybrid.optimizer_step import make_optimizer
from hybrid.reporter import Reporter
from hybrid.thread_tuner import ThreadTuner
from hybrid.trainer import Progress, Trainer
from hybrid.training_run import TrainingRun
from hybrid.trunks import build_trunk
from hybrid.upload import Upload
from launch.config import RunConfig, TrainConfig, TrunkConfig
from workers.errors import ConfigError, DataError

N, D, INPUTS = 30, 8, 5


@pytest.fixture(scope="module")
def shared_head():
    with WideHead(num_tags=N, dim=D, workers=1, negatives=8, chunk_size=4, row_lr=0.02) as head:
        yield head


@pytest.fixture
def head(shared_head):
    shared_head.step, shared_head.num_negatives = 0, shared_head.config.negatives
    return shared_head


def make_batch(size=10, seed=0):
    rng = np.random.default_rng(seed)
    return torch.randn(size, INPUTS), [rng.choice(N, 3, replace=False).tolist() for _ in range(size)]


def make_trainer(head, *, trunk=None, num_items=40, progress=None, prepare=None, **config):
    settings = {"batch_size": 10, "microbatches": 3, "lr": 0.01, "warmup_fraction": 0.25}
    if "minutes" not in config:
        settings["epochs"] = 2.0
    trunk = trunk or nn.Linear(INPUTS, D)
    given = TrainConfig(**{**settings, **config})
    return Trainer(
        trunk, head, given, num_items=num_items, device="cpu", precision="float32", progress=progress, prepare=prepare
    )


def test_what_a_step_tells_of_its_epoch_is_the_part_that_is_done(head):
    told, trainer = [], make_trainer(head, num_items=40)
    supervision = SimpleNamespace(tell=lambda kind, **fields: told.append(fields["epoch"]))
    for _ in range(5):  # of ten examples each
        metrics = SimpleNamespace(write=lambda *line: None)
        Reporter(trainer, head.router, supervision, metrics).add(trainer.step(*make_batch()))
    assert told == [0.25, 0.5, 0.75, 1.0, 1.25]


def test_what_the_router_counts_is_in_the_log_of_metrics(head, monkeypatch):
    counts = {"chunks_in_frames": 7, "replies_ignored": 8, "messages_ignored": 9, "workers_lost": 10}
    trainer, written = make_trainer(head), {}
    report = trainer.step(*make_batch())
    for name, count in counts.items():
        monkeypatch.setattr(head.router.counters, name, count)
    supervision = SimpleNamespace(tell=lambda kind, **fields: None)
    metrics = SimpleNamespace(write=lambda step, kind, values: written.update(values))
    Reporter(trainer, head.router, supervision, metrics).add(report)
    assert counts.items() <= written.items()


@pytest.mark.parametrize(("on_device", "wait_s"), [({}, 0.0), ({"wait": 0.002, "forward": 1.0}, 0.002)])
def test_a_card_waits_only_while_it_idles(head, on_device, wait_s):
    """The host waits for workers while the card computes what was queued before: that is no waiting of the trunk."""
    trainer, host_waits = make_trainer(head), []
    trainer.pipeline.spans = SimpleNamespace(
        phase=lambda name: contextlib.nullcontext(), end_step=lambda host_s: host_waits.append(host_s) or on_device
    )
    report = trainer.step(*make_batch())
    assert report.wait_s == wait_s and host_waits == [report.seconds["wait"]]


def test_what_the_trunk_waited_is_told_by_its_own_clock(head):
    told, written, trainer = [], [], make_trainer(head)
    supervision = SimpleNamespace(tell=lambda kind, **fields: told.append(fields["wait_fraction"]))
    metrics = SimpleNamespace(write=lambda step, kind, values: written.append(values["wait_fraction"]))
    report = trainer.step(*make_batch())
    assert report.wait_s == report.seconds["wait"], "a trunk on the CPU waits as its host does"
    report = dataclasses.replace(report, seconds={"forward": 6.0, "wait": 4.0}, wait_s=1.0)
    Reporter(trainer, head.router, supervision, metrics).add(report)
    assert told == written == [0.1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_trunk_on_a_card_is_timed_by_it(head):
    trainer = Trainer(nn.Linear(INPUTS, D), head, TrainConfig(epochs=1.0), num_items=40, device="cuda")
    start_s = time.perf_counter()
    reports = [trainer.step(*make_batch()) for _ in range(3)]
    seconds = time.perf_counter() - start_s
    assert trainer.pipeline.spans is not None and all(0 <= r.wait_s <= seconds for r in reports)


def test_only_matrices_and_filters_decay():
    trunk = build_trunk(TrunkConfig(dim=16), 32)
    decay_of = {}
    for group in make_optimizer(trunk, TrainConfig(weight_decay=0.3)).param_groups:
        decay_of |= {id(p): group["weight_decay"] for p in group["params"]}
    for name, parameter in trunk.named_parameters():
        owner = trunk.get_submodule(name.rpartition(".")[0])
        is_bare = name.endswith("bias") or isinstance(owner, nn.BatchNorm2d | nn.LayerNorm)
        assert decay_of[id(parameter)] == (0.0 if is_bare else 0.3), name
    assert len(decay_of) == len(list(trunk.parameters()))


def test_decay_shrinks_weights_and_leaves_biases(head):
    """With inputs of zero the weights have no gradient: only decay can move them."""
    trunk = nn.Linear(INPUTS, D)
    before = trunk.weight.detach().clone()
    trainer = make_trainer(head, trunk=trunk, weight_decay=0.5, warmup_fraction=0.0, lr=0.1)
    lr = trainer.step(torch.zeros(10, INPUTS), make_batch()[1]).lr
    torch.testing.assert_close(trunk.weight.detach(), before * (1 - lr * 0.5))
    assert 0.09 < lr < 0.1


def test_frozen_parameters_are_not_given_to_the_optimizer(head):
    trunk = nn.Sequential(nn.Linear(INPUTS, 4), nn.Linear(4, D))
    trunk[0].requires_grad_(False)
    before = trunk[0].weight.clone()
    trainer = make_trainer(head, trunk=trunk, warmup_fraction=0.0)
    assert sum(len(group["params"]) for group in trainer.optimizer.param_groups) == 2
    trainer.step(*make_batch())
    assert torch.equal(trunk[0].weight, before)


def test_a_trunk_that_is_frozen_whole_trains_rows(head):
    before = head.matrix.rows_ND.copy()
    trainer = make_trainer(head, trunk=nn.Linear(INPUTS, D).requires_grad_(False), warmup_fraction=0.0)
    trainer.step(*make_batch())
    assert (head.matrix.rows_ND != before).any()


def test_rates_reach_the_optimizer_and_the_workers(head):
    """Behind the end of the schedule the rate is 0: nothing moves; before it does."""
    trunk = nn.Linear(INPUTS, D)
    trainer = make_trainer(head, trunk=trunk)
    weight, rows = trunk.weight.detach().clone(), head.matrix.rows_ND.copy()
    trainer.progress.num_examples = 80
    trainer.step(*make_batch())
    assert torch.equal(trunk.weight, weight) and np.array_equal(head.matrix.rows_ND, rows)
    trainer.progress.num_examples = 0
    trainer.step(*make_batch())
    assert not torch.equal(trunk.weight, weight) and not np.array_equal(head.matrix.rows_ND, rows)


def test_the_gradient_is_clipped(head):
    trunk = nn.Linear(INPUTS, D)
    trainer = make_trainer(head, trunk=trunk, clip_norm=1e-3)
    images, tags = make_batch()
    trainer.step(1000 * images, tags)
    norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in trunk.parameters()]))
    assert norm == pytest.approx(1e-3, rel=1e-3)
    unclipped = make_trainer(head, trunk=trunk, clip_norm=0.0)
    unclipped.step(1000 * images, tags)
    assert torch.linalg.vector_norm(trunk.weight.grad) > 1.0


def test_training_lowers_the_loss(head):
    batch, reports = make_batch(), []
    trainer = make_trainer(head, num_items=10, epochs=250.0, lr=0.05)
    trainer.fit(itertools.repeat(batch), reports.append)
    assert len(reports) == 250
    assert np.mean([r.loss for r in reports[-5:]]) < 0.8 * np.mean([r.loss for r in reports[:5]])
    assert set(reports[-1].seconds) == {"load", "augment", "forward", "ship", "wait", "backward", "optimizer", "other"}


@pytest.mark.parametrize(("size", "microbatches", "chunks"), [(10, 3, 3), (10, 1, 3), (5, 3, 2), (2, 3, 1), (1, 3, 1)])
def test_batches_are_cut_into_as_many_parts_as_they_can_fill(head, size, microbatches, chunks):
    trainer = make_trainer(head, microbatches=microbatches)
    report = trainer.step(*make_batch(size))
    assert report.num_examples == size and report.num_chunks == chunks


@pytest.mark.parametrize("size", range(2, 8))
def test_batch_norm_learns_from_short_batches(head, size):
    trunk = nn.Sequential(nn.Linear(INPUTS, D), nn.BatchNorm1d(D))
    trainer = make_trainer(head, trunk=trunk, microbatches=3)
    assert trainer.step(*make_batch(size)).num_examples == size


def test_a_batch_of_nothing_is_refused(head):
    trainer = make_trainer(head)
    with pytest.raises(DataError, match="no examples"):
        trainer.step(torch.empty(0, INPUTS), [])
    assert trainer.progress.step == 0


def test_images_are_prepared_once_and_modules_are_in_training_mode(head):
    seen = []
    trunk = nn.Sequential(nn.Linear(INPUTS, D), nn.Dropout(0.1)).eval()
    head.eval()
    trainer = make_trainer(head, trunk=trunk, prepare=lambda images: seen.append(images.shape) or images * 2)
    trainer.step(*make_batch())
    assert seen == [(10, INPUTS)]
    assert trunk.training and head.training


@pytest.mark.parametrize("num_tags", [9, 11])
def test_tags_must_be_as_many_as_inputs(head, num_tags):
    with pytest.raises(DataError, match=f"tags are given for {num_tags} examples, inputs for 10"):
        make_trainer(head).step(make_batch(10)[0], make_batch(num_tags)[1])


def test_a_configuration_of_another_kind_is_refused(head):
    with pytest.raises(ConfigError, match=r"config = \{'epochs': 1\}, but it must be a TrainConfig"):
        Trainer(nn.Linear(2, 2), head, {"epochs": 1}, num_items=1, device="cpu")


def test_an_epoch_without_items_is_refused_before_the_head_is_touched(head):
    with pytest.raises(ConfigError, match="num_items = 0, but it must be at least 1"):
        make_trainer(head, num_items=0, auto_negatives=True, min_negatives=2, max_negatives=3)
    assert head.num_negatives == head.config.negatives


def test_a_resumed_training_is_where_it_was(head):
    progress = Progress(step=4, num_examples=60, epoch=1, num_examples_of_epoch=20, used_s=30.0)
    trainer = make_trainer(head, progress=progress)
    report = trainer.step(*make_batch())
    assert report.fraction == 0.75
    assert (progress.step, progress.num_examples, progress.num_examples_of_epoch) == (5, 70, 30)
    assert progress.used_s >= 30.0


def test_negatives_that_follow_the_trunk_are_part_of_the_progress(head, monkeypatch):
    monkeypatch.setattr("hybrid.negatives_tuner._WINDOW_S", 0.0)
    trainer = make_trainer(head, auto_negatives=True, min_negatives=4, max_negatives=24)
    trainer.tuner = NegativesTuner(head, trainer.config, lambda text: None, cores=64)
    numbers = []
    for seed in range(40):
        trainer.step(*make_batch(seed=seed))
        numbers.append(head.num_negatives)
        assert trainer.progress.num_negatives == head.num_negatives
    assert all(4 <= number <= 24 for number in numbers)
    figures = trainer.tuner.figures()
    assert figures["shadow_ms"] > 0 and figures["worker_ms"] > 0 and figures["trunk_cores"] > 0


def test_the_largest_batch_so_far_is_full_whatever_the_configuration_says(head):
    """A rest of an epoch comes first, as after a resumption; of each size that was not full nothing is learned."""
    trainer = make_trainer(head, auto_negatives=True, min_negatives=4, max_negatives=24, batch_size=128)
    seen = []
    trainer.tuner.end_step = lambda *timings, parts, is_full: seen.append(is_full)
    trainer.threads = SimpleNamespace(begin_step=lambda: None, end_step=lambda load_s, is_full: seen.append(is_full))
    for size in (6, 4, 8, 6, 8):
        trainer.step(*make_batch(size))
    assert seen[::2] == seen[1::2] == [True, False, True, False, True]


def test_tuners_act_on_batches_of_another_size_than_the_configurations(head, monkeypatch):
    monkeypatch.setattr("hybrid.negatives_tuner._WINDOW_S", 0.0)
    told, threads = [], torch.get_num_threads()
    trainer = make_trainer(head, auto_negatives=True, min_negatives=4, max_negatives=24, batch_size=128)
    trainer.tuner = NegativesTuner(head, trainer.config, lambda text: None, cores=64)
    trainer.threads = ThreadTuner([1, 2], told.append)
    for seed in range(20):
        trainer.step(*make_batch(seed=seed))
    torch.set_num_threads(threads)
    assert trainer.tuner.figures()["worker_ms"] > 0 and told[0].startswith("trunk threads")


def test_a_resumed_training_draws_as_many_negatives_as_before(head):
    told = []
    Trainer(
        nn.Linear(INPUTS, D),
        head,
        TrainConfig(auto_negatives=True, min_negatives=4, epochs=1.0),
        num_items=40,
        device="cpu",
        progress=Progress(num_negatives=21),
        tell=told.append,
    )
    assert head.num_negatives == 21
    assert told[0].startswith("negatives: from 21, between 4 and 30")


def test_a_fixed_number_of_negatives_stays(head):
    trainer = make_trainer(head)
    trainer.step(*make_batch())
    assert trainer.tuner is None and trainer.progress.num_negatives is None and head.num_negatives == 8


def make_run(trainer, num_items):
    """A run without a directory."""
    run = TrainingRun.__new__(TrainingRun)
    run.head, run.trainer, run.upload = trainer.head, trainer, Upload(trainer.device, run._inputs)
    run.config = RunConfig(train=trainer.config)
    run.view = SimpleNamespace(train_items=np.arange(num_items))
    run.supervision = SimpleNamespace(stop_asked=False, tell=lambda kind, **fields: None, progress=lambda *_: None)
    return run


@pytest.mark.parametrize(
    ("setting", "is_exported", "is_tuned"), [(0, False, True), (0, True, False), (2, False, False)]
)
def test_threads_that_somebody_wants_are_not_tuned(head, monkeypatch, setting, is_exported, is_tuned):
    run, made = make_run(make_trainer(head), num_items=4), {}
    run.config = RunConfig(trunk=TrunkConfig(dim=8, device="cpu", threads=setting))
    run._cores, run._are_threads_fixed = 2, is_exported
    monkeypatch.setattr("hybrid.training_run.Trainer", lambda *args, **options: made.update(options) or run.trainer)
    run._make_trainer(None, None)
    assert (made["threads"] is not None) is is_tuned


@pytest.mark.parametrize(("num_done", "num_batches"), [(0, 1), (3, 0)])
def test_what_a_resumed_epoch_has_left_is_no_batch_of_one(head, monkeypatch, num_done, num_batches):
    """But a data set of one example is."""
    progress = Progress(num_examples_of_epoch=num_done, last_item=num_done - 1 if num_done else None)
    run = make_run(make_trainer(head, progress=progress), num_items=num_done + 1)
    one = np.arange(1), np.zeros((1, 48, 48, 3), np.uint8)
    monkeypatch.setattr("hybrid.training_run.batches", lambda *args: iter([one]))
    run.augmenter = Augmenter(Augmentation(), 48, 0, torch.device("cpu"))
    assert len(list(run._epoch())) == num_batches


@pytest.mark.parametrize("is_noted", [True, False])
def test_a_resumed_epoch_goes_on_behind_its_last_picture_whatever_could_not_be_read(head, monkeypatch, is_noted):
    """Every other picture is unreadable: what is left of the epoch cannot be told from how many were trained on.

    Where a checkpoint does not say which was the last, the epoch begins again: twice is better than never.
    """
    trainer = make_trainer(head)
    run, seen = make_run(trainer, num_items=20), []
    run.augmenter = Augmenter(Augmentation(), 48, 0, torch.device("cpu"))

    def readable(view, order, batch_size, processes, empty):
        good = order[order % 2 == 0]
        for start in range(0, len(good), 2):
            yield good[start : start + 2], np.zeros((2, 48, 48, 3), np.uint8)

    monkeypatch.setattr("hybrid.training_run.batches", readable)
    for _, tags in itertools.islice(run._followed(run._epoch()), 2):
        trainer.progress.num_examples_of_epoch += len(tags)
        seen += tags.items_B.tolist()
    stored = json.loads(json.dumps(dataclasses.asdict(trainer.progress)))  # as a checkpoint does
    assert len(seen) == 4
    if not is_noted:
        del stored["last_item"]
        seen = []
    trainer.progress = Progress(**stored)
    for _, tags in run._followed(run._epoch()):
        seen += tags.items_B.tolist()
    assert sorted(seen) == list(range(0, 20, 2))


def test_an_epoch_without_a_readable_picture_ends_the_run(head, monkeypatch):
    """As when a folder disappears meanwhile; it must not go round for ever."""
    run = make_run(make_trainer(head), num_items=4)
    monkeypatch.setattr("hybrid.training_run.batches", lambda *args: iter(()))
    with pytest.raises(DataError, match="no training picture can be read"):
        run.train()


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        ((torch.zeros(2, 3, 8, 8), [[1], [2]], [0, 1]), "example_weights are int64 of shape .*; expected floats"),
        (
            (torch.zeros(2, 3, 8, 8), [[1], [2]], [0.5, 1], 0),
            r"a batch is a tuple of 4; expected \(inputs, tags\) or \(",
        ),
        ({"images": 1, "tags": 2}, "a batch is a dict; expected"),
        ("ab", "a batch is a str of 2"),
        (torch.zeros(2, 3, 8, 8), "a batch is a Tensor; expected"),
        (({"pixels": 1}, [[1], [2]]), r"inputs\['pixels'\] is a int; expected a tensor"),
    ],
)
def test_batches_that_are_no_inputs_and_tags_are_refused(head, batch, told):
    trainer = make_trainer(head)
    with pytest.raises(DataError, match=told):
        trainer.fit([batch])
    assert trainer.progress.step == 0
