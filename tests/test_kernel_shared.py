"""What distinguishes the kernel with shared negatives: one merged write per row, exact masks at real sizes."""

import dataclasses

import numpy as np
import pytest
from wide_cases import assert_equal, drawn_negatives, make_chunk, make_config, make_matrix, random_features, run_both

from workers.config import OBJECTIVES
from workers.engine import WideEngine
from workers.errors import ChunkError
from workers.jit import JIT_ENABLED

CONFIG = make_config()
POSITIVES = [[1, 2], [2, 3], [], [2], [7, 7]]


def test_order_of_examples_does_not_matter():
    """Rows are as before the chunk for every example, so a permuted chunk writes the same rows."""
    order = [3, 0, 4, 2, 1]
    features_BD = random_features()
    matrices = [make_matrix(CONFIG), make_matrix(CONFIG)]
    WideEngine(matrices[0], CONFIG).apply(make_chunk(features_BD, POSITIVES, [*POSITIVES[:4], [7]]))
    permuted = [POSITIVES[b] for b in order]
    WideEngine(matrices[1], CONFIG).apply(make_chunk(features_BD[order], permuted, [sorted(set(p)) for p in permuted]))
    np.testing.assert_allclose(matrices[0].rows_ND, matrices[1].rows_ND, atol=1e-5)
    np.testing.assert_allclose(matrices[0].tag_state_N4, matrices[1].tag_state_N4, atol=1e-5)


def test_adagrad_sees_one_merged_gradient():
    """Two equal examples: their row's accumulator grows by the square of the sum, not by the sum of squares."""
    config = make_config(negatives=1)
    features_BD = np.repeat(random_features(1), 2, axis=0)
    gains = []
    for count in (1, 2):
        matrix = make_matrix(config)
        before = matrix.tag_state_N4[4, 1]
        WideEngine(matrix, config).apply(make_chunk(features_BD[:count], [[4]] * count, [list(range(60))] * count))
        gains.append(matrix.tag_state_N4[4, 1] - before)
    assert gains[1] == pytest.approx(4 * gains[0], rel=1e-4)


def test_each_distinct_row_is_written_once():
    config = make_config()
    matrix = make_matrix(config)
    before = matrix.rows_ND.copy()
    reply = WideEngine(matrix, config).apply(make_chunk(random_features(), POSITIVES, [[]] * 5))
    assert reply.rows_written == (matrix.rows_ND != before).any(axis=1).sum()


def test_tags_that_are_masked_for_all_are_not_touched():
    """Not even their accumulators, nor are they bounded: nobody learned anything about them."""
    config = make_config(max_norm=0.01)
    matrix = make_matrix(config)
    before, state = matrix.rows_ND.copy(), matrix.tag_state_N4.copy()
    reply = WideEngine(matrix, config).apply(make_chunk(random_features(), [[]] * 5, [list(range(60))] * 5))
    assert reply.accidental_hits == 5 * 24
    assert reply.rows_written == 0
    assert np.array_equal(matrix.rows_ND, before)
    assert np.array_equal(matrix.tag_state_N4, state)


