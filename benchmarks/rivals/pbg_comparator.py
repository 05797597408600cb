"""PyTorch-BigGraph's comparator with its logistic loss and row-wise Adagrad, on negatives that a chunk shares."""

# Shapes: B edges of a chunk, D dim, K negatives of the chunk.

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
        settings: `num_tags`, `dim`, `chunk`, `negatives`.
    """
    tune_memory()
    torch.set_num_threads(1)
    dim, B, K = settings["dim"], settings["chunk"], settings["negatives"]
    rows_ND = nn.Parameter(random_rows(settings["num_tags"], dim))
    embedding, comparator, criterion = SimpleEmbedding(rows_ND), DotComparator(), LogisticLossFunction()
    optimizer, features_BD = RowAdagrad([rows_ND], lr=LEARNING_RATE), random_features(B, dim)
    no_negatives = torch.empty(1, 0, dim)
    batches = itertools.cycle(make_batches(settings["num_tags"], B, 1, K))

    def step() -> float:
        pos_B1, neg_K = next(batches)
        left = comparator.prepare(features_BD.detach().requires_grad_()[None])
        right = comparator.prepare(embedding.get(pos_B1[:, 0])[None])
        negatives = comparator.prepare(embedding.get(neg_K)[None])
        pos_scores, _, neg_scores = comparator(left, right, no_negatives, negatives)
        optimizer.zero_grad()
        criterion(pos_scores.flatten(0, 1), neg_scores.flatten(0, 1)).backward()
        optimizer.step()
        return float(B * (1 + K))

    step()
    return Prepared(step, {"torchbiggraph": importlib.metadata.version("torchbiggraph"), "torch": torch.__version__})
