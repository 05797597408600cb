"""The engine, in all its modes, against float64 loops and against torch's autograd."""

import dataclasses
import itertools

import naive
import numpy as np
import pytest
import torch
from wide_cases import (
    B,
    D,
    N,
    assert_equal,
    drawn_negatives,
    make_chunk,
    make_config,
    make_matrix,
    naive_examples,
    random_features,
    run_both,
)

from workers.config import OBJECTIVES, ROW_OPTIMIZERS
from workers.engine import WideEngine
from workers.errors import ChunkError
from workers.hot_tags import HOT_UPDATES
from workers.row_optimizers import MAX_ACCUMULATOR
from workers.sampler import FIRST, SIZE
from workers.tags import ROW_ACC
from workers.worker_stats import EXAMPLES, SERVED

MODES = list(itertools.product(OBJECTIVES, ROW_OPTIMIZERS, (False, True)))
POSITIVES = [[1, 2, 3], [4], [2, 9, 11, 30], [59], [0, 5]]
TRUTH = [[1, 2, 3, 8], [4], [2, 9, 11, 30, 31, 40], [58, 59], [0, 5, 17, 20]]


@pytest.fixture(params=MODES, ids=lambda mode: f"{mode[0]}-{mode[1]}-{'private' if mode[2] else 'shared'}")
def config(request):
    objective, optimizer, private = request.param
    return make_config(objective=objective, row_optimizer=optimizer, private_negatives=private)


def test_three_chunks_agree_with_the_naive_twin(config):
    matrix = make_matrix(config)
    chunks = [make_chunk(random_features(seed=s), POSITIVES, TRUTH, step=s) for s in range(3)]
    both = run_both(matrix, config, *chunks)
    assert both.reply.rows_written > 10
    assert_equal(both)


def test_true_ids_may_lie_in_the_matrix(config):
    matrix = make_matrix(config)
    items_B = np.array([3, 3, 0, 11, 7])
    both = run_both(matrix, config, make_chunk(random_features(), POSITIVES, items_B))
    assert both.reply.accidental_hits > 0
    assert_equal(both)


def test_without_update_nothing_is_written(config):
    matrix = make_matrix(config)
    rows, state = matrix.rows_ND.tobytes(), matrix.tag_state_N4.tobytes()
    both = run_both(matrix, config, make_chunk(random_features(), POSITIVES, TRUTH, update=False))
    assert_equal(both)
    assert both.reply.rows_written == 0
    assert matrix.rows_ND.tobytes() == rows
    assert matrix.tag_state_N4.tobytes() == state


def test_gradients_are_those_of_autograd(config):
    """The loss written down once more, for torch: its gradients by features and parameters are the engine's."""
    matrix = make_matrix(config)
    chunk = make_chunk(random_features(1), [[4, 9, 4]], [[4, 9, 13]], row_lr=1.0, num_negatives=40)
    rows, bias = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (matrix.rows_ND, matrix.bias_N))
    features_D = torch.tensor(chunk.features_BD[0], dtype=torch.float64, requires_grad=True)
    negatives = torch.tensor([k for k in drawn_negatives(matrix, chunk, 40) if k not in (4, 9, 13)])
    s_pos, s_neg = (
        rows[chunk.pos_ids] @ features_D + bias[chunk.pos_ids],
        rows[negatives] @ features_D + bias[negatives],
    )
    if config.objective == "negative-sampling":
        log_sigmoid = torch.nn.functional.logsigmoid
        loss = -log_sigmoid(s_pos).mean() - config.negative_weight / 40 * log_sigmoid(-s_neg).sum()
    else:
        corrected = s_neg - np.log(40) - torch.tensor(matrix.log_q_N.astype(np.float64))[negatives]
        logits = torch.cat([s_pos[:, None], corrected.expand(3, -1)], dim=1)
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.long))
    loss.backward()
    before_ND, before_N = matrix.rows_ND.astype(np.float64), matrix.bias_N.astype(np.float64)
    reply = WideEngine(matrix, config).apply(chunk)
    np.testing.assert_allclose(reply.loss_B[0], loss.item(), rtol=1e-5)
    np.testing.assert_allclose(reply.feature_grad_BD[0], features_D.grad, rtol=1e-4, atol=1e-6)
    if config.row_optimizer == "sgd":  # with lr 1 a row moves by its gradient
        np.testing.assert_allclose(before_ND - matrix.rows_ND, rows.grad, atol=2e-6)
        np.testing.assert_allclose(before_N - matrix.bias_N, bias.grad, atol=2e-6)


