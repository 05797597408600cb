"""A saved matrix as the beginning of one with more tags, or whose tags are drawn or scored otherwise."""

from pathlib import Path

import numpy as np

from workers.config import HeadConfig
from workers.errors import DataError
from workers.matrix import TagMatrix
from workers.matrix_io import SavedMatrix, open_rows
from workers.objectives import log_probability_correction_N
from workers.tags import BIAS, BIAS_ACC, ROW_ACC


def extend_matrix(folder: Path, config: HeadConfig, counts: np.ndarray | None, seed: int) -> TagMatrix:
    """Saved rows with their optimizer state, then fresh rows for tags that are new.

    Saved tags are ranked as before: where negatives are drawn otherwise now, or a score means something else, each
    bias moves by what its correction changes (`log_probability_correction_N`). New tags, and saved ones that no example
    had so far, start with the bias that says "no information".

    Args:
        folder: of `save_matrix`.
        config: may differ from the saved one in anything.
        counts: whole numbers `[N]` of all tags, of the saved ones first; None: the saved ones.
        seed: of fresh rows.

    Raises:
        MatrixMismatch: names the file that is missing, cut off or changed.
        UnreadableFile: the system does not let one be read.
        DataError: there are fewer counts than saved rows, or they do not fit.
        MemoryError: the machine cannot hold the matrix.
    """
    saved = open_rows(folder)
    counts_N = saved.checked("counts.npy") if counts is None else counts
    if len(counts_N) < saved.num_tags:
        raise DataError(
            f"tag_counts has {len(counts_N):,} entries, but {saved.num_tags:,} rows are saved: no row is taken away. "
            "Count tags that are not used any more as 0."
        )
    matrix = TagMatrix.create(len(counts_N), saved.dim, config=config, counts=counts_N, seed=seed)
    try:
        saved.copy_rows(matrix, config.row_dtype)
        _take_state(matrix, config, saved)
    except BaseException:
        matrix.close()
        raise
    return matrix


def _take_state(matrix: TagMatrix, config: HeadConfig, saved: SavedMatrix) -> None:
    n = saved.num_tags
    state_n4, counts_n = saved.checked("tag_state.npy"), saved.checked("counts.npy")
    matrix.tag_state_N4[:n, [ROW_ACC, BIAS_ACC]] = state_n4[:, [ROW_ACC, BIAS_ACC]]
    before_n = log_probability_correction_N(saved.config, saved.log_q_N, counts_n)
    now_n = log_probability_correction_N(config, matrix.log_q_N[:n], matrix.counts_N[:n])
    moves_n = np.zeros(n, np.float32)
    np.subtract(before_n, now_n, out=moves_n, where=(counts_n > 0) & (matrix.counts_N[:n] > 0))
    matrix.bias_N[:n] = np.where(counts_n > 0, state_n4[:, BIAS] + moves_n, matrix.bias_N[:n])
