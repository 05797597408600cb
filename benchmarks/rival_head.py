"""An output layer that lives on the trunk's device, in the trunk's process."""

# Shapes: B examples, D dim, N tags.

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.true_tags import TrueTags
from workers.config import HeadConfig


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
        """Fresh rows with the distribution of the workers' matrix, on the device."""
        generator = torch.Generator().manual_seed(self.seed)
        rows_ND = torch.randn(len(self.counts_N), self.dim, generator=generator)
        return rows_ND.mul_(self.config.init_scale / self.dim**0.5).to(self.device)


class RivalHead(nn.Module):
    """Stands where `WideHead` stands in a `Trainer`: it has the attributes that a Trainer uses.

    Its rows are no parameters: like the workers' they learn inside `learn`.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting, self.config = setting, setting.config
        self.num_tags, self.dim = len(setting.counts_N), setting.dim
        self.row_lr = setting.config.row_lr
        self.step = 0

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
