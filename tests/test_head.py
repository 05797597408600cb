"""`WideHead`: its numbers against dense torch, its rules on modes, its inputs, its life."""

import contextlib
import copy
import gc
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch_reference import reference_step
from worker_system import wait_for_exit

from hybrid import ItemNumbers, TagBatch, WideHead
from hybrid.chunk_numbers import ChunkNumbers
from workers.config import TRANSPORTS, HeadConfig
from workers.endpoint import make_endpoint, remove_endpoint
from workers.errors import ChunkError, ConfigError, DataError, HeadClosed, MatrixMismatch
from workers.fresh_rows import fill_rows
from workers.matrix import TagMatrix
from workers.pool import WorkerPool
from workers.router import Router

N, D = 40, 8
TAGS = [[3, 1, 3], [], [7, 8, 9, 10, 11, 12], [39], [0, 5]]
COUNTS = np.arange(N, 0, -1) ** 2
SETTINGS = {"negatives": 16, "negative_weight": 3.0, "init_scale": 1.0, "row_optimizer": "sgd", "row_lr": 0.1}


def make_head(**changes):
    """A head whose numbers are large enough to be seen; a batch of five examples is two chunks."""
    arguments = {
        "num_tags": N,
        "dim": D,
        "workers": 1,
        "tag_counts": COUNTS,
        "positives": 4,
        "chunk_size": 3,
        "seed": 5,
    }
    return WideHead(**{**arguments, **SETTINGS, **changes})


def make_features(num_examples=5, seed=1):
    return torch.randn(num_examples, D, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def head():
    """One worker for all tests that leave the head in training mode, whatever its rows have become."""
    with make_head() as head:
        yield head


def parameters_of(head):
    """Everything that may change, as bytes."""
    return head.matrix.rows_ND.tobytes(), head.matrix.tag_state_N4.tobytes()


def first_loss(head, *arguments):
    """Of a call that is the first to stay at its step: each later one draws other negatives."""
    head._still = ChunkNumbers(head.config.chunk_size)
    return head(*arguments)


@contextlib.contextmanager
def changes_nothing(head):
    before, step = parameters_of(head), head.step
    yield
    assert parameters_of(head) == before
    assert head.step == step


def assert_close(got, expected, tolerance=2e-5):
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-3))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("objective", ["negative-sampling", "sampled-softmax"])
def test_loss_feature_gradient_and_rows_are_those_of_autograd(objective, transport):
    with make_head(objective=objective, transport=transport) as head:
        for step in range(3):
            features = make_features(seed=step).requires_grad_(True)
            expected = reference_step(head, features, TAGS, lr=0.1)
            loss = head(features, TAGS)
            loss.backward()
            assert loss.shape == () and loss.item() == pytest.approx(expected.loss, rel=1e-5)
            assert_close(features.grad, expected.feature_grad_BD)
            assert_close(head.matrix.rows_ND, expected.rows_ND)
            assert_close(head.matrix.bias_N, expected.bias_N)
            assert head.step == step + 1


def test_the_gradient_goes_on_into_the_trunk(head):
    """The trunk's weights get what autograd gives them when the whole head is in the graph."""
    trunk = nn.Linear(6, D)
    inputs = torch.randn(len(TAGS), 6)
    features = trunk(inputs)
    expected = reference_step(head, features, TAGS, lr=head.row_lr)
    (weight_grad,) = torch.autograd.grad(features, trunk.weight, expected.feature_grad_BD.float())
    head(trunk(inputs), TAGS).backward()
    assert_close(trunk.weight.grad, weight_grad)


def test_a_factor_on_the_loss_reaches_the_trunk_alone():
    grads, rows = [], []
    for factor in (1.0, 1024.0):
        with make_head() as head:
            features = make_features().requires_grad_(True)
            (head(features, TAGS) * factor).backward()
            grads.append(features.grad / factor)
            rows.append(parameters_of(head))
    assert rows[0] == rows[1]
    assert torch.equal(grads[0], grads[1])


