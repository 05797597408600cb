"""The objectives: from the scores of one example to its loss, with dLoss/dscore of every tag.

With scores s, P positives of weight c_p (1 unless given), K negatives drawn from q, T(x) the true tags
(docs/adr/0004-default-objective.md):

    negative sampling   L = (1/P) sum_p c_p softplus(-s_p) + (w/K) sum_k 1[k not in T(x)] softplus(s_k)
    sampled softmax     L = (1/P) sum_p c_p (log Z_p - s_p),  Z_p = e^{s_p} + A,
                        A = sum_k 1[k not in T(x)] e^{y_k},  y_k = s_k - log(K q(k))

With d_p = s_p - log A the second is (1/P) sum_p c_p softplus(-d_p): both objectives share the code of their
positives, shifted by log A, and the negatives of the second get e^{y_k} / A times what its positives lose together.
No positives: sampled softmax is 0.

Legend: P positives, K slots of distinct negatives (multiplicities are in their weights), N tags.
"""

# mypy: allow-untyped-defs

import math

import numpy as np

from workers.arithmetic import exp_of_negative, greater, log1p_of_unit, magnitude
from workers.config import NEGATIVE_SAMPLING, OBJECTIVES, SAMPLED_SOFTMAX, HeadConfig
from workers.jit import finite_kernel, inlined_kernel, kernel
from workers.slots import MASKED
from workers.tag_weights import weights_above_zero
from workers.vectors import fma, load_front, store_front, total, zeros
from workers.widths import BLOCK

UNSEEN_BIAS = -20.0
"""Start of the bias of a tag that has no training count: improbable, and still a number that can be learned from."""

LARGEST = np.float32(1e31)
"""No honest score is beyond it; the comparison is false for NaN."""
_ZERO, _ONE, _NAN = np.float32(0), np.float32(1), np.float32(np.nan)


def initial_bias_N(config: HeadConfig, marginal_N: np.ndarray, log_q_N: np.ndarray) -> np.ndarray:
    """The bias at which scores say "no information": the optimum when tags do not depend on the image. float32 [N].

    Negative sampling: log u - log q - log w, with u the expected weight of a tag among an example's positive terms:
    where all weigh 1, the marginal of the positive draws. Sampled softmax: log u. Source: Levy and Goldberg (2014),
    section 3.1, with separate weight w and distribution q of the negatives.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        bias_N = np.log(np.asarray(marginal_N, np.float64))
        if config.objective == OBJECTIVES[NEGATIVE_SAMPLING]:
            bias_N -= np.asarray(log_q_N, np.float64) + math.log(config.negative_weight)
    return np.where(np.isfinite(bias_N), bias_N, UNSEEN_BIAS).astype(np.float32)


def log_probability_correction_N(
    config: HeadConfig, log_q_N: np.ndarray, counts_N: np.ndarray, loss_weight_N: np.ndarray | None = None
) -> np.ndarray:
    """What added to a score gives log p(t|x), up to a constant of the image: float32 [N], -inf for tags never seen.

    Negative sampling: log q + log w. Sampled softmax: 0. A weight of the positives' loss counts as so many more draws
    of that tag, so its logarithm is taken off; a weight of 0 is what `weights_above_zero` says, as in the marginal from
    which the bias started.
    """
    correction_N = np.zeros(len(counts_N), np.float64)
    if config.objective == OBJECTIVES[NEGATIVE_SAMPLING]:
        correction_N += np.asarray(log_q_N, np.float64) + math.log(config.negative_weight)
    if loss_weight_N is not None:
        correction_N -= np.log(weights_above_zero(loss_weight_N, counts_N))
    return np.where(counts_N > 0, correction_N, -np.inf).astype(np.float32)


@inlined_kernel
def negative_weight(objective, w, num_drawn, log_q):
    """What one draw of a negative weighs in `loss_terms`: w/K in the loss, or -log(K q) added to its score."""
    if objective == NEGATIVE_SAMPLING:
        return np.float32(w / np.float32(num_drawn))
    return np.float32(-math.log(np.float32(num_drawn)) - log_q)


@inlined_kernel
def times(objective, weight, multiplicity):
    """The weight of a negative that was drawn `multiplicity` times."""
    if objective == NEGATIVE_SAMPLING:
        return np.float32(weight * multiplicity)
    return np.float32(weight + math.log(np.float32(multiplicity)))


@kernel
def loss_terms(objective, scores_P, weights_P, scores_K, weights_K):
    """Loss of one example, and in place dLoss/dscore for each of its scores.

    Args:
        objective: `NEGATIVE_SAMPLING` or `SAMPLED_SOFTMAX`.
        scores_P: float32, positives; becomes their gradient.
        weights_P: float32, c_p / P.
        scores_K: float32, distinct negatives, `MASKED` if true; becomes their gradient.
        weights_K: float32, see `negative_weight` and `times`.

    Returns:
        float32: the loss, or NaN (and arbitrary gradients) if a score is not finite.
    """
    log_a = _ZERO
    if objective == SAMPLED_SOFTMAX:
        log_a = _log_sum_exp(scores_K, weights_K)  # not finite if a score is not; scores_K then holds e^{y_k} / A
    loss, lost = positive_terms(scores_P, weights_P, log_a)
    if objective == NEGATIVE_SAMPLING:
        loss_of_negatives, _ = softplus_terms(scores_K, weights_K, len(scores_K))
        return loss + loss_of_negatives
    for k in range(len(scores_K)):
        scores_K[k] *= lost
    return loss


@inlined_kernel
def positive_terms(scores_P, weights_P, log_a):
    """The positives' part of `loss_terms`, shifted by log A; returns (loss, minus the sum of their gradients)."""
    for p in range(len(scores_P)):
        scores_P[p] = log_a - scores_P[p]
    loss, _ = softplus_terms(scores_P, weights_P, len(scores_P))
    lost = _ZERO
    for p in range(len(scores_P)):
        lost += scores_P[p]
        scores_P[p] = -scores_P[p]
    return loss, lost