def test_naive_twin_is_the_gradient_of_its_loss(config):
    """The twin against finite differences, since everything else leans on it."""
    matrix = make_matrix(config)
    example = naive_examples(matrix, make_chunk(random_features(), POSITIVES, TRUTH), config)[2]
    parameters = naive.Parameters.of(matrix)
    gradients = naive.example_gradients(config, parameters, example)
    for array, index, grad in [
        (example.features_D, 3, gradients.feature_D[3]),
        (parameters.rows_ND, (9, 2), gradients.rows[9][2]),
        (parameters.bias_N, 9, gradients.biases[9]),
        (parameters.bias_N, example.neg_ids[0], gradients.biases[example.neg_ids[0]]),
    ]:
        losses = []
        for sign in (1, -1):
            array[index] += sign * 1e-5
            losses.append(naive.example_gradients(config, parameters, example).loss)
            array[index] -= sign * 1e-5
        np.testing.assert_allclose(grad, (losses[0] - losses[1]) / 2e-5, rtol=1e-6, atol=1e-9)


def test_weights_of_positives(config):
    weights = np.linspace(0, 3, 11).astype(np.float32)
    both = run_both(make_matrix(config), config, make_chunk(random_features(), POSITIVES, TRUTH, pos_weights=weights))
    assert_equal(both)


WEIGHTS = {
    "ones": [1, 1, 1, 1, 1],
    "several": [0.5, 2, 1, 0.125, 3],
    "some are 0": [0, 1.5, 0, 1, 0],
    "all are 0": [0, 0, 0, 0, 0],
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_of_examples(config, weights):
    config = dataclasses.replace(config, weight_decay=0.1)
    example_weights, pos_weights = np.array(weights, np.float32), np.linspace(0, 3, 11).astype(np.float32)
    chunks = [
        make_chunk(random_features(seed=s), POSITIVES, TRUTH, step=s, example_weights=example_weights, **others)
        for s, others in enumerate([{}, {"pos_weights": pos_weights}, {}])
    ]
    both = run_both(make_matrix(config), config, *chunks)
    assert_equal(both)
    assert (both.reply.rows_written > 0) == any(weights)


def test_weights_of_examples_with_tags_that_repeat(config):
    """Not the simple case: a negative drawn twice, accidental hits, one positive twice."""
    matrix, weights = make_matrix(config, num_tags=9), np.array(WEIGHTS["several"], np.float32)
    positives, truth = [[1, 1, 2], [1], [2, 2, 2, 2], [8], [8, 1]], [[1, 2], [1], [2], [8], [1, 8]]
    chunk = make_chunk(random_features(), positives, truth, num_negatives=40, example_weights=weights)
    assert_equal(run_both(matrix, config, chunk))


def test_weights_of_1_change_no_bit(config):
    given = make_chunk(random_features(), POSITIVES, TRUTH)
    outcomes = []
    for weights in (None, np.ones(5, np.float32)):
        matrix = make_matrix(config)
        reply = WideEngine(matrix, config).apply(dataclasses.replace(given, example_weights=weights))
        outcomes.append((reply.loss_B.tobytes(), reply.feature_grad_BD.tobytes(), matrix.rows_NS.tobytes()))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["pos_weights", "example_weights"])
def test_weights_that_overflow_are_refused_and_reach_no_row(config, name):
    matrix, features = make_matrix(config), 1e34 * random_features()
    weights = np.full(5 if name == "example_weights" else 11, 1e6, np.float32)
    before = matrix.rows_NS.copy(), matrix.tag_state_N4.copy()
    with pytest.raises(ChunkError, match="not finite"):
        WideEngine(matrix, config).apply(make_chunk(features, POSITIVES, TRUTH, **{name: weights}))
    assert np.array_equal(matrix.rows_NS, before[0]) and np.array_equal(matrix.tag_state_N4, before[1])


