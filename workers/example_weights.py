"""Weights of examples: factors of their losses, and so of all gradients.

Legend: B examples, D dim, A positives of all examples, S slots of one example, X columns of scores.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.feature_blocks import nothing_in, scale
from workers.jit import inlined_kernel
from workers.vectors import values_from

_ZERO = np.float32(0)


@inlined_kernel
def weigh(weight, loss_B, b, grads, S, square):
    """Multiply the loss of example b, and S gradients behind a pointer, by its weight.

    Args:
        square: sum of the gradients' squares.

    Returns:
        (how many gradients are left: none if the weight is 0, the new `square`)
    """
    loss_B[b] *= weight
    for s in range(S):
        grads[s] *= weight
    return (S if weight > _ZERO else np.int64(0)), square * weight * weight


@inlined_kernel
def weigh_all(has_scale, weights_B, offsets_B1, work, answer, D, likes):
    """Multiply losses, feature gradients, gradients of positives, and scale_X if it has a meaning, by the weights.

    Returns:
        Whether the feature gradients are finite.
    """
    nothing = _ZERO
    for b in range(len(weights_B)):
        weight, g = weights_B[b], values_from(answer.feature_grad_BD, b)
        answer.loss_B[b] *= weight
        scale(g, weight, D, likes)
        nothing += nothing_in(g, D, likes)
        work.scale_X[b] = work.scale_X[b] * weight if has_scale else weight
        for p in range(offsets_B1[b], offsets_B1[b + 1]):
            work.pos_grads_A[p] *= weight
    return nothing == _ZERO
