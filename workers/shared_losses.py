"""Losses of negatives that examples share: scores lie by negatives, so that vectors hold examples.

Scores are [K, B] and not [B, K]: so what belongs to one negative, its bias and weight, is one number for a whole
vector, and what belongs to one example, its loss and normaliser, adds up without sums across a vector. The product that
makes scores needs none either.

Legend: B examples, K slots of distinct negatives, X columns: B rounded up to whole blocks, those beyond B `MASKED`.
"""

# mypy: allow-untyped-defs

import math

import numpy as np

from workers.arithmetic import exp_of_negative, greater, magnitude
from workers.config import NEGATIVE_SAMPLING
from workers.jit import inlined_kernel, kernel
from workers.objectives import LARGEST, sigmoid_and_softplus
from workers.slots import MASKED
from workers.vectors import fma, load, store, total, values_from, zeros
from workers.widths import BLOCK

_ZERO, _ONE = np.float32(0), np.float32(1)


@kernel
def differentiate_negatives(objective, bias_K, weight_K, scores_KX, loss_X, log_a_X, scale_X, bias_grads_K):
    """What the loss needs of negatives alone; whether all scores are sane.

    Negative sampling: loss_X becomes the loss of negatives, scores_KX dLoss/dscore, bias_grads_K its sums, log_a_X 0.

    Sampled softmax: log_a_X becomes log A (`workers.objectives`), scores_KX e^y over the example's largest, and
    scale_X times that is e^y / A; loss_X becomes 0. When it is known what positives lose, `complete_negatives` makes
    gradients of it.

    Args:
        weight_K: see `objectives.negative_weight` and `objectives.times`.
        scores_KX: without biases.
    """
    if objective == NEGATIVE_SAMPLING:
        log_a_X[:] = _ZERO
        return _sampling_terms(bias_K, weight_K, scores_KX, loss_X, bias_grads_K)
    loss_X[:] = _ZERO
    return _exponentials(bias_K, weight_K, scores_KX, log_a_X, scale_X)


@kernel
def complete_negatives(is_scaled, scores_KX, scale_X, bias_grads_K):
    """If they are to be multiplied by scale_X for each example, scores_KX becomes dLoss/dscore, bias_grads_K its sums.

    Sampled softmax has e^y there before. Negative sampling without weights of examples has all of it already.
    """
    if not is_scaled:
        return
    like, scale = zeros(BLOCK), values_from(scale_X, 0)
    for k in range(len(scores_KX)):
        scores, grads = values_from(scores_KX, k), like
        for b in range(0, len(scale_X), BLOCK):
            grad = load(scores, b, like) * load(scale, b, like)
            store(scores, b, grad)
            grads = grads + grad
        bias_grads_K[k] = total(grads)


@inlined_kernel
def _sampling_terms(bias_K, weight_K, scores_KX, loss_X, bias_grads_K):
    like, losses = zeros(BLOCK), values_from(loss_X, 0)
    bad = like
    loss_X[:] = _ZERO
    for k in range(len(bias_K)):
        bias, weight, scores, grads = bias_K[k], weight_K[k], values_from(scores_KX, k), like
        for b in range(0, len(loss_X), BLOCK):
            score = load(scores, b, like) + bias
            bad = bad + greater(LARGEST, magnitude(score), _ZERO, _ONE)
            share, loss = sigmoid_and_softplus(score)
            grad = weight * share
            store(scores, b, grad)
            store(losses, b, fma(weight, loss, load(losses, b, like)))
            grads = grads + grad
        bias_grads_K[k] = total(grads)
    return total(bad) == _ZERO


@inlined_kernel
def _exponentials(bias_K, weight_K, scores_KX, log_a_X, scale_X):
    """Every example's largest y is taken from all of them, so that its e^y is 1: log A = that + log(sum of e^y)."""
    like, K, num_bad = zeros(BLOCK), len(bias_K), _ZERO
    log_a, scale = values_from(log_a_X, 0), values_from(scale_X, 0)
    for b in range(0, len(log_a_X), BLOCK):
        bad, top, sums = like, like + np.float32(2) * MASKED, like
        for k in range(K):
            scores = values_from(scores_KX, k)
            score = load(scores, b, like) + bias_K[k]
            bad = bad + greater(LARGEST, magnitude(score), _ZERO, _ONE)
            y = score + weight_K[k]
            top = greater(y, top, y, top)
            store(scores, b, y)
        num_bad += total(bad)
        if num_bad > _ZERO:
            return False
        for k in range(K):
            scores = values_from(scores_KX, k)
            e = exp_of_negative(load(scores, b, like) - top)
            sums = sums + e
            store(scores, b, e)
        store(log_a, b, top)
        store(scale, b, _ONE / sums)
    for b in range(len(log_a_X)):
        is_masked = log_a_X[b] < MASKED * np.float32(0.5)  # all of them; what positives lose is then 0
        log_a_X[b] = MASKED if is_masked else np.float32(log_a_X[b] - math.log(scale_X[b]))
    return True
