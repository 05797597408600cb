"""The three matrix products of a chunk with shared negatives and nothing else, as a persistent contestant."""

# Shapes: B examples, D dim, K negatives.

from typing import Any

import numpy as np

from benchmarks.contestant import Prepared
from workers.config import HeadConfig
from workers.settings import from_plain


def prepare(settings: dict[str, Any]) -> Prepared:
    """Scores, feature gradient and row gradients by NumPy's BLAS; counted as a worker's whole chunk is.

    Args:
        settings: `dim`, `head` with shared negatives, `positives`.
    """
    config, rng = from_plain(HeadConfig, settings["head"], "head"), np.random.default_rng(0)
    B, D, K = config.chunk_size, settings["dim"], config.negatives
    features_BD, rows_KD = (rng.standard_normal((length, D), dtype=np.float32) for length in (B, K))
    scores_BK, feature_grad_BD, row_grad_KD = (np.empty(shape, np.float32) for shape in ((B, K), (B, D), (K, D)))

    def step() -> float:
        np.matmul(features_BD, rows_KD.T, out=scores_BK)
        np.matmul(scores_BK, rows_KD, out=feature_grad_BD)
        np.matmul(scores_BK.T, features_BD, out=row_grad_KD)
        return float(B * (settings["positives"] + K))

    step()
    return Prepared(step)
