"""The order in which training items are visited: a fresh shuffle per epoch, known from the seed alone."""

import numpy as np
import numpy.typing as npt


def epoch_order(items: npt.NDArray[np.int64], seed: int, epoch: int, after: int | None = None) -> npt.NDArray[np.int64]:
    """The items of an epoch in their random order, or those that follow one of them.

    Args:
        items: int64 `[n]`, the training items.
        seed: the run's seed.
        epoch: number of the epoch, from 0.
        after: the last item that was trained on before a resumption; None: the whole epoch.
    """
    shuffled = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(items)
    return shuffled if after is None else shuffled[np.flatnonzero(shuffled == after)[0] + 1 :]
