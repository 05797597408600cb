"""Loss terms and their building blocks against float64."""

import math

import numpy as np
import pytest

from workers.config import NEGATIVE_SAMPLING, SAMPLED_SOFTMAX
from workers.objectives import loss_terms
from workers.slots import MASKED

F = np.float32


def terms(objective, positives, weights_P, negatives, weights_K):
    s_pos, s_neg = np.array(positives, F), np.array(negatives, F)
    loss = loss_terms(objective, s_pos, np.array(weights_P, F), s_neg, np.array(weights_K, F))
    return float(loss), s_pos, s_neg


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_negative_sampling_formula(scale):
    rng = np.random.default_rng(0)
    s_pos, s_neg = rng.normal(size=17) * scale, rng.normal(size=301) * scale
    c, w = rng.random(17), rng.random(301)
    loss, grad_pos, grad_neg = terms(NEGATIVE_SAMPLING, s_pos, c, s_neg, w)
    np.testing.assert_allclose(loss, c @ np.logaddexp(0, -s_pos) + w @ np.logaddexp(0, s_neg), rtol=1e-6)
    np.testing.assert_allclose(grad_pos, -c / (1 + np.exp(s_pos)), rtol=5e-6 * max(scale, 1), atol=1e-37)
    np.testing.assert_allclose(grad_neg, w / (1 + np.exp(-s_neg)), rtol=5e-6 * max(scale, 1), atol=1e-37)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_sampled_softmax_formula(scale):
    rng = np.random.default_rng(0)
    s_pos, s_neg, shift = rng.normal(size=7) * scale, rng.normal(size=301) * scale, rng.normal(size=301)
    c = rng.random(7)
    loss, grad_pos, grad_neg = terms(SAMPLED_SOFTMAX, s_pos, c, s_neg, shift)
    y = s_neg + shift
    log_z = np.array([np.logaddexp.reduce([s, *y]) for s in s_pos])
    np.testing.assert_allclose(loss, c @ (log_z - s_pos), rtol=1e-5)
    np.testing.assert_allclose(grad_pos, c * np.expm1(s_pos - log_z), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grad_neg, np.exp(y[None] - log_z[:, None]).T @ c, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", [NEGATIVE_SAMPLING, SAMPLED_SOFTMAX])
def test_masked_scores_count_for_exactly_nothing(objective):
    with_mask = terms(objective, [0.3], [1], [1.0, MASKED, -2.0, MASKED], [0.5, 0.5, 0.5, 0.5])
    without = terms(objective, [0.3], [1], [1.0, -2.0], [0.5, 0.5])
    assert with_mask[0] == pytest.approx(without[0], rel=1e-7)
    assert with_mask[2][1] == with_mask[2][3] == 0
    np.testing.assert_allclose(with_mask[2][[0, 2]], without[2], rtol=1e-6)


def test_all_masked():
    loss, grad_pos, grad_neg = terms(SAMPLED_SOFTMAX, [0.3, -5], [1, 1], [MASKED] * 3, [2.0] * 3)
    assert (loss, grad_pos.tolist(), grad_neg.tolist()) == (0, [0, 0], [0, 0, 0])
    loss, grad_pos, grad_neg = terms(NEGATIVE_SAMPLING, [0.0], [1], [MASKED] * 3, [2.0] * 3)
    assert loss == pytest.approx(math.log(2))
    assert grad_neg.tolist() == [0, 0, 0]


@pytest.mark.parametrize("objective", [NEGATIVE_SAMPLING, SAMPLED_SOFTMAX])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["positive", "negative"])
def test_nan_and_infinity_are_seen(objective, bad, where):
    positives, negatives = ([bad, 1], [1, 2]) if where == "positive" else ([1, 2], [1] * 40 + [bad])
    assert math.isnan(terms(objective, positives, [1, 1], negatives, [1] * len(negatives))[0])


@pytest.mark.parametrize("objective", [NEGATIVE_SAMPLING, SAMPLED_SOFTMAX])
def test_scores_far_out_are_exact(objective):
    loss, grad_pos, grad_neg = terms(objective, [200.0, -200.0], [1, 1], [-500.0, 90.0], [1.0, 1.0])
    assert np.isfinite([loss, *grad_pos, *grad_neg]).all()
    expected = 200 + 91 - 1 if objective == NEGATIVE_SAMPLING else 200 + 91
    assert loss == pytest.approx(expected, rel=1e-6)
