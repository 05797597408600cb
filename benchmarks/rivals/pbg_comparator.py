"""PyTorch-BigGraph's comparator with its logistic loss and row-wise Adagrad, on negatives that a chunk shares."""

# Shapes: C chunks of a step, B edges of a chunk, D dim, K negatives of a chunk.

import importlib.metadata
import itertools
import warnings
from typing import Any

import torch
from torch import nn

from benchmarks.contestant import Prepared
from benchmarks.rivals.same_start import LEARNING_RATE
from benchmarks.rivals.start_tensors import random_features, random_rows
from benchmarks.rivals.torch_shared import make_batches
from benchmarks.rivals.tuned_memory import tune_memory

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it looks its version up in a deprecated way
    from torchbiggraph.losses import LogisticLossFunction
    from torchbiggraph.model import DotComparator, SimpleEmbedding
    from torchbiggraph.row_adagrad import RowAdagrad


def prepare(settings: dict[str, Any]) -> Prepared:
    """A unit is a pair of an edge and its right side, or a negative of its chunk: scored, differentiated, applied.

    Its own embedding, comparator, loss and optimizer, joined as its training loop joins them, without that loop: ids
    are made in advance, the left side is given features, relations have no parameters. One positive per edge.

    Args:
        settings: `num_tags`, `dim`, `chunk`, `negatives`; `chunks` of one step of the optimizer; `has_batch_negatives`:
            whether the right sides of the other edges of a chunk are negatives too, whose rows cost nothing more.
    """
    tune_memory()
    torch.set_num_threads(1)
    dim, C, B, K = (settings[name] for name in ("dim", "chunks", "chunk", "negatives"))
    rows_ND = nn.Parameter(random_rows(settings["num_tags"], dim))
    embedding, comparator, criterion = SimpleEmbedding(rows_ND), DotComparator(), LogisticLossFunction()
    optimizer, features_CBD = RowAdagrad([rows_ND], lr=LEARNING_RATE), random_features(C * B, dim).view(C, B, dim)
    no_negatives, edges_B, in_batch = torch.empty(C, 0, dim), torch.arange(B), settings["has_batch_negatives"]
    units = C * B * (1 + K + (B - 1 if in_batch else 0))
    batches = itertools.cycle(make_batches(settings["num_tags"], C * B, 1, C * K))

    def step() -> float:
        pos_ids, neg_ids = next(batches)
        left = comparator.prepare(features_CBD.detach().requires_grad_())
        right = comparator.prepare(embedding.get(pos_ids.view(C, B)))
        negatives = comparator.prepare(embedding.get(neg_ids.view(C, K)))
        if in_batch:
            negatives = torch.cat([right, negatives], dim=1)
        pos_scores, _, neg_scores = comparator(left, right, no_negatives, negatives)
        if in_batch:
            neg_scores[:, edges_B, edges_B] = -1e9  # its training loop masks an edge's own right side so
        optimizer.zero_grad()
        criterion(pos_scores.flatten(0, 1), neg_scores.flatten(0, 1)).backward()
        optimizer.step()
        return float(units)

    step()
    return Prepared(step, {"torchbiggraph": importlib.metadata.version("torchbiggraph"), "torch": torch.__version__})
