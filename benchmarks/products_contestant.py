"""The three matrix products of a chunk with shared negatives and nothing else, as a persistent contestant."""

# Shapes: B examples, D dim, K negatives, X columns of scores.

from typing import Any

import numpy as np

from benchmarks.contestant import Prepared
from workers.config import OBJECTIVES, HeadConfig
from workers.objectives import BLOCK
from workers.settings import from_plain
from workers.shared_products import shared_products, whole_tiles


def prepare(settings: dict[str, Any]) -> Prepared:
    """Scores, feature gradient and row gradients as a worker makes them; counted as its whole chunk is.

    Args:
        settings: `dim`, `head` with shared negatives, `positives`.
    """
    config, rng = from_plain(HeadConfig, settings["head"], "head"), np.random.default_rng(0)
    B, D, K = config.chunk_size, settings["dim"], config.negatives
    tiles_K, X = whole_tiles(K), -(-B // BLOCK) * BLOCK
    features_BD, rows_KD = (rng.standard_normal((length, D), dtype=np.float32) for length in (B, K))
    states_K4, ids_K, ones_K = np.zeros((K, 4), np.float32), np.arange(K, dtype=np.int32), np.ones(K, np.float32)
    packed, copies_KD, scores_KX = (np.empty(shape, np.float32) for shape in (X * D, (tiles_K, D), (tiles_K, X)))
    bias_K, weight_K, feature_grad_BD, row_grad_KD = (np.empty(shape, np.float32) for shape in (K, K, (B, D), (K, D)))
    products = shared_products(D, D)
    objective, weight = OBJECTIVES.index(config.objective), np.float32(config.negative_weight)

    def step() -> float:
        products.score_rows(
            *(rows_KD, states_K4, objective, weight, K, ids_K, ones_K, features_BD),
            *(packed, copies_KD[:K], bias_K, weight_K, scores_KX[:K]),
        )
        products.feature_gradients(scores_KX[:K], copies_KD[:K], feature_grad_BD)
        products.row_gradients(scores_KX[:K], features_BD, row_grad_KD)
        return float(B * (settings["positives"] + K))

    step()
    return Prepared(step)