def test_duplicate_positives_and_negatives(config):
    """40 draws from few tags repeat; positives repeat, within an example and across; some are negatives of others."""
    matrix = make_matrix(config, num_tags=9)
    positives, truth = [[1, 1, 2], [1], [2, 2, 2, 2], [8], [8, 1]], [[1, 2], [1], [2], [8], [1, 8]]
    both = run_both(matrix, config, make_chunk(random_features(), positives, truth, num_negatives=40))
    assert_equal(both)


def test_positive_that_is_not_declared_true(config):
    """A drawn negative is masked if it is among the true ids; among the positives alone, both terms count."""
    matrix = make_matrix(config, num_tags=3)
    both = run_both(matrix, config, make_chunk(random_features(), [[0], [1], [2], [0, 1], []], [[], [], [], [], []]))
    assert both.reply.accidental_hits == 0
    assert_equal(both)


def test_no_negatives_left(config):
    """All draws are accidental hits: only positives count; sampled softmax then has nothing to tell apart."""
    matrix = make_matrix(config, num_tags=4)
    both = run_both(matrix, config, make_chunk(random_features(), [[0], [1], [2], [3], [0, 3]], [[0, 1, 2, 3]] * B))
    assert_equal(both)
    assert both.reply.accidental_hits == 24 * B
    if config.objective == "sampled-softmax":
        assert not both.reply.loss_B.any()
        assert not both.reply.feature_grad_BD.any()
        assert both.reply.rows_written == 0


def test_empty_positives(config):
    both = run_both(
        make_matrix(config), config, make_chunk(random_features(), [[], [], [3], [], []], [[], [5], [3], [], []])
    )
    assert_equal(both)
    assert bool(both.reply.loss_B[0]) == (config.objective == "negative-sampling")


def test_no_positives_in_the_whole_chunk(config):
    assert_equal(run_both(make_matrix(config), config, make_chunk(random_features(), [[]] * B, [[]] * B)))


def test_one_tag(config):
    matrix = make_matrix(config, num_tags=1)
    both = run_both(matrix, config, make_chunk(random_features(), [[0], [0], [], [0], []], [[0], [0], [], [], [0]]))
    assert_equal(both, same_writes=False, left_over=1e-7)  # as a positive and 24 negatives at once its gradients cancel


def test_fewer_tags_than_negatives(config):
    matrix = make_matrix(config, num_tags=7)
    positives = [[0], [1], [2], [3], [4]]
    both = run_both(matrix, config, make_chunk(random_features(), positives, positives, num_negatives=500))
    assert both.reply.rows_written <= 7 * (B if config.private_negatives else 1)
    assert_equal(both)


def test_one_example(config):
    assert_equal(run_both(make_matrix(config), config, make_chunk(random_features(1), [[5, 6]], [[5, 6, 7]])))


def test_tags_with_zero_count(config):
    """They are never drawn, start improbable, are learned when they come as positives, and stay finite."""
    matrix = make_matrix(config)
    counts = np.where(np.arange(N) % 2, 10, 0)
    matrix.close()
    matrix = type(matrix).create(N, D, config=config, counts=counts)
    state = matrix.tag_state_N4.copy()
    assert np.isfinite(matrix.bias_N).all()
    reply = WideEngine(matrix, config).apply(
        make_chunk(random_features(), [[0], [2], [3], [], []], [[0], [2], [3], [], []])
    )
    changed = np.flatnonzero(matrix.tag_state_N4[:, 0] != state[:, 0])
    assert {0, 2} <= set(changed.tolist())
    assert all(t % 2 or t in (0, 2) for t in changed)
    assert np.isfinite(reply.loss_B).all()
    assert np.isfinite(matrix.rows_ND).all()
    assert reply.loss_B[0] > 5  # -log p of a tag that was improbable


def test_extreme_scores_are_exact(config):
    matrix = make_matrix(config)
    matrix.bias_N[:] = np.linspace(-90, 90, N)
    both = run_both(matrix, config, make_chunk(random_features(), POSITIVES, TRUTH))
    assert_equal(both, same_writes=False)


@pytest.mark.parametrize("dim", [pytest.param(4, marks=pytest.mark.slow), 36])
def test_dims_that_are_no_multiple_of_a_vector(config, dim):
    matrix = make_matrix(config, dim=dim)
    assert_equal(run_both(matrix, config, make_chunk(random_features(dim=dim), POSITIVES, TRUTH)))


