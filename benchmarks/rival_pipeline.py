"""A training step of trunk and head in one process, in the place of the workers' pipeline."""

from collections.abc import Sequence

import torch

from benchmarks.rival_head import RivalHead
from hybrid.micro_batch import MicroBatch
from hybrid.phases import PhaseTimer
from hybrid.trunk_passes import TrunkPasses


class RivalPipeline:
    """Does for a `RivalHead` what `hybrid.pipeline.Pipeline` does for a `WideHead`: the gradient of the mean loss.

    Args:
        passes: of the trunk.
        head: learns inside the step.
        timer: receives the phases `forward`, `head`, `backward`.
    """

    spans = None
    """As of a `Pipeline` that books no phases of a device."""
    loss_B = torch.empty(0)
    """A rival gives the sum of its losses alone."""

    def __init__(self, passes: TrunkPasses, head: RivalHead, *, timer: PhaseTimer) -> None:
        self.passes, self.head, self.timer = passes, head, timer

    def accumulate(self, microbatches: Sequence[MicroBatch]) -> float:
        """Add the gradient of the mean loss to the trunk's weights; the rows learn on the way.

        Returns:
            The mean loss.
        """
        num_examples, loss_sum = sum(len(part) for part in microbatches), 0.0
        for number, part in enumerate(microbatches):
            with self.timer.phase("forward"):
                features_BD = self.passes.forward(part.inputs, number)
            with self.timer.phase("head"):
                loss, grad_BD = self.head.learn(features_BD.detach().float(), part.tags.items_B)
            with self.timer.phase("backward"):
                self.passes.backward(features_BD, grad_BD / num_examples, number)
            loss_sum += float(loss)
        return loss_sum / num_examples
