"""A wide head in programs of others: forks, threads, torch.compile, packages of the same name, other ways to count."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
import torch
from torch import nn

import hybrid.own_workers
from hybrid import Pipeline, TagBatch, TrainConfig, Trainer, WideHead
from workers.errors import ConfigError, DataError, HeadClosed
from workers.matrix import TagMatrix

N, D = 40, 8
TAGS = [[3], [7, 8], [39], [0]]


@pytest.fixture(scope="module")
def head():
    num_tags = np.array([0, N - 1]).max() + 1
    with WideHead(num_tags=num_tags, dim=np.int32(D), workers=np.int64(1), seed=np.int64(3)) as head:
        yield head


def features():
    return torch.randn(len(TAGS), D, generator=torch.Generator().manual_seed(0))


def in_fork(function):
    """What became of a function in a fork of this process: its exit status, -9 if it took longer than a minute."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            status = function()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_numbers_of_numpy_make_a_head(head):
    assert (head.num_tags, head.dim, head.seed) == (N, D, 3) and type(head.seed) is int
    for wrong in ({"num_tags": 40.0}, {"dim": "8"}, {"workers": 1.5}, {"positives": 2.0}, {"seed": None}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} = .* whole number"):
            WideHead(**{"num_tags": N, "dim": D, "workers": 1, **wrong})


@pytest.mark.parametrize("call", ["forward", "scale", "topk", "save"])
def test_a_fork_is_told_that_the_head_is_not_its_own(head, call, tmp_path):
    calls = {
        "forward": lambda: head(features(), TAGS),
        "scale": lambda: head.scale(2),
        "topk": lambda: head.topk(features(), 3),
        "save": lambda: head.save(tmp_path),
    }

    def refused():
        try:
            calls[call]()
        except ConfigError as e:
            return 0 if f"belongs to process {os.getppid()}" in str(e) else 2
        return 3

    assert in_fork(refused) == 0
    assert np.isfinite(head(features(), TAGS).item())


def test_a_fork_that_closes_its_copy_leaves_the_head_as_it_is():
    with WideHead(N, D, workers=1) as head:

        def closed():
            head.close()
            return 0

        assert in_fork(closed) == 0
        head.scale(2)  # the second worker joins at the endpoint
        assert np.isfinite(head(features(), TAGS).item())
        head.router.wait_ready(2, 60)


def test_a_thread_waits_until_another_has_done_its_step(head):
    step = head.step
    with ThreadPoolExecutor(4) as threads:
        with head.sole_use:
            calls = [threads.submit(lambda: head(features(), TAGS).item()) for _ in range(8)]
            with pytest.raises(TimeoutError):
                calls[0].result(timeout=0.3)
            assert head.step == step and head.router.num_in_flight == 0
        assert np.isfinite([call.result(timeout=60) for call in calls]).all()
    assert head.step == step + 8


def test_a_head_is_closed_after_the_call_of_another_thread():
    with WideHead(N, D, workers=1) as head, ThreadPoolExecutor(1) as threads:
        calls = [threads.submit(lambda: head(features(), TAGS).item()) for _ in range(50)]
        calls[0].result(timeout=300)
        head.close()
        for call in calls:
            assert (error := call.exception(timeout=60)) is None or isinstance(error, HeadClosed)


def test_a_closed_head_says_so_whatever_it_is_asked(tmp_path):
    trunk, numbers = nn.Linear(D, D), features().numpy()
    head = WideHead(N, D, workers=1)
    ticket, drawn = head.submit(numbers, TAGS, update=True), head.draw(numbers.shape, TAGS, update=True)
    pipeline = Pipeline(trunk, head)
    head.close()
    calls = {
        "forward": lambda: head(features(), TAGS),
        "submit": lambda: head.submit(numbers, TAGS, update=True),
        "draw": lambda: head.draw(numbers.shape, TAGS, update=True),
        "ship": lambda: head.ship(drawn, numbers),
        "collect": lambda: head.collect(ticket),
        "backward": lambda: pipeline.backward(features(), TAGS),
        "Trainer": lambda: Trainer(trunk, head, TrainConfig(epochs=1), num_items=4, device="cpu"),
        "topk": lambda: head.topk(features(), k=3),
        "score_bias_N": head.score_bias_N,
        "rows": lambda: head.rows([0]),
        "save": lambda: head.save(tmp_path / "head"),
        "scale": lambda: head.scale(2),
        "with": head.__enter__,
    }
    for name, call in calls.items():
        with pytest.raises(HeadClosed, match=r"this head was closed.*WideHead\.load"):
            call()
            pytest.fail(f"{name} took a closed head")
    assert not (tmp_path / "head" / "matrix").exists()


def test_a_query_that_reads_while_another_thread_closes_the_head_says_so(monkeypatch):
    head = WideHead(N, D, workers=0)

    def closed_meanwhile(*_):
        head.close()
        return head.matrix.bias_N

    monkeypatch.setattr("hybrid.head_queries.score_bias_N", closed_meanwhile)
    with pytest.raises(HeadClosed, match="this head was closed"):
        head.topk(features(), k=3)


