"""The wide head once more: dense torch in float64, differentiated by autograd, with the draws of the real one."""

# Shapes: B examples, D dim, K negatives, N tags.

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from hybrid.head import WideHead
from workers.counters import NEGATIVES, POSITIVES, stream_key
from workers.positives import draw_positives
from workers.sampler import draw_ids


@dataclass
class Reference:
    """What a step must give."""

    loss: float
    loss_B: torch.Tensor
    feature_grad_BD: torch.Tensor
    """Of the mean loss, or of what the caller makes of the losses."""
    rows_ND: torch.Tensor
    bias_N: torch.Tensor


def reference_step(
    head: WideHead,
    features_BD: torch.Tensor,
    tags: list[list[int]],
    lr: float,
    example_weights: list[float] | None = None,
    loss_grads: list[float] | None = None,
) -> Reference:
    """One call of a head with SGD rows, chunk after chunk, as one worker would do it.

    Rows move after each chunk, with private negatives after each example. `loss_grads` are what the caller's graph
    hands down to the loss of each example; None: what a mean does. Rows do not see them.
    """
    rows = torch.tensor(head.matrix.rows_ND, dtype=torch.float64)
    bias = torch.tensor(head.matrix.bias_N, dtype=torch.float64)
    features = features_BD.detach().double().requires_grad_(True)
    size, B = head.config.chunk_size, len(tags)
    weights_B = torch.tensor(example_weights or [1.0] * B, dtype=torch.float64)
    handed_B = torch.tensor(loss_grads or [1 / B] * B, dtype=torch.float64)
    loss_B, grad_BD = torch.zeros(B, dtype=torch.float64), torch.zeros_like(features)
    for number, start in enumerate(range(0, B, size)):
        true_tags = [sorted(set(ids)) for ids in tags[start : start + size]]
        places = list(range(start, start + len(true_tags)))
        for moved_together in [[place] for place in places] if head.config.private_negatives else [places]:
            rows, bias = rows.detach().requires_grad_(True), bias.detach().requires_grad_(True)
            losses = _chunk_losses(head, number, features[start : start + size], true_tags, rows, bias)
            part = torch.stack([losses[place - start] for place in moved_together]) * weights_B[moved_together]
            grad_BD += torch.autograd.grad(part @ handed_B[moved_together], features, retain_graph=True)[0]
            part.sum().backward(inputs=[rows, bias])
            loss_B[moved_together] = part.detach()
            rows, bias = rows - lr * rows.grad, bias - lr * bias.grad
    return Reference(loss_B.mean().item(), loss_B, grad_BD, rows.detach(), bias.detach())


def _chunk_losses(
    head: WideHead,
    number: int,
    features: torch.Tensor,
    true_tags: list[list[int]],
    rows: torch.Tensor,
    bias: torch.Tensor,
) -> list[torch.Tensor]:
    offsets = np.cumsum([0, *map(len, true_tags)])
    ids = np.array([t for tags in true_tags for t in tags], np.int32)
    key = stream_key(head.seed, head.step, number, POSITIVES)
    pos_ids, pos_offsets = draw_positives(offsets, ids, np.arange(len(true_tags)), head.positives, key)
    K, is_private = head.num_negatives, head.config.private_negatives
    negatives = np.empty(K * len(true_tags) if is_private else K, np.int32)
    key = stream_key(head.seed, head.step, number, NEGATIVES)
    draw_ids(head.matrix.sampler_groups_G4, head.matrix.sampler_members, key, negatives)
    log_q = torch.tensor(head.matrix.log_q_N, dtype=torch.float64)
    losses = []
    for b, tags in enumerate(true_tags):
        scores = rows @ features[b] + bias
        positives = pos_ids[pos_offsets[b] : pos_offsets[b + 1]].tolist()
        drawn = negatives[b * K : (b + 1) * K] if is_private else negatives
        kept = [k for k in drawn.tolist() if k not in tags]
        losses.append(_loss(head, scores, positives, kept, log_q))
    return losses


def _loss(
    head: WideHead, scores: torch.Tensor, positives: list[int], negatives: list[int], log_q: torch.Tensor
) -> torch.Tensor:
    """The formulas of `workers.objectives`, letter by letter."""
    P, K = len(positives), head.num_negatives
    if head.config.objective == "negative-sampling":
        of_positives = -F.logsigmoid(scores[positives]).sum() / max(P, 1)
        return of_positives - head.config.negative_weight / K * F.logsigmoid(-scores[negatives]).sum()
    loss = 0 * scores.sum()
    z_of_negatives = (torch.exp(scores[negatives]) / (K * torch.exp(log_q[negatives]))).sum()
    for p in positives:
        loss = loss + (torch.log(torch.exp(scores[p]) + z_of_negatives) - scores[p]) / P
    return loss