def test_a_frozen_trunk_trains_rows(head):
    before, step = parameters_of(head), head.step
    loss = head(make_features(), TAGS)
    loss.backward()  # an unchanged training loop must not fail here
    assert parameters_of(head) != before
    assert head.step == step + 1


def test_eval_mode_changes_nothing_but_gives_loss_and_gradient(head):
    features = make_features().requires_grad_(True)
    expected = reference_step(head, features, TAGS, lr=0.0)
    head.eval()
    try:
        with changes_nothing(head):
            loss = first_loss(head, features, TAGS)
            loss.backward()
    finally:
        head.train()
    assert loss.item() == pytest.approx(expected.loss, rel=1e-5)
    assert_close(features.grad, expected.feature_grad_BD)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_grad_mode_nothing_changes(head, mode):
    with changes_nothing(head), mode():
        loss = head(make_features(), TAGS)
    assert not loss.requires_grad
    assert np.isfinite(loss.item())


def test_eval_of_a_parent_module_reaches_the_head(head):
    model = nn.ModuleDict({"trunk": nn.Linear(2, D), "head": head})
    model.eval()
    with changes_nothing(head):
        head(model["trunk"](torch.randn(5, 2)), TAGS)
    model.train()
    assert head.training


def test_the_head_brings_no_parameters(head):
    """Rows learn by themselves; an optimizer over a model's parameters must not get hold of them."""
    assert list(head.parameters()) == [] and head.state_dict() == {}


def test_lists_csr_and_tag_batch_mean_the_same(head):
    ids, offsets = np.concatenate([np.array(tags, np.int64) for tags in TAGS]), np.cumsum([0, *map(len, TAGS)])
    forms = [
        TAGS,
        tuple(tuple(tags) for tags in TAGS),
        [torch.tensor(tags, dtype=torch.int64) for tags in TAGS],
        (ids, offsets),
        (torch.from_numpy(ids), torch.from_numpy(offsets)),
        (ids.astype(np.int32), offsets.astype(np.int32)),
        TagBatch.of(TAGS, N),
    ]
    head.eval()
    losses = {first_loss(head, make_features(), form).item() for form in forms}
    head.train()
    assert len(losses) == 1


def test_item_numbers_mean_the_tags_in_shared_memory(head):
    """As in `hybrid train`: the true tags lie in the matrix, and somebody else owns it and the workers."""
    truth = TagBatch.of(TAGS, N)
    matrix = TagMatrix.create(
        N, D, config=head.config, counts=COUNTS, item_offsets=truth.offsets, item_tags=truth.ids, seed=5
    )
    endpoint = make_endpoint()
    pool = WorkerPool(matrix, endpoint, 1)
    try:
        router = Router(endpoint, head=head.config, matrix=matrix, membership=pool)
        attached = WideHead.attached(matrix, router, head.config, positives=4, seed=5)
        with contextlib.closing(attached):
            attached.eval()
            features, items = make_features(), np.array([4, 0, 2, 2, 1])
            loss = first_loss(attached, features, ItemNumbers(items)).item()
            assert loss == first_loss(attached, features, [TAGS[i] for i in items]).item()
            with pytest.raises(DataError, match="item numbers from 0 to 5; this matrix knows 5 items"):
                attached(features, ItemNumbers(np.array([0, 1, 2, 3, 5])))
            with pytest.raises(ConfigError, match="hybrid scale"):
                attached.scale(2)
        assert pool.workers  # closing the head leaves workers to their owner
    finally:
        pool.close()
        remove_endpoint(endpoint)
        matrix.close()


def test_half_precision_features_are_taken(head):
    head.eval()
    features = make_features().to(torch.bfloat16).requires_grad_(True)
    loss = head(features, TAGS)
    loss.backward()
    head.train()
    assert loss.dtype == torch.float32 and features.grad.dtype == torch.bfloat16


