"""The end of a trunk's step: gradients clipped, weights moved."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import optimizer as torch_optimizer

from hybrid.grad_totals import GradTotals
from hybrid.graph_place import Form, Place
from hybrid.recording import NoRoom, Recorder, recording
from launch.config import TrainConfig

logger = logging.getLogger(__name__)

Groups = list[dict[str, Any]]
"""An optimizer's parameters with their settings."""


class OptimizerStep:
    """Clips the norm of all gradients together, and lets an optimizer move the weights.

    Where all gradients lie in the same memory step after step, it is recorded as a CUDA graph and replayed: a host
    takes longer to queue it than a card to compute it. Learning rates may change at every step; with other settings or
    another state the step is recorded anew. An optimizer that somebody hooked is asked each time.

    Args:
        optimizer: of the weights.
        clip_norm: largest norm of all gradients; 0 does not clip.
        tell: takes remarks for people.
    """

    def __init__(
        self, optimizer: torch.optim.AdamW, clip_norm: float, tell: Callable[[str], None] = logger.warning
    ) -> None:
        self.optimizer, self.clip_norm = optimizer, clip_norm
        self._tell = tell
        self._place: Place[_StepGraph] = Place()
        self._has_room = True

    def __call__(self, totals: GradTotals | None = None) -> None:
        """Clip and step.

        Args:
            totals: where gradients lie, or None if they may lie anywhere.

        Raises:
            ConfigError: it cannot be recorded.
        """
        place = self._place
        if totals is None:
            place.let_go()
        if totals is None or not self._has_room or not _is_recordable(self.optimizer, totals):
            self.run()
            return
        form = self._form(totals)
        place.note(form)
        if place.is_outgrown:
            place.let_go()
        if place.is_due:
            self._record(totals, form)
        if place.graph is not None and place.recorded_form == form:
            place.graph.replay(self.optimizer.param_groups)
        else:
            self.run()

    def run(self) -> None:
        """Clip and step, operation by operation."""
        if self.clip_norm > 0:
            nn.utils.clip_grad_norm_(_parameters_of(self.optimizer), self.clip_norm)
        self.optimizer.step()

    def _form(self, totals: GradTotals) -> Form:
        """All that a recording takes for granted; a graph keeps what it was recorded with, so that ids stay true."""
        groups = self.optimizer.param_groups
        settings = tuple((key, value) for group in groups for key, value in group.items() if key not in _OWN_FORMS)
        where = tuple((id(p), p.data_ptr()) for p in _parameters_of(self.optimizer))
        sizes = tuple(len(group["params"]) for group in groups)
        return self.clip_norm, id(totals), settings, sizes, where, tuple(map(id, _state_of(self.optimizer)))

    def _record(self, totals: GradTotals, form: Form) -> None:
        try:
            with recording("the optimizer's step"):
                self._place.graph = _StepGraph(self, totals)
            self._place.recorded_form = form
        except NoRoom as e:
            self._has_room = False
            self._tell(str(e))


_OWN_FORMS = ("params", "lr")


class _StepGraph:
    """Records a step on gradients that lie in `totals`, without running it."""

    def __init__(self, step: OptimizerStep, totals: GradTotals) -> None:
        device, groups = totals.part(0).device, step.optimizer.param_groups
        self._recorder = Recorder(self, device)
        self._lrs = [torch.zeros((), dtype=torch.float32, device=device) for _ in groups]
        self._kept = totals, _parameters_of(step.optimizer), _state_of(step.optimizer)
        self._graph = torch.cuda.CUDAGraph()
        with self._recorder.session(), _rates_read_from(self._lrs, groups), self._recorder.recorded(self._graph):
            step.run()

    def replay(self, groups: Groups) -> None:
        """Queue the step, with the learning rates of these groups."""
        for lr, group in zip(self._lrs, groups, strict=True):
            lr.fill_(group["lr"])
        self._graph.replay()

    def drain(self) -> None:
        """Wait until the card has done all that it was asked for, so that this is not in use when it is let go of."""
        self._recorder.drain()


@contextmanager
def _rates_read_from(lrs: list[Tensor], groups: Groups) -> Iterator[None]:
    """Inside, the optimizer takes its learning rates from the card, as a recording must."""
    before = [(group["lr"], group["capturable"]) for group in groups]
    for lr, group in zip(lrs, groups, strict=True):
        group.update(lr=lr, capturable=True)
    try:
        yield
    finally:
        for group, (rate, capturable) in zip(groups, before, strict=True):
            group.update(lr=rate, capturable=capturable)


def _parameters_of(optimizer: torch.optim.AdamW) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _state_of(optimizer: torch.optim.AdamW) -> list[object]:
    return [value for entries in optimizer.state.values() for value in entries.values()]


def _is_recordable(optimizer: torch.optim.AdamW, totals: GradTotals) -> bool:
    """Whether all gradients that a step reads lie in totals, and nobody wants to be asked at each step."""
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        torch_optimizer._global_optimizer_pre_hooks,
        torch_optimizer._global_optimizer_post_hooks,
    )
    if any(hooks) or "step" in vars(optimizer) or not totals.hold_all():  # a scheduler of torch sets `step`
        return False
    known = set(map(id, totals.parameters))
    return all(id(p) in known or p.grad is None for p in _parameters_of(optimizer))


def make_optimizer(trunk: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) that does not decay biases, norms and other one-dimensional parameters."""
    parameters = [p for p in trunk.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    filled = [g for g in groups if g["params"]] or groups[:1]  # of a frozen trunk nothing is left
    return torch.optim.AdamW(filled, lr=config.lr, fused=True)