def test_max_norm_bounds_written_rows(config):
    config = dataclasses.replace(config, max_norm=0.5)
    matrix = make_matrix(config)
    untouched = matrix.rows_ND.copy()
    both = run_both(matrix, config, make_chunk(random_features(), POSITIVES, TRUTH))
    assert_equal(both)
    norms, touched = np.linalg.norm(matrix.rows_ND, axis=1), (matrix.rows_ND != untouched).any(axis=1)
    assert norms[touched].max() <= 0.5 * (1 + 1e-6)
    assert norms[~touched].max(initial=1) > 0.5


def test_decay_shrinks_written_rows_alone(config):
    """By lr times the decay, once a write; biases do not decay."""
    config = dataclasses.replace(config, weight_decay=2.0)
    both = run_both(make_matrix(config), config, make_chunk(random_features(), POSITIVES, TRUTH, row_lr=0.05))
    assert_equal(both)
    matrix = make_matrix(config)
    untouched = matrix.rows_ND.copy()
    truth = [list(range(N))] * B  # no negatives are left
    WideEngine(matrix, config).apply(make_chunk(np.zeros((B, D)), [[1], [1], [2], [], []], truth, row_lr=0.05))
    if config.objective == "negative-sampling":  # with features 0 rows do but decay
        keep = np.ones(N)
        keep[[1, 2]] = 0.9 ** (2 if config.private_negatives else 1), 0.9
        np.testing.assert_allclose(matrix.rows_ND, untouched * keep[:, None], rtol=1e-6)


def test_results_do_not_depend_on_earlier_chunks_in_the_same_engine(config):
    """Scratch memory is reused: a large chunk before must not be seen in a small one after."""
    small = make_chunk(random_features(2), [[1], []], [[1], [2]], update=False, num_negatives=3)
    matrix = make_matrix(config)
    engine = WideEngine(matrix, config)
    fresh = engine.apply(small)
    expected = fresh.loss_B.copy(), fresh.feature_grad_BD.copy(), fresh.accidental_hits
    engine.apply(make_chunk(random_features(40), [[1, 2, 3]] * 40, [[1, 2, 3]] * 40, update=False, num_negatives=300))
    again = engine.apply(small)
    assert np.array_equal(again.loss_B, expected[0])
    assert np.array_equal(again.feature_grad_BD, expected[1])
    assert again.accidental_hits == expected[2]


def test_read_only_and_unaligned_arrays_are_taken(config):
    """Arrays that lie in a received frame."""
    chunk = make_chunk(random_features(), POSITIVES, TRUTH)
    frame = b"x" + chunk.features_BD.tobytes()
    received = np.frombuffer(frame, np.float32, B * D, offset=1).reshape(B, D)
    assert not received.flags.writeable and not received.flags.aligned
    both = run_both(make_matrix(config), config, dataclasses.replace(chunk, features_BD=received))
    assert_equal(both)


def test_statistics_count_what_was_done(config):
    matrix = make_matrix(config)
    engine = WideEngine(matrix, config, worker_index=5)
    engine.warm_up()
    assert not matrix.worker_stats_WS.any()
    engine.apply(make_chunk(random_features(), POSITIVES, TRUTH))
    engine.apply(make_chunk(random_features(), POSITIVES, TRUTH, update=False))
    stats = matrix.worker_stats_WS
    assert stats[5, [SERVED, EXAMPLES]].tolist() == [2, 2 * B] and matrix.applied_W[5] == 1
    assert not np.delete(stats, 5, axis=0).any()


def test_a_warm_up_that_fails_lets_go_of_its_matrix(monkeypatch):
    config, warmed = make_config(), []

    def fail(engine, chunk):
        warmed.append(engine.matrix)
        raise SystemExit  # of SIGTERM, say

    monkeypatch.setattr(WideEngine, "apply", fail)
    with pytest.raises(SystemExit):
        WideEngine(make_matrix(config), config).warm_up()
    assert [matrix.fd for matrix in warmed] == [-1]


def test_rows_stay_finite_when_numbers_explode(config):
    """Scores beyond float32, gradients whose square is: refused, and never NaN or infinity in a row."""
    matrix = make_matrix(config)
    engine = WideEngine(matrix, config)
    for scale in (1e18, 1e25, 1e38):
        chunk = make_chunk(random_features() * np.float32(scale), POSITIVES, TRUTH)
        with np.errstate(over="ignore"):
            try:
                engine.apply(chunk)
            except ChunkError as e:
                assert "features_BD" in str(e)
    assert np.isfinite(matrix.rows_ND).all()
    assert np.isfinite(matrix.tag_state_N4).all()


