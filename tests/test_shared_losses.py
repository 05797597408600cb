"""Losses of shared negatives, by negatives: those of one example after the other, in columns."""

import numpy as np
import pytest

from workers.config import NEGATIVE_SAMPLING, SAMPLED_SOFTMAX
from workers.objectives import loss_terms
from workers.shared_losses import complete_negatives, differentiate_negatives
from workers.slots import MASKED
from workers.widths import BLOCK

F = np.float32
OBJECTIVES = [NEGATIVE_SAMPLING, SAMPLED_SOFTMAX]
K = 37


class Negatives:
    """Scores of K negatives for so many examples, and of none up to whole blocks; arrays to fill hold nonsense."""

    def __init__(self, objective, num_examples, scale=1.0):
        rng, num_columns = np.random.default_rng(num_examples), -(-num_examples // BLOCK) * BLOCK
        self.objective, self.num_examples = objective, num_examples
        self.scores_KX = F(rng.normal(size=(K, num_columns)) * scale)
        self.scores_KX[3] = self.scores_KX[5, 0] = self.scores_KX[:, num_examples:] = MASKED
        self.bias_K = F(rng.normal(size=K))
        self.weight_K = np.abs(F(rng.normal(size=K)))
        self.loss_X, self.log_a_X, self.scale_X = (np.full(num_columns, np.nan, F) for _ in range(3))
        self.bias_grads_K = np.full(K, np.nan, F)

    def differentiate(self):
        outputs = self.loss_X, self.log_a_X, self.scale_X, self.bias_grads_K
        return differentiate_negatives(self.objective, self.bias_K, self.weight_K, self.scores_KX, *outputs)


@pytest.mark.parametrize("num_examples", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_negative_sampling_of_each_column(scale, num_examples):
    negatives = Negatives(NEGATIVE_SAMPLING, num_examples, scale)
    grads = negatives.scores_KX + negatives.bias_K[:, None]
    losses = [loss_terms(NEGATIVE_SAMPLING, F([]), F([]), column, negatives.weight_K) for column in grads.T.copy()]
    assert negatives.differentiate()
    np.testing.assert_allclose(negatives.loss_X, losses, rtol=1e-5)
    share = 1 / (1 + np.exp(-np.clip(grads, -80, 80, dtype=np.float64)))
    expected = negatives.weight_K[:, None] * np.where(grads < -80, 0, share)
    np.testing.assert_allclose(negatives.scores_KX, expected, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(negatives.bias_grads_K, expected.sum(1), rtol=1e-5, atol=1e-30)
    assert not negatives.scores_KX[3].any() and not negatives.scores_KX[:, num_examples:].any()
    assert not negatives.log_a_X.any()


@pytest.mark.parametrize("num_examples", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_sampled_softmax_of_each_column(scale, num_examples):
    negatives = Negatives(SAMPLED_SOFTMAX, num_examples, scale)
    y = (negatives.scores_KX + (negatives.bias_K + negatives.weight_K)[:, None])[:, :num_examples].astype(np.float64)
    log_a = np.logaddexp.reduce(y, axis=0)
    assert negatives.differentiate()
    np.testing.assert_allclose(negatives.log_a_X[:num_examples], log_a, rtol=1e-5, atol=1e-5)
    negatives.scale_X[num_examples:] = 0
    negatives.scale_X *= 0.5  # what positives lose
    complete_negatives(True, negatives.scores_KX, negatives.scale_X, negatives.bias_grads_K)
    expected = 0.5 * np.exp(y - log_a)
    np.testing.assert_allclose(negatives.scores_KX[:, :num_examples], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(negatives.bias_grads_K, expected.sum(1), rtol=1e-4, atol=1e-6)
    assert not negatives.scores_KX[3].any() and not negatives.scores_KX[:, num_examples:].any()


def test_sampled_softmax_without_negatives_is_masked():
    negatives = Negatives(SAMPLED_SOFTMAX, 3)
    negatives.scores_KX[:, 1] = MASKED
    assert negatives.differentiate()
    assert negatives.log_a_X[1] == MASKED and negatives.log_a_X[0] > -100
    assert np.isfinite(negatives.scores_KX).all() and np.isfinite(negatives.scale_X).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [(0, 0), (K - 1, 0), (7, 16), (K - 1, 19)])
def test_nan_and_infinity_are_seen(bad, where, objective):
    negatives = Negatives(objective, 20)
    negatives.scores_KX[where] = bad
    assert not negatives.differentiate()
