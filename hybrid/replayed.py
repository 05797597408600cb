"""A function of tensors as a CUDA graph: recorded, then queued as a whole."""

from collections.abc import Callable

import torch
from torch import Tensor

from hybrid.graph_place import Form
from hybrid.recording import Recorder, recording


class Replayed:
    """Calls a function, or replays what it queued on a card where arguments have the form that was recorded.

    To queue operations one by one keeps a host's thread busy for as long as a card computes, and each takes the
    interpreter from whatever other thread queues work. A graph is queued at once.

    Args:
        function: of tensors on one card, to a tensor there; without gradients or random numbers. Its result hangs on
            its arguments alone, and on tensors that stay where they are.

    Example:
        >>> scaled = Replayed(lambda images: images / 255)
        >>> scaled(torch.full((2, 3), 255))  # not recorded
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._graph: _FunctionGraph | None = None
        self._recorded_form: Form = ()

    @property
    def is_recorded(self) -> bool:
        """Whether anything was recorded."""
        return self._graph is not None

    def record(self, what: str, *arguments: Tensor) -> None:
        """Call the function, so that libraries load what they need, then record it; no other thread uses the card.

        Args:
            what: is recorded, for people.
            arguments: of the form that is to be replayed.

        Raises:
            NoRoom, ConfigError: see `recording`.
        """
        self._graph = None  # what it took may be needed now
        with recording(what):
            self._function(*arguments)
            self._graph, self._recorded_form = _FunctionGraph(self._function, arguments), _form(arguments)

    def __call__(self, *arguments: Tensor) -> Tensor:
        """What the function returns for these arguments, in memory that is the caller's."""
        if self._graph is not None and _form(arguments) == self._recorded_form:
            return self._graph(*arguments)
        return self._function(*arguments)


def _form(arguments: tuple[Tensor, ...]) -> Form:
    return tuple((of.shape, of.stride(), of.dtype, of.device) for of in arguments)


class _FunctionGraph:
    """What a function queues on arguments of one form, recorded without running it; then replayed on others."""

    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Tensor, ...]) -> None:
        recorder = Recorder(self, arguments[0].device)
        self._arguments = [of.clone() for of in arguments]
        self._graph = torch.cuda.CUDAGraph()
        with recorder.session(), recorder.recorded(self._graph):
            self._result = function(*self._arguments)

    def __call__(self, *arguments: Tensor) -> Tensor:
        for own, given in zip(self._arguments, arguments, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._result.clone()
