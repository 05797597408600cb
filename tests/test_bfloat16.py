"""The engine on bfloat16 rows: exact where nothing is rounded, near and without drift where rows are written."""

import dataclasses
import itertools

import numpy as np
import pytest
from wide_cases import make_chunk, make_config, make_matrix, random_features, run_both

from workers.config import OBJECTIVES
from workers.engine import WideEngine
from workers.jit import JIT_ENABLED
from workers.matrix_io import load_matrix, open_rows, save_matrix
from workers.tags import BIAS, BIAS_ACC, ROW_ACC

POSITIVES = [[1, 2, 3], [4], [2, 9, 11, 30], [59], [0, 5]]
LAST_BIT = 2.0**-7


@pytest.fixture(
    params=[
        *itertools.product(OBJECTIVES, (False, True), ("sgd",)),
        *itertools.product(("negative-sampling",), (False, True), ("adagrad",)),
    ],
    ids=str,
)
def config(request):
    objective, private, optimizer = request.param
    return make_config(objective=objective, private_negatives=private, row_dtype="bfloat16", row_optimizer=optimizer)


def chunk_of(**changes):
    return make_chunk(random_features(), POSITIVES, POSITIVES, **{"row_lr": 0.01, **changes})


def test_losses_and_gradients_are_those_of_the_stored_values(config):
    both = run_both(make_matrix(config), config, chunk_of(update=False))
    np.testing.assert_allclose(both.reply.loss_B, both.result.loss_B, rtol=1e-5)
    np.testing.assert_allclose(both.reply.feature_grad_BD, both.result.feature_grad_BD, atol=1e-5)
    assert (both.matrix.rows_ND == both.parameters.rows_ND).all()


def test_written_rows_are_within_a_last_bit(config):
    """Of the exact update for shared negatives. Private ones see rounded rows: each example that has one rounds it."""
    both = run_both(make_matrix(config), config, chunk_of())
    assert both.reply.rows_written == both.result.rows_written
    rows_ND, state_N4, exact = both.matrix.rows_ND, both.matrix.tag_state_N4, both.parameters
    most = 3 if config.private_negatives else 1.01
    np.testing.assert_allclose(rows_ND, exact.rows_ND, rtol=most * LAST_BIT, atol=1e-4)
    assert np.mean(np.abs(rows_ND - exact.rows_ND)) < 0.5 * LAST_BIT * np.mean(np.abs(exact.rows_ND))
    np.testing.assert_allclose(state_N4[:, BIAS], exact.bias_N, atol=1e-3)
    np.testing.assert_allclose(state_N4[:, ROW_ACC], exact.row_acc_N, rtol=1e-2)
    np.testing.assert_allclose(state_N4[:, BIAS_ACC], exact.bias_acc_N, rtol=1e-2)


@pytest.mark.skipif(not JIT_ENABLED, reason="too many numbers for plain Python")
def test_updates_below_the_last_bit_arrive_on_average(config):
    """Updates of a thousandth of a value: rounded to the nearest all would be lost; at random their sum arrives."""
    config = dataclasses.replace(config, negatives=1)
    matrix = make_matrix(config)
    before_ND = matrix.rows_ND.copy()
    exact = make_matrix(dataclasses.replace(config, row_dtype="float32"))
    exact.rows_NS[:], exact.tag_state_N4[:] = before_ND, matrix.tag_state_N4
    truth = [list(range(60))]
    for m in (matrix, exact):
        engine = WideEngine(m, dataclasses.replace(config, row_dtype="float32" if m is exact else "bfloat16"))
        for step in range(400):
            engine.apply(make_chunk(random_features(1), [[4, 5, 6]], truth, num_negatives=1, row_lr=2e-3, step=step))
    moved, expected = (m.rows_ND[[4, 5, 6]] - before_ND[[4, 5, 6]] for m in (matrix, exact))
    if config.objective == "sampled-softmax":
        assert not expected.any() and not moved.any()  # no negatives are left, so nothing is learned
        return
    assert np.abs(expected).max() > 0.1
    assert np.abs(moved - expected).mean() < 0.15 * np.abs(expected).mean()


def test_rounding_depends_on_the_chunk_alone(config):
    rows = []
    for step in (3, 3, 4):
        matrix = make_matrix(config)
        engine = WideEngine(matrix, config)
        engine.apply(chunk_of(update=False, step=9))
        engine.apply(chunk_of(step=step))
        rows.append(matrix.rows_NS.copy())
    assert (rows[0] == rows[1]).all()
    assert (rows[0] != rows[2]).any()


def test_bounded_rows_stay_within_the_bound(config):
    config = dataclasses.replace(config, max_norm=0.5)
    matrix = make_matrix(config)
    before = matrix.rows_ND.copy()
    WideEngine(matrix, config).apply(chunk_of())
    touched = (matrix.rows_ND != before).any(axis=1)
    assert touched.sum() > 10
    assert np.linalg.norm(matrix.rows_ND[touched], axis=1).max() <= 0.5 * (1 + LAST_BIT)


@pytest.mark.parametrize(("saved_as", "loaded_as"), list(itertools.product(("float32", "bfloat16"), repeat=2)))
def test_a_saved_matrix_loads_as_either_form(tmp_path, saved_as, loaded_as):
    config = make_config(row_dtype=saved_as)
    matrix = make_matrix(config)
    save_matrix(matrix, tmp_path / "m", config)
    np.testing.assert_array_equal(open_rows(tmp_path / "m").rows(3, 40), matrix.rows_ND[3:40])
    loaded = load_matrix(tmp_path / "m", dataclasses.replace(config, row_dtype=loaded_as))
    tolerance = LAST_BIT / 2 if (saved_as, loaded_as) == ("float32", "bfloat16") else 0
    np.testing.assert_allclose(loaded.rows_ND, matrix.rows_ND, rtol=tolerance)
    assert (loaded.rows_NS.dtype == np.uint32) == (loaded_as == "bfloat16")