@pytest.mark.parametrize(("private_negatives", "size"), [(False, 1.5e16), (True, 1e17)])
def test_accumulators_stay_finite_when_gradients_are_huge_for_long(private_negatives, size):
    """Infinity would be NaN after the merge of a hot row's copy, and NaN would stay in the row for good."""
    config = make_config(private_negatives=private_negatives, row_optimizer="adagrad")
    matrix, num_examples = make_matrix(config), 4 * HOT_UPDATES
    engine, positives = WideEngine(matrix, config), [[1, 2 + b % 9] for b in range(num_examples)]
    signs = np.sign(random_features(num_examples))
    for step in range(60):
        engine.apply(make_chunk(signs * np.float32(size), positives, positives, step=step))
    assert np.isfinite(matrix.tag_state_N4).all() and np.isfinite(matrix.rows_ND).all()
    assert matrix.tag_state_N4[1, ROW_ACC] == MAX_ACCUMULATOR
    engine.apply(make_chunk(random_features(num_examples), positives, positives))


@pytest.mark.parametrize("private_negatives", [False, True])
def test_a_rate_at_which_decay_would_turn_rows_over_is_refused(private_negatives):
    """The configuration is checked with its own rate; a chunk may carry another one."""
    config = make_config(private_negatives=private_negatives, weight_decay=10.0, row_lr=0.03)
    matrix = make_matrix(config)
    rows = matrix.rows_ND.tobytes()
    with pytest.raises(ChunkError, match=r"row_lr = 0.3 with weight_decay = 10 leaves -2 .* below 0.1"):
        WideEngine(matrix, config).apply(make_chunk(random_features(), POSITIVES, TRUTH, row_lr=0.3))
    assert matrix.rows_ND.tobytes() == rows
    WideEngine(matrix, config).apply(make_chunk(random_features(), POSITIVES, TRUTH, row_lr=0.09))


def test_refused_chunk_with_shared_negatives_writes_nothing():
    config = make_config()
    matrix = make_matrix(config)
    matrix.rows_ND[59] = 3e38
    rows, state = matrix.rows_ND.tobytes(), matrix.tag_state_N4.tobytes()
    features_BD = np.ones((B, D), np.float32)
    with pytest.raises(ChunkError, match="not finite"):
        WideEngine(matrix, config).apply(make_chunk(features_BD, POSITIVES, TRUTH))
    assert matrix.rows_ND.tobytes() == rows
    assert matrix.tag_state_N4.tobytes() == state


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("update", [False, True])
def test_features_that_are_not_finite_are_named_and_reach_no_row(config, value, update):
    """Found by the kernel while it works: other examples' rows may have moved, those of a bad example have not."""
    for bad in range(B):
        matrix = make_matrix(config)
        before = matrix.rows_ND.copy()
        features_BD = random_features()
        features_BD[bad, bad % D] = value
        with pytest.raises(ChunkError, match=f"features_BD: got NaN or infinity in example {bad}"):
            WideEngine(matrix, config).apply(make_chunk(features_BD, POSITIVES, TRUTH, update=update))
        assert np.isfinite(matrix.rows_ND).all() and np.isfinite(matrix.tag_state_N4).all()
        if bad == 0 or not update or not config.private_negatives:
            np.testing.assert_array_equal(matrix.rows_ND, before)


def test_refused_example_with_private_negatives_is_not_written():
    config = make_config(private_negatives=True, negatives=1)
    matrix = make_matrix(config)
    matrix.sampler_groups_G4[:, [FIRST, SIZE]] = 7, 1  # draws tag 7 only
    matrix.sampler_members[:] = 7
    matrix.rows_ND[59] = 3e38
    before = matrix.rows_ND.copy()
    with pytest.raises(ChunkError, match="example 3"):
        WideEngine(matrix, config).apply(make_chunk(np.ones((B, D)), POSITIVES, TRUTH, num_negatives=1))
    assert (matrix.rows_ND[1] != before[1]).any()  # earlier examples of the chunk remain applied
    assert (matrix.rows_ND[[59, 0, 5]] == before[[59, 0, 5]]).all()
