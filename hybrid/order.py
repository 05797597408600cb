"""The order in which training items are visited: a fresh shuffle per epoch, known from the seed alone."""

import numpy as np
import numpy.typing as npt


def epoch_order(items: npt.NDArray[np.int64], seed: int, epoch: int, num_done: int = 0) -> npt.NDArray[np.int64]:
    """The items of an epoch in their random order, less those that were done before a resumption.

    Args:
        items: int64 `[n]`, the training items.
        seed: the run's seed.
        epoch: number of the epoch, from 0.
        num_done: items of this epoch that are already trained on.
    """
    shuffled = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(items)
    return shuffled[num_done:]