@inlined_kernel
def positive_losses(scores, weights, losses, start, stop):
    """The same for positives of many examples, their scores shifted before: their numbers are start to stop - 1.

    Losses are not added up; one is NaN if its score is not sane. Scores become gradients.
    """
    like = zeros(BLOCK)
    for i in range(start, stop, BLOCK):
        score, weight = load_front(scores, i, stop - i, like), load_front(weights, i, stop - i, like)
        share, loss = sigmoid_and_softplus(-score)
        store_front(scores, i, stop - i, -weight * share)
        store_front(losses, i, stop - i, greater(LARGEST, magnitude(score), weight * loss, _NAN))


@inlined_kernel
def softplus_terms(scores, weights, count):
    """sum_i |w_i| softplus(sign(w_i) s_i), or NaN if a score is not sane; s_i becomes w_i sigmoid(sign(w_i) s_i).

    So it is the loss and gradient of a whole example of negative sampling, whose positives have weights below 0.

    Returns:
        (that sum, the sum of the gradients' squares)
    """
    like = zeros(BLOCK)
    losses, squares, bad = like, like, like
    for i in range(0, count, BLOCK):
        score, weight = load_front(scores, i, count - i, like), load_front(weights, i, count - i, like)
        bad = bad + greater(LARGEST, magnitude(score), _ZERO, _ONE)
        grad, loss = _softplus(score, weight)
        losses, squares = losses + loss, fma(grad, grad, squares)
        store_front(scores, i, count - i, grad)
    return total(losses) if total(bad) == _ZERO else _NAN, total(squares)


@inlined_kernel
def _softplus(score, weight):
    """(gradient, loss) of a score, or of a vector of them."""
    share, loss = sigmoid_and_softplus(greater(_ZERO, weight, -score, score))
    return weight * share, magnitude(weight) * loss


@inlined_kernel
def sigmoid_and_softplus(z):
    """(1 / (1 + e**-z), log(1 + e**z)) of a number, or of a vector of them."""
    e = exp_of_negative(-magnitude(z))
    share = _ONE / (_ONE + e)
    return greater(z, _ZERO, share, e * share), greater(z, _ZERO, z, _ZERO) + log1p_of_unit(e)


@kernel
def _log_sum_exp(scores_K, weights_K):
    """log A of y = score + weight, MASKED if all are masked, NaN if one is not sane; scores become e^{y} / A."""
    num_bad = np.int32(0)
    for k in range(len(scores_K)):
        num_bad += np.int32(0) if abs(scores_K[k]) <= LARGEST else np.int32(1)
        scores_K[k] += weights_K[k]
    if num_bad != 0:
        return np.float32(np.nan)
    top = _largest(scores_K)
    if top < MASKED * np.float32(0.5):
        scores_K[:] = _ZERO
        return MASKED
    total = _ZERO
    for k in range(len(scores_K)):
        e = exp_of_negative(scores_K[k] - top)
        scores_K[k] = e
        total += e
    inverse = _ONE / total
    for k in range(len(scores_K)):
        scores_K[k] *= inverse
    return np.float32(top + math.log(total))


@finite_kernel
def _largest(values):
    top = MASKED * np.float32(2)
    for i in range(len(values)):
        top = values[i] if values[i] > top else top
    return top
