"""The end of a trunk's step: gradients clipped, weights moved."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hybrid.grad_totals import GradTotals
from hybrid.graph_place import Form, Place
from hybrid.recording import Recorder

logger = logging.getLogger(__name__)


class OptimizerStep:
    """Clips the norm of all gradients together, and lets an optimizer move the weights.

    Where gradients lie in the same places step after step, it is recorded as a CUDA graph and replayed: a host takes
    longer to queue it than a card to compute it. Learning rates may change at every step; with other settings or
    another state the step is recorded anew. An optimizer that somebody hooked is asked each time.

    Args:
        trunk: whose gradients are clipped.
        optimizer: of its weights.
        clip_norm: largest norm of all gradients; 0 does not clip.
        tell: takes remarks for people.
    """

    def __init__(
        self,
        trunk: nn.Module,
        optimizer: torch.optim.AdamW,
        clip_norm: float,
        tell: Callable[[str], None] = logger.warning,
    ) -> None:
        self.trunk, self.optimizer, self.clip_norm = trunk, optimizer, clip_norm
        self._tell = tell
        self._place: Place[_StepGraph] = Place()
        self._has_room = True

    def __call__(self, totals: GradTotals | None = None) -> None:
        """Clip and step.

        Args:
            totals: where gradients lie, or None if they may lie anywhere.
        """
        if totals is None or not self._has_room or not totals.hold_all() or _is_hooked(self.optimizer):
            self.run()
            return
        place, form = self._place, _form(self.optimizer, totals)
        place.note(form)
        if place.is_outgrown:
            place.let_go()
        if place.is_due:
            self._record(totals, form)
        if place.graph is not None and place.recorded_form == form:
            place.graph.replay()
        else:
            self.run()

    def run(self) -> None:
        """Clip and step, operation by operation."""
        if self.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.trunk.parameters(), self.clip_norm)
        self.optimizer.step()

    def _record(self, totals: GradTotals, form: Form) -> None:
        try:
            self._place.graph, self._place.recorded_form = _StepGraph(self, totals), form
        except torch.cuda.OutOfMemoryError as e:
            self._has_room = False
            why = str(e).partition(". ")[0]
            self._tell(
                f"no room on the card to record the optimizer's step as a CUDA graph, it is queued singly: {why}"
            )


class _StepGraph:
    """Records a step on gradients in their places, without running it."""

    def __init__(self, step: OptimizerStep, totals: GradTotals) -> None:
        device = totals.places[0].device
        self._recorder = Recorder(self, device)
        self._groups = step.optimizer.param_groups
        self._lrs = [torch.zeros((), dtype=torch.float32, device=device) for _ in self._groups]
        self._kept = totals, _state_of(step.optimizer)
        self._graph = torch.cuda.CUDAGraph()
        with self._recorder.session(), _rates_read_from(self._lrs, self._groups), self._recorder.recorded(self._graph):
            step.run()

    def replay(self) -> None:
        """Queue the step, with the learning rates of now."""
        for lr, group in zip(self._lrs, self._groups, strict=True):
            lr.fill_(group["lr"])
        self._graph.replay()

    def drain(self) -> None:
        """Wait until the card has done all that it was asked for, so that this is not in use when it is let go of."""
        self._recorder.drain()


@contextmanager
def _rates_read_from(lrs: list[Tensor], groups: list[dict[str, object]]) -> Iterator[None]:
    """Inside, the optimizer takes its learning rates from the card, as a recording must."""
    before = [(group["lr"], group["capturable"]) for group in groups]
    for lr, group in zip(lrs, groups, strict=True):
        group.update(lr=lr, capturable=True)
    try:
        yield
    finally:
        for group, (rate, capturable) in zip(groups, before, strict=True):
            group.update(lr=rate, capturable=capturable)


def _form(optimizer: torch.optim.AdamW, totals: GradTotals) -> Form:
    """All that a recorded step takes for granted; a graph keeps what it was recorded with, so that names stay true."""
    where = tuple((id(p), p.data_ptr()) for p in totals.parameters)
    groups = tuple(
        (*((key, value) for key, value in group.items() if key not in ("params", "lr")), *map(id, group["params"]))
        for group in optimizer.param_groups
    )
    return id(totals), where, groups, tuple(map(id, _state_of(optimizer)))


def _state_of(optimizer: torch.optim.AdamW) -> list[object]:
    return [value for entries in optimizer.state.values() for value in entries.values()]


def _is_hooked(optimizer: torch.optim.AdamW) -> bool:
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
