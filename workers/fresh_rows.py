"""Small random rows, drawn by several threads at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from workers.cores import available_cores

_BLOCK_ROWS = 16_384  # a block has a generator of its own, so that rows do not depend on the number of threads
_MAX_THREADS = 8


def fill_rows(
    rows_ND: np.ndarray, deviation: float, seed: int, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Draw every row from normal(0, deviation); equal seeds give equal rows, on any machine.

    Args:
        rows_ND: float32; written in place.
        deviation: of each element.
        seed: any integer that is not negative.
        should_stop: asked before each block; True leaves the rest as it is.

    Concurrency: blocks are disjoint; NumPy draws without the interpreter's lock.
    """

    def fill(start: int) -> None:
        if should_stop():
            return
        rng = np.random.Generator(np.random.SFC64([seed, start]))
        block = rows_ND[start : start + _BLOCK_ROWS]
        rng.standard_normal(out=block, dtype=np.float32)
        block *= np.float32(deviation)

    with ThreadPoolExecutor(min(available_cores(), _MAX_THREADS), thread_name_prefix="fresh-rows") as threads:
        list(threads.map(fill, range(0, len(rows_ND), _BLOCK_ROWS)))