@pytest.mark.parametrize("row_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_any_number_of_positives(objective, row_dtype):
    """Rows are read by fours, and what is left one by one, from wherever an example's positives begin."""
    config = make_config(objective=objective, row_dtype=row_dtype, row_optimizer="sgd")
    matrix = make_matrix(config)
    rng = np.random.default_rng(3)
    positives = [sorted(rng.choice(60, n, replace=False).tolist()) for n in (5, 1, 6, 7, 2, 9, 3, 12, 0, 4)]
    both = run_both(matrix, config, make_chunk(random_features(10), positives, positives, row_lr=0.01))
    assert both.reply.rows_written == both.result.rows_written
    np.testing.assert_allclose(both.reply.loss_B, both.result.loss_B, rtol=1e-5)
    np.testing.assert_allclose(both.reply.feature_grad_BD, both.result.feature_grad_BD, atol=1e-5)
    last_bit = 1e-6 if row_dtype == "float32" else 2.0**-7
    np.testing.assert_allclose(both.matrix.rows_ND, both.parameters.rows_ND, rtol=1.01 * last_bit, atol=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("num_tags", [1, 15, 16, 17, 32, 33])
def test_any_number_of_negatives(objective, num_tags):
    """Products are of whole blocks of rows, some of which may be no negative's. Here every tag is drawn."""
    config = make_config(objective=objective, row_optimizer="sgd")
    matrix = make_matrix(config, num_tags=num_tags)
    positives = [[0], [num_tags // 2], [], [num_tags - 1]]
    chunk = make_chunk(random_features(4), positives, positives, num_negatives=5000, row_lr=0.001)
    assert len({*drawn_negatives(matrix, chunk, 5000)}) == num_tags
    assert_equal(run_both(matrix, config, chunk))


def without_draws(matrix, *tags):
    """The matrix, which never draws these tags: it draws 7 in their place."""
    assert len(matrix.sampler_members), "else a group lists its tags by their number"
    matrix.sampler_members[np.isin(matrix.sampler_members, tags)] = 7
    return matrix


@pytest.mark.parametrize("culprit", ["lone positive", "shared positive", "negatives"])
def test_nothing_is_written_if_one_row_of_the_last_example_is_refused(culprit):
    """Nor rows of the examples before it, of which some are theirs alone."""
    config = make_config(row_optimizer="sgd")
    matrix = without_draws(make_matrix(config), 1, 2, 3, 40)
    features_BD, last = random_features(), {"lone positive": [40], "shared positive": [2], "negatives": []}[culprit]
    features_BD[4] = -1e17 * np.sign(matrix.rows_ND[last].sum(axis=0)) if last else 1e17
    truth = [list(range(60)) if last else [*range(30)] for _ in range(5)]
    before, state = matrix.rows_ND.copy(), matrix.tag_state_N4.copy()
    with pytest.raises(ChunkError, match="a row's gradient is not finite; nothing was written"):
        WideEngine(matrix, config).apply(make_chunk(features_BD, [*POSITIVES[:4], last], truth, row_lr=1e4))
    assert np.array_equal(matrix.rows_ND, before) and np.array_equal(matrix.tag_state_N4, state)
    features_BD[4] *= 1e-17
    reply = WideEngine(matrix, config).apply(make_chunk(features_BD, [*POSITIVES[:4], last], truth, row_lr=1e4))
    assert reply.rows_written > 0


def test_a_gradient_of_0_is_sound_whatever_its_features():
    """Their mean square is infinite, and 0 times that is NaN."""
    config = make_config()
    matrix = without_draws(make_matrix(config), 4)
    features_BD = np.float32(3e19) * np.sign(matrix.rows_ND[[4]])
    reply = WideEngine(matrix, config).apply(make_chunk(features_BD, [[4]], [list(range(60))]))
    assert reply.rows_written == 0 and reply.loss_B[0] == 0


def test_features_that_nothing_is_computed_from_are_looked_at_all_the_same():
    """An example without positives, all of whose negatives are true: no score of it counts."""
    matrix, features_BD = make_matrix(CONFIG), random_features(2)
    features_BD[1, 3] = np.nan
    chunk = dataclasses.replace(make_chunk(features_BD, [[1], []], [[1], list(range(60))]), update=False)
    with pytest.raises(ChunkError, match="features_BD: got NaN or infinity in example 1"):
        WideEngine(matrix, CONFIG).apply(chunk)


def test_a_chunk_that_needs_too_much_memory_is_refused_and_the_next_one_served(monkeypatch):
    """The worker lives on: a MemoryError would end it, and its successors with the same chunk."""
    engine, chunk = WideEngine(make_matrix(CONFIG), CONFIG), make_chunk(random_features(), POSITIVES, [[]] * 5)
    with monkeypatch.context() as short:
        short.setattr("workers.scratch.HUGE_PAGE_BYTES", 1 << 45)
        with pytest.raises(ChunkError, match=r"num_negatives: 5 examples with .* need more memory than there is"):
            engine.apply(chunk)
    assert np.isfinite(engine.apply(chunk).loss_B).all()


@pytest.mark.skipif(not JIT_ENABLED, reason="too many numbers for plain Python")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_real_sizes(objective):
    """40,000 tags, 700 of them true per example, so that the filter of the masks lets some pass that are not there."""
    config = make_config(objective=objective, negatives=1024, negative_weight=16.0, init_scale=0.3)
    matrix = make_matrix(config, num_tags=40_000, dim=36)  # which other tests compile, too
    rng = np.random.default_rng(5)
    truth = [np.sort(rng.choice(40_000, 700, replace=False, shuffle=False)).tolist() for _ in range(12)]
    positives = [rng.choice(t, 16, replace=False).tolist() for t in truth]
    chunk = make_chunk(random_features(12, 36), positives, truth, num_negatives=1024)
    both = run_both(matrix, config, chunk)
    assert both.reply.accidental_hits > 100
    assert_equal(both)


def test_negatives_depend_on_the_chunk_alone():
    """On (seed, step, chunk): not on the engine, on what it did before, or on time."""
    chunk = dataclasses.replace(make_chunk(random_features(), POSITIVES, [[]] * 5), update=False)
    matrix = make_matrix(CONFIG)
    first, second = (WideEngine(matrix, CONFIG, worker_index=i).apply(chunk) for i in (0, 1))
    assert np.array_equal(first.loss_B, second.loss_B)
    for change in ({"seed": 8}, {"step": 4}, {"chunk": 2}):
        other = WideEngine(matrix, CONFIG).apply(dataclasses.replace(chunk, **change))
        assert not np.array_equal(first.loss_B, other.loss_B)
