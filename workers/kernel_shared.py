"""The kernel with negatives that a chunk's examples share.

    copy the negatives' distinct rows R, once           rows as they were before the chunk
    scores = R F^T, accidental hits masked
    scores -> loss, dLoss/dscore C                      of negatives
    feature gradient = C^T R
    scores, loss, feature gradient of positives         from their rows in the matrix
    row gradient = C F + positives
    write each touched row once, with its merged gradient

The three products go by tiles of our own (`workers.shared_products`): the rows come from memory during the first. Rows
of positives go through the caches after what the first two products share, not between them.

The row optimizer sees merged gradients: one per row and chunk, summed over the examples. A row-wise accumulator grows
by the square of the sum, where single gradients (`workers.kernel_private`) would add their squares; so the two kernels
want different learning rates.

Concurrency: a positive's row is read for every example that has it, for the score and again for the feature gradient;
gradients are applied to the rows as they are when written. Other workers may move a row between any two of these
(Hogwild). No lock is held, and a lost update costs one gradient. Gradients that are not finite are found before the
first write, so rows stay finite whatever arrives.

Legend: B examples, D dim, K slots of distinct negatives, S slots (`workers.shared_plan`), X columns of scores: those of
B examples and, up to whole blocks, masked ones of none.
"""

# mypy: allow-untyped-defs

import numpy as np

from workers.errors import ChunkError
from workers.job import Answer, Job, Outcome
from workers.scratch import Scratch
from workers.shared_losses import complete_negatives, differentiate_negatives
from workers.shared_passes import shared_passes
from workers.shared_plan import make_shared_plan
from workers.shared_products import shared_products, whole_blocks, whole_tiles
from workers.shared_writes import shared_writes
from workers.slots import FILTER_WORDS, mask_hits
from workers.tags import Tags


def run_shared(tags: Tags, job: Job, scratch: Scratch, answer: Answer) -> Outcome:
    """Compute a chunk and update its rows if the job says so.

    Raises:
        ChunkError: a loss or gradient is not finite; nothing was written.
    """
    (B, D), (loss_B, feature_grad_BD) = job.features_BD.shape, answer
    features_BD, positives, objective = job.features_BD, job.positives, job.loss.objective
    words, plan = tags.rows_NS.shape[1], make_shared_plan(job, scratch)
    products, passes, write_rows = shared_products(D, words), shared_passes(D, words), shared_writes(D, words)
    K, S, X = len(plan.multiplicity_K), len(plan.ids_S), whole_blocks(B)
    rows = tags.rows_NS, tags.tag_state_N4
    most = whole_tiles(min(len(job.neg_ids), len(tags.rows_NS)))  # of K: the same for chunks that are nearly alike
    rows_KD = scratch.array("rows", (most, D), np.float32)[:K]
    scores_KX = scratch.array("scores", (most, X), np.float32)[:K]
    bias_K, weight_K = scratch.array("bias", K, np.float32), scratch.array("neg_weights", K, np.float32)
    products.score_rows(
        *(*rows, *job.loss, plan.ids_S[:K], plan.multiplicity_K, features_BD),
        *(scratch.array("packed", X * D, np.float32), rows_KD, bias_K, weight_K, scores_KX),
    )
    num_ids, filter_words = len(job.neg_ids) + len(positives.ids), scratch.array("filter", FILTER_WORDS, np.uint64)
    hits = mask_hits(plan.table, num_ids, *job.truth, filter_words, plan.ids_S, plan.multiplicity_K, scores_KX)
    loss_X, log_a_X, scale_X = (scratch.array(name, X, np.float32) for name in ("neg_loss", "log_a", "scale"))
    bias_grads_S = scratch.array("bias_grads", S, np.float32)
    if not differentiate_negatives(objective, bias_K, weight_K, scores_KX, loss_X, log_a_X, scale_X, bias_grads_S[:K]):
        raise _refusal("a score or loss")
    products.feature_gradients(scores_KX, rows_KD, feature_grad_BD)
    pos_grads_A = scratch.array("pos_grads", len(positives.ids), np.float32)
    squares_B = scratch.array("feature_squares", B, np.float32)
    losses_finite, gradient_finite = passes.add_positives(
        *(*rows, objective, features_BD, plan.pos_ids_A, positives.offsets_B1, plan.pos_weights_A, pos_grads_A),
        *(loss_X, log_a_X, scale_X, loss_B, squares_B, feature_grad_BD),
    )
    if not (losses_finite and gradient_finite):
        raise _refusal("the feature gradient" if losses_finite else "a score or loss")
    if not job.writes:
        return Outcome(loss_B, feature_grad_BD, 0, hits)
    complete_negatives(objective, scores_KX, scale_X, bias_grads_S[:K])
    grads_SD, squares_S = scratch.array("row_grads", (S, D), np.float32), scratch.array("squares", S, np.float32)
    products.row_gradients(scores_KX, features_BD, grads_SD[:K])
    passes.add_features(
        *(features_BD, positives.offsets_B1, plan.num_lone_B, plan.pos_slots_A, pos_grads_A),
        *(K, grads_SD, bias_grads_S),
    )
    rows_written = write_rows(
        *(*tags, *job.update, job.rounding_key),
        *(features_BD, squares_B, plan.pos_ids_A, positives.offsets_B1, pos_grads_A, plan.num_lone_B, plan.lone_ids_L),
        *(plan.ids_S, grads_SD, bias_grads_S, squares_S),
    )
    if rows_written < 0:
        raise _refusal("a row's gradient")
    return Outcome(loss_B, feature_grad_BD, rows_written, hits)


def _refusal(what: str) -> ChunkError:
    return ChunkError(f"features_BD: {what} is not finite; nothing was written. Lower the learning rates.")