def test_features_that_are_no_plain_array(head):
    """Transposed, strided, expanded: what slicing in a user's model gives."""
    head.eval()
    features = make_features()
    wide = torch.randn(len(TAGS), 2 * D)
    wide[:, ::2] = features
    expected = first_loss(head, features, TAGS).item()
    assert first_loss(head, wide[:, ::2], TAGS).item() == expected
    assert first_loss(head, features.t().contiguous().t(), TAGS).item() == expected
    assert np.isfinite(head(features[:1].expand(5, D), TAGS).item())
    head.train()


def test_empty_batch_has_no_loss_and_no_gradient(head):
    features = torch.zeros(0, D, requires_grad=True)
    loss = head(features, [])
    loss.backward()
    assert loss.item() == 0.0 and features.grad.shape == (0, D)


def test_positive_weights_multiply_the_positive_terms(head):
    head.eval()
    features, tags = make_features(1), [[2, 6]]
    plain, none, double = (first_loss(head, features, tags, np.full(N, c)).item() for c in (1.0, 0.0, 2.0))
    assert plain == first_loss(head, features, tags).item()
    assert double - plain == pytest.approx(plain - none, rel=1e-4)
    many = first_loss(head, features, tags, torch.full((N,), 1e6, dtype=torch.bfloat16, requires_grad=True)).item()
    assert many == pytest.approx(1e6 * (plain - none), rel=0.01)  # what bfloat16 makes of 1e6 is below it
    head.train()


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (np.ones(N - 1), r"pos_weights are float64 of shape \(39,\); expected numbers of shape \(40,\)"),
        ("balanced", "pos_weights are <U8"),
        ([[1.0], [1.0, 2.0]], r"pos_weights cannot be read as floats of shape \(40,\)"),
        (np.where(np.arange(N) == 9, -1.0, 1.0), r"pos_weights has -1\.0 for tag 9; expected numbers from 0 to 1e\+06"),
        (np.where(np.arange(N) == 39, np.nan, 1.0), "pos_weights has nan for tag 39"),
        (np.where(np.arange(N) == 39, 1.1e6, 1.0), r"pos_weights has 1100000\.0 for tag 39"),
        (np.where(np.arange(N) == 39, 1e39, 1.0), "pos_weights has inf for tag 39"),
    ],
    ids=["short", "text", "ragged", "negative", "nan", "large", "beyond float32"],
)
def test_tag_weights_that_are_none_are_refused_before_anything_is_sent(head, weights, told):
    tags = [[t] for t in (9, 1, 2, 3, 39)]  # two chunks
    with changes_nothing(head), pytest.raises(DataError, match=told):
        head(make_features(), tags, weights)
    assert head.router.num_in_flight == 0


@pytest.mark.parametrize(
    ("tags", "features", "error", "told"),
    [
        (
            [[1], [2, N], [3], [], []],
            make_features(),
            DataError,
            f"example 1 has tag id {N}; expected ids from 0 to {N - 1}",
        ),
        ([[1], [], [-1], [], []], make_features(), DataError, "example 2 has tag id -1"),
        ([[1], [], [1.5], [], []], make_features(), DataError, "example 2 is float64"),
        ([[1], [], ["cat"], [], []], make_features(), DataError, "example 2 is"),
        (torch.ones(5, N), make_features(), DataError, "expected a list of id lists"),
        ([np.array([1, 2]), np.array([0, 1, 2])], make_features(2), DataError, r"tuple\(tags\)"),
        ([torch.arange(5), torch.arange(5)], make_features(3), DataError, "collate_fn"),
        (TagBatch(np.arange(5), np.arange(6)), make_features(), DataError, "int32 and int64"),
        ((np.array([1, 2]), np.array([0, 1, 1, 1, 1, 3])), make_features(), DataError, "offsets"),
        ((np.array([1, 2]), np.array([0, 2, 1, 1, 2, 2])), make_features(), DataError, "never falling"),
        (TAGS[:4], make_features(), DataError, "tags are given for 4 examples, features for 5"),
        (TAGS, torch.full((5, D), torch.nan), ChunkError, "example 0: what the trunk was given .*your optimizer.*--lr"),
        (TAGS, torch.cat([make_features(4), torch.full((1, D), torch.inf)]), ChunkError, "infinity in example 4"),
        (TAGS, torch.ones(5, D + 4), ChunkError, rf"shape \(5, {D + 4}\), expected \[B, {D}\]"),
        (TAGS, torch.ones(D), ChunkError, "expected"),
        (TAGS, np.ones((5, D), np.float32), DataError, r"numpy\.ndarray; expected a float tensor"),
        (TAGS, torch.ones(5, D, dtype=torch.int64), DataError, r"torch\.int64; expected floats"),
    ],
)
def test_bad_input_is_refused_whole_and_the_head_lives_on(head, tags, features, error, told):
    with changes_nothing(head), pytest.raises(error, match=told):
        head(features, tags)
    assert head.router.num_in_flight == 0
    assert np.isfinite(head(make_features(), TAGS).item())


