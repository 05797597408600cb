"""An output layer that lives on the trunk's device, in the trunk's process."""

# Shapes: B examples, D dim, N tags, X entries (example, true tag).

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.true_tags import TrueTags
from hybrid.row_rate import RowRate
from workers.config import HeadConfig
from workers.fresh_rows import fill_rows
from workers.objectives import initial_bias_N


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What all rivals are made from; the hybrid gets the same."""

    config: HeadConfig
    """Negatives, their weight, alpha, scale of fresh rows, learning rate of rows."""
    counts_N: NDArray
    """Training items that carry each tag."""
    marginal_N: NDArray
    """Distribution of the positive draws."""
    num_train_items: int
    dim: int
    positives: int
    """Positives drawn per example, where the objective draws them."""
    seed: int
    device: torch.device
    precision: torch.dtype
    """Of large products: that of the trunk."""
    true_tags: TrueTags

    def initial_rows_ND(self) -> Tensor:
        """The rows with which the workers' matrix begins for the same seed, on the device."""
        rows_ND = np.empty((len(self.counts_N), self.dim), np.float32)
        fill_rows(rows_ND, self.config.init_scale / self.dim**0.5, self.seed)
        return torch.from_numpy(rows_ND).to(self.device)

    def log_marginal_N(self) -> NDArray[np.float32]:
        """Where the biases of a softmax say "no information", float32 `[N]`."""
        softmax = replace(self.config, objective="sampled-softmax")
        return initial_bias_N(softmax, self.marginal_N, np.zeros(0))  # log q has no part in it

    def only_seen(self, score_bias_N: NDArray[np.float32]) -> NDArray[np.float32]:
        """-inf in the place of tags that training never saw: they are not ranked."""
        return np.where(np.asarray(self.counts_N) > 0, score_bias_N, -np.inf).astype(np.float32)


class RivalHead(RowRate, nn.Module):
    """Stands where `WideHead` stands in a `Trainer`: it has the attributes that a Trainer uses.

    Its rows are no parameters: like the workers' they learn inside `learn`.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting, self.config = setting, setting.config
        self.num_tags, self.dim = len(setting.counts_N), setting.dim
        self.row_lr = setting.config.row_lr
        self.step = 0

    def check_serves(self) -> None:
        """Nothing: no worker is needed."""

    @abstractmethod
    def learn(self, features_BD: Tensor, items_B: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Update the rows from one batch.

        Args:
            features_BD: float32, detached, on the device.
            items_B: the examples' numbers in the data set.

        Returns:
            The sum of the examples' losses (a scalar), and the gradient of that sum by the features `[B, D]`.
        """

    @abstractmethod
    def for_ranking(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows `[N, D]` and what is added to row . features to rank tags, `[N]`, in host memory."""


def softmax_targets(example_X: Tensor, num_examples: int) -> tuple[Tensor, Tensor]:
    """What a softmax aims at: 1 / |T(x)| of each pair's example `[X]`, and 1 for examples with true tags `[B, 1]`."""
    count_B = torch.bincount(example_X, minlength=num_examples)
    return 1.0 / count_B[example_X], (count_B > 0).float()[:, None]
