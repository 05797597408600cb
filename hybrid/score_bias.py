"""What is added to `row . features` to rank tags."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.config import SCORES, HeadConfig
from workers.objectives import log_probability_correction_N
from workers.settings import check_choice


class TagScalars(Protocol):
    """What ranking needs of a tag matrix besides its rows, live in shared memory or mapped from a file."""

    @property
    def bias_N(self) -> NDArray[np.float32]: ...
    @property
    def log_q_N(self) -> NDArray[np.float32]: ...
    @property
    def counts_N(self) -> NDArray[np.int64]: ...


def score_bias_N(
    tags: TagScalars, config: HeadConfig, score: str = "probability", loss_weight_N: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """float32 `[N]`, -inf for tags that are not ranked: those never seen in training.

    Args:
        tags: the tag matrix.
        config: the head's; the objective decides what a score means.
        score: `probability` ranks by log p(tag | example); `lift` by the bare score, which favours rare tags.
        loss_weight_N: weight of each tag's positive terms in the loss, if they had one.

    Raises:
        ConfigError: another score.
    """
    check_choice("score", score, SCORES)
    correction_N = log_probability_correction_N(config, tags.log_q_N, tags.counts_N, loss_weight_N)
    if score == "lift":
        return np.where(np.isneginf(correction_N), correction_N, tags.bias_N).astype(np.float32)
    return tags.bias_N + correction_N