def test_a_compiled_model_with_the_head_in_it_computes_the_same(head):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Linear(D, D), head

        def forward(self, images, tags):
            return 2 * self.head(self.trunk(images).relu(), tags)

    model = Model()
    head.eval()
    try:
        images, gradients, losses = features(), [], []
        for call in (model, torch.compile(model, backend="aot_eager")):
            model.zero_grad()
            head._still = type(head._still)(head.config.chunk_size)  # the same negatives for both
            loss = call(images, TAGS)
            loss.backward()
            losses.append(loss.item())
            gradients.append(model.trunk.weight.grad.clone())
    finally:
        head.train()
    assert losses[0] == losses[1] and torch.allclose(*gradients) and gradients[0].abs().sum() > 0
    assert torch.compile(head.topk, backend="aot_eager")(features(), 3)[0].equal(head.topk(features(), 3)[0])


def test_two_arrays_that_are_no_pair_may_be_the_tags_of_two_examples():
    two = torch.tensor([3]), torch.tensor([1, 5])
    with pytest.raises(DataError, match=r"pass a list: list\(tags\)"):
        TagBatch.of(two, N, 2)
    assert TagBatch.of(list(two), N, 2).ids.tolist() == [3, 1, 5]
    pair = np.array([5, 7]), np.array([0, 1, 2])
    assert TagBatch.of(pair, N, 2).ids.tolist() == [5, 7], "a pair comes first"


def test_no_matrix_is_made_where_several_processes_train(monkeypatch):
    def refuse():
        raise ConfigError("several")

    monkeypatch.setattr(hybrid.own_workers, "check_alone", refuse)
    monkeypatch.setattr(TagMatrix, "create", lambda *_, **__: pytest.fail("memory was taken"))
    with pytest.raises(ConfigError, match="several"):
        WideHead(N, D, workers=1)


def test_a_pipeline_names_what_it_cannot_cut(head):
    pipeline = Pipeline(nn.Linear(D, D), head)
    with pytest.raises(DataError, match="inputs are a set; expected a tensor"):
        pipeline.backward({"input_ids", "attention_mask"}, TAGS)
    with pytest.raises(ConfigError, match="micro-batches = 0"):
        pipeline.accumulate([])
    with pytest.raises(ConfigError, match=r"precision = 'bfloat16'.*torch\.dtype"):
        Pipeline(nn.Linear(D, D), head, precision="bfloat16")


def test_a_pipeline_whose_trunk_is_none_says_what_comes_first(head):
    for trunk, name in ((head, "WideHead"), (nn.Linear(D, D).forward, "method")):
        with pytest.raises(ConfigError, match=rf"trunk = '{name}', .* an nn\.Module .* Pipeline\(trunk, head\)"):
            Pipeline(trunk, head)


@pytest.mark.parametrize("name", ["workers.py", "workers/__init__.py", "workers/mine.py"])
def test_a_module_of_the_same_name_in_the_way_is_named(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    ran = subprocess.run(
        [sys.executable, "-c", "import hybrid"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    found = tmp_path / ("workers" if name == "workers/mine.py" else name)
    assert ran.returncode == 1 and f"Python finds {found}: rename" in ran.stderr


def test_there_are_as_many_workers_as_a_run_has_by_default(monkeypatch):
    monkeypatch.setattr(hybrid.own_workers, "default_num_workers", lambda: 1)
    with WideHead(N, D) as head:
        assert len(head._own.pool.workers) == 1


def test_learning_a_tag_that_counts_call_unseen_is_warned_of_once(caplog):
    counts = np.ones(N, np.int64)
    counts[[5, 7]] = 0
    with WideHead(N, D, workers=1, tag_counts=counts, negatives=8) as head:
        head(features(), [[3], [6], [39], [0]])
        head.eval()
        head(features(), [[5], [7], [39], [0]])
        assert "tag_counts" not in caplog.text
        head.train()
        for _ in range(2):
            head(features(), [[3], [5, 7], [39], [0]])
    assert caplog.text.count("Tag 5 is learned, but tag_counts says that it never occurs") == 1


def test_a_first_call_that_compiles_says_so(monkeypatch, caplog):
    monkeypatch.setattr("hybrid.head_tickets._SILENT_S", -1.0)
    with WideHead(N, D, workers=1, negatives=8) as head:
        for _ in range(2):
            head(features(), TAGS)
    assert caplog.text.count("The first call waits for workers, which compile kernels") == 1


@pytest.mark.parametrize("workers", [1.5, "2", None])
def test_a_number_of_workers_that_is_none_is_refused(head, workers):
    with pytest.raises(ConfigError, match=r"workers = .* whole number"):
        head.scale(workers)


@pytest.mark.parametrize("score", ["probability", "lift"])
def test_faiss_finds_with_rows_and_biases_what_topk_finds(score):
    counts = np.arange(N)
    with WideHead(N, D, workers=1, tag_counts=counts, negatives=8) as head:
        for _ in range(3):
            head(features(), TAGS)
        rows, bias_N = head.rows(range(N)).numpy(), head.score_bias_N(score)
        ranked = np.flatnonzero(np.isfinite(bias_N))
        index = faiss.IndexFlatIP(D + 1)
        index.add(np.hstack([rows, bias_N[:, None]])[ranked])
        scores, places = index.search(np.hstack([features().numpy(), np.ones((len(TAGS), 1), np.float32)]), 5)
        ids, expected = head.topk(features(), 5, score=score)
    assert 0 not in ranked and np.array_equal(ranked[places], ids) and np.allclose(scores, expected, atol=1e-5)
