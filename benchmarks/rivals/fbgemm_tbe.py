"""fbgemm's table-batched embeddings: exact row-wise Adagrad, fused with the backward pass."""

# Shapes: B examples, D dim, T tags of an example (positives first).

import importlib.metadata
from typing import Any

import torch
import torch.nn.functional as F
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)

from benchmarks.contestant import Prepared
from benchmarks.id_streams import make_stream
from benchmarks.rivals.same_start import LEARNING_RATE
from benchmarks.rivals.start_tensors import fill_rows, random_features, weights_and_targets
from benchmarks.rivals.tuned_memory import tune_memory


def prepare(settings: dict[str, Any]) -> Prepared:
    """A unit is a pair of example and tag; ids, negatives included, are made in advance. Merged updates: one per row
    and batch.

    Bags of one tag each: pooling by sum is faster here than its mode without pooling. Bounds are not checked.
    """
    tune_memory()
    torch.set_num_threads(1)
    table = _table(settings["num_tags"], settings["dim"])
    ids_BT = [torch.from_numpy(ids).long() for ids in make_stream(settings["num_tags"]).batches]
    offsets, (B, T), turn = torch.arange(ids_BT[0].numel() + 1), ids_BT[0].shape, 0
    features_BD, (weights_BT, targets_BT) = random_features(B, settings["dim"]), weights_and_targets(B, T)

    def step() -> float:
        nonlocal turn
        ids, features = ids_BT[turn % len(ids_BT)], features_BD.detach().requires_grad_()
        turn += 1
        scores_BT = torch.bmm(table(ids.flatten(), offsets).view(B, T, -1), features[:, :, None])[:, :, 0]
        F.binary_cross_entropy_with_logits(scores_BT, targets_BT, weights_BT, reduction="sum").backward()
        return float(ids.numel())

    step()
    version = importlib.metadata.version("fbgemm-gpu-cpu")
    return Prepared(step, {"fbgemm-gpu-cpu": version, "torch": torch.__version__})


def _table(num_tags: int, dim: int) -> SplitTableBatchedEmbeddingBagsCodegen:
    table = SplitTableBatchedEmbeddingBagsCodegen(
        [(num_tags, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=LEARNING_RATE,
        pooling_mode=PoolingMode.SUM,
        bounds_check_mode=BoundsCheckMode.NONE,
        stochastic_rounding=False,
    )
    fill_rows(table.split_embedding_weights()[0].data)
    return table
