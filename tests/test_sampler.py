"""The sampler: the distribution of its groups exactly, that of draws by chi-square."""

import naive
import numpy as np
import pytest
from goodness_of_fit import p_value

from workers.jit import JIT_ENABLED
from workers.sampler import build_groups, draw_ids, sampling_probabilities

NUM_DRAWS = 400_000 if JIT_ENABLED else 20_000


def groups_of(counts_N, alpha=1.0):
    return build_groups(counts_N, sampling_probabilities(counts_N, alpha))


def draw(groups, key, num_draws):
    ids = np.full(num_draws, -1, np.int32)
    draw_ids(*groups, np.uint64(key), ids)
    return ids


COUNTS = {
    "zipf": 1000 // np.arange(1, 501),
    "uniform": np.ones(333, int),
    "one_tag": np.ones(1, int),
    "two": np.array([1, 3]),
    "zeros": np.array([0, 1, 0, 0, 5, 0, 2, 0, 0, 0, 0, 1]),
    "zeros_at_the_end": np.array([7, 7, 2, 2, 2, 0, 0]),
    "one_of_many": np.eye(1, 100, 41, dtype=int)[0],
    "extreme": np.array([10**12, 10, 10, 1, 0, 7]),
    "in_no_order": np.random.default_rng(0).integers(0, 60, 2000),
    "all_different": np.arange(1, 700),
}


@pytest.fixture(params=COUNTS.values(), ids=COUNTS.keys())
def counts_N(request):
    return request.param


def test_groups_hold_the_distribution(counts_N):
    for alpha in (0.0, 0.5, 1.0):
        q_N = sampling_probabilities(counts_N, alpha)
        drawn_N = naive.group_probabilities(*groups_of(counts_N, alpha), len(counts_N))
        np.testing.assert_allclose(drawn_N, q_N, atol=2e-9)
        assert not drawn_N[counts_N == 0].any()


def test_a_group_for_each_different_count(counts_N):
    groups_G4, members = groups_of(counts_N)
    assert len(groups_G4) == len(np.unique(counts_N[counts_N > 0]))
    falling = (np.diff(counts_N) <= 0).all()
    assert len(members) == (0 if falling else np.count_nonzero(counts_N))


def test_draws_agree_with_the_naive_twin(counts_N):
    groups = groups_of(counts_N)
    assert draw(groups, 99, 300).tolist() == naive.draw_ids(*groups, 99, 300)


def test_draws_follow_the_distribution(counts_N):
    q_N = sampling_probabilities(counts_N, 1.0)
    observed_N = np.bincount(draw(groups_of(counts_N), 7, NUM_DRAWS), minlength=len(q_N))
    common = q_N * NUM_DRAWS >= 5  # chi-square wants five expected in each cell; the rest is one cell
    observed, expected = observed_N[common].tolist(), (q_N[common] * NUM_DRAWS).tolist()
    if not common.all() and q_N[~common].sum() * NUM_DRAWS >= 5:
        observed, expected = [*observed, observed_N[~common].sum()], [*expected, q_N[~common].sum() * NUM_DRAWS]
    expected = np.array(expected) * (sum(observed) / sum(expected))
    assert p_value(observed, expected) > 1e-4 if len(observed) > 1 else observed == [NUM_DRAWS]
    assert not observed_N[q_N == 0].any()


def test_chi_square_would_see_a_wrong_distribution():
    counts_N = COUNTS["zipf"]
    wrong_N = counts_N.copy()
    wrong_N[0] = wrong_N[0] * 13 // 10
    observed_N = np.bincount(draw(groups_of(wrong_N), 7, NUM_DRAWS), minlength=len(counts_N))
    assert p_value(observed_N, sampling_probabilities(counts_N, 1.0) * NUM_DRAWS) < 1e-4


def test_keys_decide_the_draws():
    groups = groups_of(np.ones(1000, int))
    assert (draw(groups, 1, 500) == draw(groups, 1, 500)).all()
    assert (draw(groups, 1, 500) != draw(groups, 2, 500)).mean() > 0.9


@pytest.mark.parametrize("counts_N", [np.ones(16, int), np.repeat([2, 1], 8)], ids=["one_group", "two_groups"])
def test_successive_draws_are_independent(counts_N):
    ids = draw(groups_of(counts_N), 5, NUM_DRAWS)
    pairs = np.bincount(ids[:-1:2].astype(np.int64) * 16 + ids[1::2], minlength=256)
    q_N = counts_N / counts_N.sum()
    assert p_value(pairs, np.outer(q_N, q_N).ravel() * pairs.sum()) > 1e-4


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.75, 1.0])
def test_probabilities_are_powers_of_counts(alpha):
    q_N = sampling_probabilities(np.array([4, 0, 1, 100]), alpha)
    expected = np.array([4**alpha, 0, 1, 100**alpha])
    np.testing.assert_allclose(q_N, expected / expected.sum())


def test_no_count_at_all():
    with pytest.raises(ValueError, match="count above 0"):
        sampling_probabilities(np.zeros(3), 0.5)
