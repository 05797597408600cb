"""What kernels see of the tag matrix: the shared arrays of rows and of their state."""

from typing import NamedTuple

import numpy as np

BIAS, ROW_ACC, BIAS_ACC, LOG_Q = 0, 1, 2, 3
"""Columns of `tag_state_N4`: the scalars of a row in one cache line."""


class Tags(NamedTuple):
    """What is shared and written without locks, and what rounding it needs."""

    rows_NS: np.ndarray
    """As they are stored, see `workers.rows`."""
    tag_state_N4: np.ndarray
    noise: np.ndarray
    """uint32, of `workers.rounding.rounding_noise`; not shared."""