def test_numbers_of_numpy_may_be_set_and_a_step_that_is_none_is_refused_before_anything_is_sent(head):
    for name, number in {"step": np.int64(4), "num_negatives": np.int32(8), "row_lr": np.float32(0.02)}.items():
        setattr(head, name, number)
    assert np.isfinite(head(make_features(), TAGS).item())
    good, head.step = head.step, 4.5
    with changes_nothing(head), pytest.raises(ConfigError, match=r"step = 4\.5, but it must be a whole number"):
        head(make_features(), TAGS)
    head.step = good


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *(("row_lr", bad) for bad in (-1, 2e6, np.nan, np.float32("inf"), "x", None, np.ones(2))),
        *(("num_negatives", bad) for bad in (0, -1, 8.0, "8", None, 1 << 25, np.ones(2, int))),
    ],
    ids=str,
)
def test_a_number_that_cannot_be_is_refused_where_it_is_set_and_the_former_stays(head, name, bad):
    good = getattr(head, name)
    with pytest.raises(ConfigError, match="head.row_lr" if name == "row_lr" else "head.negatives"):
        setattr(head, name, bad)
    assert getattr(head, name) == good


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"negativs": 3}, ConfigError, r"no setting 'negativs'; did you mean 'negatives'\? Known: num_tags, dim, "),
        ({"wrkers": 3}, ConfigError, "no setting 'wrkers'; did you mean 'workers'.* Known: .*workers, .*tag_counts, "),
        ({"xyz": 3}, ConfigError, r"no setting 'xyz'\. Known: "),
        ({"row_lr": -1.0}, ConfigError, "head.row_lr"),
        ({"config": {"negatives": 64}}, ConfigError, r"config = \{'negatives': 64\}, but it must be a HeadConfig"),
        ({"negatives": "64"}, ConfigError, "'head.negatives' = '64' is of type str, expected int"),
        ({"negatives": 64.0}, ConfigError, "is of type float, expected int"),
        ({"objective": None}, ConfigError, "'head.objective' = None is of type NoneType, expected str"),
        ({"private_negatives": 1}, ConfigError, "is of type int, expected bool"),
        ({"init_scale": 1e39}, ConfigError, "head.init_scale"),
        ({"negative_weight": float("inf")}, ConfigError, "head.negative_weight"),
        ({"workers": -1}, ConfigError, "workers = -1, but it must be between 0 and "),
        ({"workers": 1000}, ConfigError, "workers = 1000"),
        ({"dim": 6}, DataError, "multiple of 4"),
        ({"tag_counts": np.ones(N + 1)}, DataError, r"counts have shape \(41,\); expected \(40,\), one for each tag"),
        ({"tag_counts": np.full(N, 0.2)}, ConfigError, "tag_counts holds float64 values that are no whole numbers"),
        ({"tag_counts": np.full(N, np.nan)}, ConfigError, "tag_counts"),
        ({"positives": 0}, ConfigError, "positives = 0"),
        ({"seed": -1}, ConfigError, "seed = -1"),
    ],
)
def test_bad_settings_are_refused_and_leave_nothing_behind(settings, error, told):
    def open_files():
        links = set()
        for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):  # closed meanwhile: what earlier tests left to the garbage collector
                links.add(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
        return links

    before = open_files()
    with pytest.raises(error, match=told):
        make_head(**settings)
    deadline = time.monotonic() + 60
    while open_files() - before and time.monotonic() < deadline:  # so may threads of earlier tests
        time.sleep(0.05)
    assert open_files() - before == set()


def test_one_of_several_processes_that_train_together_gets_no_head(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match=r"runs 2 processes.*without torchrun"):
        make_head()


def test_a_head_that_was_made_before_its_process_became_one_of_several_serves_no_more(head, monkeypatch):
    """As Lightning makes them in `fit`: each would teach rows of its own for a trunk that all share."""
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 1)
    head(make_features(), TAGS)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    with changes_nothing(head), pytest.raises(ConfigError, match=r"runs 2 processes.*without torchrun"):
        head(make_features(), TAGS)
    assert head.router.num_in_flight == 0


