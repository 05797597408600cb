"""The sampler: the alias table's distribution exactly, the draws' by chi-square."""

import naive
import numpy as np
import pytest
from scipy.stats import chisquare

from workers.jit import JIT_ENABLED
from workers.sampler import build_table, draw_ids, sampling_probabilities

NUM_DRAWS = 400_000 if JIT_ENABLED else 20_000


def table_of(q_N):
    cells_N2 = np.full((len(q_N), 2), 0xFFFFFFFF, np.uint32)
    build_table(q_N, cells_N2)
    return cells_N2


def draw(cells_N2, key, num_draws):
    ids = np.full(num_draws, -1, np.int32)
    draw_ids(cells_N2, np.uint64(key), ids)
    return ids


DISTRIBUTIONS = {
    "zipf": 1 / np.arange(1, 501),
    "uniform": np.ones(333),
    "one_tag": np.ones(1),
    "two": np.array([1.0, 3.0]),
    "zeros": np.array([0, 1, 0, 0, 5, 0, 2.5, 0, 0, 0, 0, 1e-9]),
    "one_of_many": np.eye(1, 100, 41)[0],
    "extreme": np.array([1e12, 1, 1, 1e-3, 0, 7]),
    "random": np.random.default_rng(0).random(2000) ** 8,
}


@pytest.fixture(params=DISTRIBUTIONS.values(), ids=DISTRIBUTIONS.keys())
def q_N(request):
    return request.param / request.param.sum()


def test_table_holds_the_distribution(q_N):
    q_table_N = naive.table_probabilities(table_of(q_N))
    np.testing.assert_allclose(q_table_N, q_N, atol=2e-9)
    assert not q_table_N[q_N == 0].any()


def test_draws_agree_with_the_naive_twin(q_N):
    cells_N2 = table_of(q_N)
    assert draw(cells_N2, 99, 300).tolist() == naive.draw_ids(cells_N2, 99, 300)


def test_draws_follow_the_distribution(q_N):
    counts = np.bincount(draw(table_of(q_N), 7, NUM_DRAWS), minlength=len(q_N))
    common = q_N * NUM_DRAWS >= 5  # chi-square wants five expected in each cell; the rest is one cell
    observed, expected = counts[common].tolist(), (q_N[common] * NUM_DRAWS).tolist()
    if not common.all() and q_N[~common].sum() * NUM_DRAWS >= 5:
        observed, expected = [*observed, counts[~common].sum()], [*expected, q_N[~common].sum() * NUM_DRAWS]
    expected = np.array(expected) * (sum(observed) / sum(expected))
    assert chisquare(observed, expected).pvalue > 1e-4 if len(observed) > 1 else observed == [NUM_DRAWS]
    assert not counts[q_N == 0].any()


def test_chi_square_would_see_a_wrong_table():
    q_N = DISTRIBUTIONS["zipf"] / DISTRIBUTIONS["zipf"].sum()
    wrong_N = q_N.copy()
    wrong_N[0] *= 1.3
    counts = np.bincount(draw(table_of(wrong_N / wrong_N.sum()), 7, NUM_DRAWS), minlength=len(q_N))
    assert chisquare(counts, q_N * NUM_DRAWS).pvalue < 1e-4


def test_keys_decide_the_draws():
    cells_N2 = table_of(np.full(1000, 1e-3))
    assert (draw(cells_N2, 1, 500) == draw(cells_N2, 1, 500)).all()
    assert (draw(cells_N2, 1, 500) != draw(cells_N2, 2, 500)).mean() > 0.9


def test_successive_draws_are_independent():
    ids = draw(table_of(np.full(16, 1 / 16)), 5, NUM_DRAWS)
    pairs = np.bincount(ids[:-1:2].astype(np.int64) * 16 + ids[1::2], minlength=256)
    assert chisquare(pairs).pvalue > 1e-4


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.75, 1.0])
def test_probabilities_are_powers_of_counts(alpha):
    q_N = sampling_probabilities(np.array([4, 0, 1, 100]), alpha)
    expected = np.array([4**alpha, 0, 1, 100**alpha])
    np.testing.assert_allclose(q_N, expected / expected.sum())


def test_no_count_at_all():
    with pytest.raises(ValueError, match="count above 0"):
        sampling_probabilities(np.zeros(3), 0.5)
