"""A training step of trunk and head in one process, in the place of the workers' pipeline."""

from collections.abc import Sequence

import torch
from torch import nn

from benchmarks.rival_head import RivalHead
from hybrid.phases import PhaseTimer
from hybrid.pipeline import MicroBatch


class RivalPipeline:
    """Does for a `RivalHead` what `hybrid.pipeline.Pipeline` does for a `WideHead`: the gradient of the mean loss.

    Args:
        trunk: maps images to features.
        head: learns inside the step.
        precision: of autocast in the trunk.
        timer: receives the phases `forward`, `head`, `backward`.
    """

    spans = None
    """As of a `Pipeline` that books no phases of a device."""

    def __init__(self, trunk: nn.Module, head: RivalHead, *, precision: torch.dtype, timer: PhaseTimer) -> None:
        self.trunk, self.head, self.precision, self.timer = trunk, head, precision, timer

    def accumulate(self, microbatches: Sequence[MicroBatch]) -> float:
        """Add the gradient of the mean loss to the trunk's weights; the rows learn on the way.

        Returns:
            The mean loss.
        """
        num_examples, loss_sum = sum(len(part.images) for part in microbatches), 0.0
        for part in microbatches:
            is_mixed = self.precision != torch.float32
            with self.timer.phase("forward"), torch.autocast(part.images.device.type, self.precision, enabled=is_mixed):
                features_BD = self.trunk(part.images)
            with self.timer.phase("head"):
                loss, grad_BD = self.head.learn(features_BD.detach().float(), part.tags.items_B)
            with self.timer.phase("backward"):
                features_BD.backward((grad_BD / num_examples).to(features_BD.dtype))
            loss_sum += float(loss)
        return loss_sum / num_examples