def brute_force(head, features, k, score):
    scores = features.double().numpy() @ head.matrix.rows_ND.astype(np.float64).T + head.matrix.bias_N
    if score == "probability":
        scores += head.matrix.log_q_N + np.log(head.config.negative_weight)
    scores[:, head.matrix.counts_N == 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


def test_a_config_of_other_types_is_refused_where_it_is_made():
    for name, value in {"negatives": "64", "chunk_size": 8.0, "objective": None}.items():
        with pytest.raises(ConfigError, match=f"'head.{name}'"):
            HeadConfig(**{name: value})
    assert type(HeadConfig(row_lr=1).row_lr) is float


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, pickle.dumps])
def test_a_model_with_a_head_is_not_copied(head, duplicate):
    with pytest.raises(TypeError, match="copy the trunk alone"):
        duplicate(head)
    with pytest.raises(TypeError, match="copy the trunk alone"):
        copy.deepcopy(nn.ModuleDict({"trunk": nn.Linear(2, D), "head": head}))


def test_calls_that_do_not_update_draw_for_themselves(head, monkeypatch):
    """Else all batches of a validation would share one draw of negatives; at the next step the numbers begin anew."""
    seen, submit = [], head.router.submit
    monkeypatch.setattr(
        head.router, "submit", lambda chunks: seen.append({(c.step, c.chunk) for c in chunks}) or submit(chunks)
    )
    head(make_features(), TAGS)
    step = head.step
    with torch.no_grad():
        losses = {head(make_features(), TAGS).item() for _ in range(3)}
    head(make_features(), TAGS)
    with torch.no_grad():
        head(make_features(), TAGS)
    assert seen[1:4] == [{(step, number), (step, number + 1)} for number in (0, 2, 4)] and len(losses) == 3
    assert seen[4] == {(step, 0), (step, 1)} and seen[5] == {(step + 1, 0), (step + 1, 1)}


def test_tags_are_read_while_the_device_still_computes_the_features(head, monkeypatch):
    events, of, to = [], TagBatch.of, torch.Tensor.to
    monkeypatch.setattr(TagBatch, "of", lambda *arguments: events.append("read") or of(*arguments))
    monkeypatch.setattr(torch.Tensor, "to", lambda *a, **named: events.append("copy") or to(*a, **named))
    head(make_features(), TAGS)
    assert events[:2] == ["read", "copy"]


def test_a_first_call_that_is_interrupted_while_workers_start_leaves_nothing_in_flight(head, monkeypatch):
    def interrupt(num_workers, timeout_s, give_up):
        raise KeyboardInterrupt

    monkeypatch.setattr(head, "_was_ready", False)
    monkeypatch.setattr(head.router, "wait_ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        head(make_features(), TAGS)
    assert head.router.num_in_flight == 0


@pytest.mark.parametrize("score", ["probability", "lift"])
def test_topk_is_exact_and_leaves_tags_out_that_were_never_seen(score):
    counts = np.arange(300) % 7 * 10
    with make_head(num_tags=300, tag_counts=counts) as head:
        head.matrix.rows_ND[counts == 0] *= 100.0  # they would win
        features = make_features(20)
        ids, scores = head.topk(features.requires_grad_(True), 9, score=score)
        expected_ids, expected_scores = brute_force(head, features.detach(), 9, score)
        np.testing.assert_array_equal(ids.numpy(), expected_ids)
        np.testing.assert_allclose(scores.numpy(), expected_scores, rtol=1e-4, atol=1e-4)
        assert ids.dtype == torch.int64 and not scores.requires_grad
        assert (counts[ids.numpy()] > 0).all()


@pytest.mark.parametrize("objective", ["negative-sampling", "sampled-softmax"])
def test_topk_takes_off_the_weights_that_the_rows_learned_with(objective):
    """At the optimum of weighted positives a score is log(c p) - log q - log w, of sampled softmax log(c p)."""
    rng = np.random.default_rng(0)
    p_N, weights_N = rng.dirichlet(np.ones(N)), rng.uniform(0.1, 10.0, N).astype(np.float32)
    with make_head(objective=objective, workers=1) as head:
        optimum_N = np.log(weights_N * p_N)
        if objective == "negative-sampling":
            optimum_N -= head.matrix.log_q_N + np.log(SETTINGS["negative_weight"])
        head.matrix.rows_ND[:], head.matrix.bias_N[:] = 0.0, optimum_N
        ids, scores = head.topk(make_features(1), N, pos_weights=weights_N)
        np.testing.assert_array_equal(ids[0].numpy(), np.argsort(-p_N))
        np.testing.assert_allclose(scores[0].numpy(), np.log(np.sort(p_N)[::-1]), rtol=1e-4)
        assert not torch.equal(head.topk(make_features(1), N)[0], ids)
        lifts = [head.topk(make_features(1), N, score="lift", pos_weights=w)[0] for w in (None, weights_N)]
        assert torch.equal(*lifts)
        with pytest.raises(DataError, match=r"pos_weights are float32 of shape \(39,\)"):
            head.topk(make_features(1), 3, pos_weights=weights_N[1:])
        with pytest.raises(DataError, match=r"pos_weights has -1\.0 for tag 7"):
            head.score_bias_N(pos_weights=np.where(np.arange(N) == 7, -1.0, weights_N))


def test_topk_of_lift_and_probability_differ_and_other_scores_are_refused(head):
    by_probability, by_lift = (head.topk(make_features(), N, score=score)[0] for score in ("probability", "lift"))
    assert not torch.equal(by_probability, by_lift)
    with pytest.raises(ConfigError, match="one of probability, lift"):
        head.topk(make_features(), 3, score="luck")
    with pytest.raises(MatrixMismatch):
        head.topk(torch.ones(2, D + 1), 3)


def test_topk_refuses_features_that_are_no_finite_floats_and_speaks_of_no_flag(head):
    for features in (np.ones((2, D), np.float32), torch.ones(2, D, dtype=torch.int32)):
        with pytest.raises(DataError, match="expected"):
            head.topk(features, 3)
    with pytest.raises(DataError, match="NaN or infinity") as refused:
        head.topk(torch.full((2, D), torch.nan), 3)
    assert "--" not in str(refused.value)


def test_rows_are_copies_of_the_rows_asked_for(head):
    rows = head.rows([3, 0, 3])
    np.testing.assert_array_equal(rows.numpy(), head.matrix.rows_ND[[3, 0, 3]])
    with changes_nothing(head):
        rows.zero_()
    assert head.rows([]).shape == (0, D)
    assert torch.equal(head.rows(torch.tensor([3])), head.rows([3]))
    for bad in (-1, N):
        with pytest.raises(DataError, match=f"{bad}"):
            head.rows([0, bad])
    with pytest.raises(DataError, match="expected a flat list of integer tag ids"):
        head.rows([1.7])


def test_scaling_between_steps_loses_nothing_and_close_ends_everything():
    with make_head(seed=3) as head:
        reached = []
        for workers in (3, 1):
            head(make_features(), TAGS)
            head.scale(workers)
            reached.append(head(make_features(), TAGS).item())
        assert head.step == 4 and np.isfinite(reached).all()
        assert head.matrix.applied_W.sum() == 8  # two chunks a step, each applied once
        pids = [worker.pid for worker in head._own.pool.workers]
        directory = Path(head.router.endpoint.removeprefix("ipc://")).parent
        assert directory.is_dir()
        head.close()
        head.close()
    assert wait_for_exit(pids) == []
    assert not directory.exists()
    with pytest.raises(HeadClosed):
        head(make_features(), TAGS)
    with pytest.raises(HeadClosed):
        head.scale(2)


def test_a_head_says_what_it_is_and_how_many_workers_serve_it():
    with make_head(workers=2) as head:
        model = nn.Sequential(nn.Linear(6, D), head)
        told = f"WideHead(num_tags={N}, dim={D}, negatives=16, objective='negative-sampling', workers=%s)"
        assert repr(head) == told % 2 and told % 2 in repr(model)
        head.scale(1)
        head.num_negatives = 8
        assert repr(head) == (told % 1).replace("negatives=16", "negatives=8")
    assert repr(head).endswith(", closed)")


def test_a_head_that_nobody_closed_ends_its_workers():
    """As when the cell of a notebook that makes one is run again."""
    head = make_head()
    head(make_features(), TAGS)
    pids = [worker.pid for worker in head._own.pool.workers]
    directory = Path(head.router.endpoint.removeprefix("ipc://")).parent
    del head
    gc.collect()
    assert wait_for_exit(pids) == []
    assert not directory.exists()


def test_a_worker_killed_between_steps_is_replaced():
    with make_head() as head:
        head(make_features(), TAGS)
        head._own.pool.workers[0].process.kill()
        wait_for_exit([head._own.pool.workers[0].pid])
        assert np.isfinite(head(make_features(), TAGS).item())
        assert head.step == 2 and head.router.counters.workers_lost == 1


def test_a_new_head_can_be_read_at_once(monkeypatch):
    """However long its rows take, and whether or not its workers have loaded their kernels."""

    def late(*args):
        time.sleep(1.0)
        fill_rows(*args)

    monkeypatch.setattr("workers.row_fill.fill_rows", late)
    with make_head() as head:
        assert np.isfinite(head.rows(range(N)).numpy()).all()


def test_the_drop_in_example_of_the_readme(tmp_path):
    """A plain PyTorch loop: tags that pictures show can be told from them afterwards."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(12, D), nn.LayerNorm(D))
    optimizer = torch.optim.AdamW(trunk.parameters(), lr=0.01)
    prototypes = torch.randn(10, 3, 2, 2)
    kinds = torch.randint(10, (60, 16))
    loader = [(prototypes[k] + 0.1 * torch.randn(16, 3, 2, 2), [[int(i), 100 + int(i)] for i in k]) for k in kinds]
    losses = []
    with WideHead(num_tags=1000, dim=D, workers=2, negatives=64) as head:
        for images, tags in loader:
            optimizer.zero_grad()
            loss = head(trunk(images), tags)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        ids, _ = head.topk(trunk(prototypes), k=2)
        head.save(tmp_path / "head")
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    hits = [set(found) == {i, 100 + i} for i, found in enumerate(ids.tolist())]
    assert np.mean(hits) >= 0.9
