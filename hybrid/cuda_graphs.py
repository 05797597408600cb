"""A trunk's passes as CUDA graphs: recorded once, then queued as a whole."""

# Shapes: B examples of a micro-batch, D dim.

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hybrid.trunk_passes import TrunkPasses, beside
from workers.errors import ConfigError
from workers.settings import check

logger = logging.getLogger(__name__)

WARM_UPS = 2
"""Passes in a row of equal form before one is recorded: libraries load their kernels and choose among them then."""


class GraphedPasses(TrunkPasses):
    """Replays recorded passes where micro-batches have the form of those before; others run operation by operation.

    A card computes a small trunk's pass in less time than a host takes to queue its operations one by one, and each
    micro-batch has a pass of its own. A graph is queued at once, with the same operations on the same memory.

    - Each place of a micro-batch in its step has graphs of its own, since activations of all wait for their gradients
      together. What they take stays taken; at most as much as a step takes anyway.
    - A form is recorded once it has come `WARM_UPS` times in a row, and again when it has changed for good: the
      images' shape and layout, weights that lie elsewhere or are frozen, modules that are put in evaluation mode.
    - Python in the trunk's forward runs when a pass is recorded, and not when it is replayed. So do hooks, and a branch
      is the branch that it was. Random numbers on the card are drawn anew each time.
    - A trunk whose forward asks the card for a value cannot be recorded. That is an error, as torch's random numbers
      and memory do not recover from it. Where memory alone is short, nothing more is recorded, and `tell` gets it.

    Args:
        trunk: on a CUDA device.
        precision: as of `TrunkPasses`.
        tell: takes remarks for people.

    Raises:
        ConfigError: the trunk is not on a CUDA device, or synchronises its gradients with other processes by hooks; in
            `forward`, it cannot be recorded.

    Source: CUDA graphs as of PyTorch's notes on CUDA semantics, "CUDA Graphs"; unlike `make_graphed_callables`, what is
    replayed is added to `.grad` rather than becoming it, so that gradients of several passes may be summed.
    """

    def __init__(
        self, trunk: nn.Module, precision: torch.dtype | None, tell: Callable[[str], None] = logger.warning
    ) -> None:
        super().__init__(trunk, precision)
        device = next((parameter.device for parameter in trunk.parameters()), torch.device("cpu"))
        check(device.type == "cuda", "cuda_graphs", True, f"False with a trunk on {device}: only a card has graphs")
        kind = type(trunk).__name__
        is_shared = isinstance(trunk, nn.parallel.DistributedDataParallel | nn.DataParallel)
        check(not is_shared, "cuda_graphs", True, f"False with {kind}: other cards take part by hooks or threads")
        self._device, self._tell = device, tell
        self._places: dict[int, _Place] = {}
        self._state: tuple[object, ...] = ()
        self._has_memory = True

    def forward(self, images: Tensor, number: int) -> Tensor:
        if images.requires_grad:
            return super().forward(images, number)
        if number == 0:  # once a step, as it takes a look at every weight
            self._state = _state_of(self.trunk)
        place = self._places.setdefault(number, _Place())
        form = (images.shape, images.stride(), images.dtype, torch.is_autocast_enabled("cuda"), self._state)
        if place.is_due(form) and self._has_memory:
            self._record(place, form, images)
        if place.graph is not None and place.recorded_form == form:
            return place.graph.forward(images)
        return super().forward(images, number)

    def backward(self, features_BD: Tensor, grad_BD: Tensor, number: int) -> None:
        place = self._places.get(number)
        if place is not None and place.graph is not None and features_BD is place.graph.features_BD:
            place.graph.backward(grad_BD)
        else:
            super().backward(features_BD, grad_BD, number)

    def _record(self, place: "_Place", form: tuple[object, ...], images: Tensor) -> None:
        place.graph = None  # its memory may be what the new one needs
        try:
            place.graph, place.recorded_form = _PassGraph(self, images, self._device), form
        except torch.cuda.OutOfMemoryError as e:
            self._has_memory = False
            reason = str(e).partition(". ")[0]
            self._tell(f"no memory to record more of the trunk's passes as CUDA graphs, these run as before: {reason}")
        except RuntimeError as e:
            reason = str(e.__context__ or e).partition("\n")[0]  # what ended the recording, not that it was ended
            raise ConfigError(
                f"the trunk's passes cannot be recorded as CUDA graphs: {reason}. Does its forward ask for a value "
                "(.item(), if, print)? Start again without: --cuda-graphs off, in Python cuda_graphs=False."
            ) from e


class _Place:
    """One of the micro-batches of every step: which form its images had of late, and a graph for one of the forms."""

    def __init__(self) -> None:
        self.graph: _PassGraph | None = None
        self.recorded_form: tuple[object, ...] = ()
        self._form: tuple[object, ...] = ()
        self._num_alike = 0

    def is_due(self, form: tuple[object, ...]) -> bool:
        """Note a form that comes now; whether it is to be recorded."""
        self._num_alike = self._num_alike + 1 if form == self._form else 1
        self._form = form
        return self._num_alike > WARM_UPS and (self.graph is None or form != self.recorded_form)


class _PassGraph:
    """One forward and one backward pass, on memory of their own."""

    def __init__(self, passes: TrunkPasses, images: Tensor, device: torch.device) -> None:
        trunk, pool, stream = passes.trunk, torch.cuda.graph_pool_handle(), _recording_stream(device)
        # Leaves of their own: torch remembers on which stream a parameter's gradient was summed before.
        leaves = {
            name: parameter.detach().requires_grad_(parameter.requires_grad)
            for name, parameter in trunk.named_parameters()
        }
        self._images = images.clone()
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        precision = _autocast_dtype(passes.precision)
        with _recorded(self._forward, pool, stream), _uncached_autocast(precision):
            features_BD = functional_call(trunk, leaves, (self._images,))
        self.features_BD = features_BD.detach()
        self._grad_BD = torch.empty_like(self.features_BD)
        self._grads: list[tuple[nn.Parameter, Tensor]] = []
        if features_BD.requires_grad:  # else the trunk is frozen
            learning = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
            with _recorded(self._backward, pool, stream):
                grads = torch.autograd.grad(features_BD, list(learning.values()), self._grad_BD, allow_unused=True)
            by_name = dict(trunk.named_parameters())
            pairs = zip(learning, grads, strict=True)
            self._grads = [(by_name[name], grad) for name, grad in pairs if grad is not None]

    def forward(self, images: Tensor) -> Tensor:
        self._images.copy_(images)
        self._forward.replay()
        return self.features_BD

    def backward(self, grad_BD: Tensor) -> None:
        if not self._grads:
            return
        self._grad_BD.copy_(beside(self.features_BD, grad_BD))
        self._backward.replay()
        _add_to_grads(self._grads)


def _add_to_grads(grads: list[tuple[nn.Parameter, Tensor]]) -> None:
    """As backward does; a first gradient is copied, since the next replay overwrites what a graph computed."""
    totals: list[Tensor] = []
    added: list[Tensor] = []
    firsts: list[Tensor] = []
    copied: list[Tensor] = []
    for parameter, grad in grads:
        if parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)
            firsts.append(parameter.grad)
            copied.append(grad)
        else:
            totals.append(parameter.grad)
            added.append(grad)
    if firsts:
        torch._foreach_copy_(firsts, copied)
    if totals:
        torch._foreach_add_(totals, added)


@functools.cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all: for each stream on which it multiplies cuBLAS keeps a workspace, 32 MiB on Hopper cards."""
    return torch.cuda.Stream(device)


@contextmanager
def _recorded(graph: torch.cuda.CUDAGraph, pool: Any, stream: torch.cuda.Stream) -> Iterator[None]:
    """Record what is queued inside; other threads may use the card meanwhile."""
    with (
        torch.cuda.stream(stream),  # whatever happens inside, the stream afterwards is the one before
        torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
    ):
        yield


def _autocast_dtype(precision: torch.dtype | None) -> torch.dtype | None:
    """Of autocast as it is to be while recording; None: off."""
    if precision is None:
        return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
    return None if precision == torch.float32 else precision


def _uncached_autocast(dtype: torch.dtype | None) -> torch.autocast:
    """Weights must be cast inside the graph, each time anew: none of a cast that was there before it."""
    return torch.autocast("cuda", dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False)


def _state_of(trunk: nn.Module) -> tuple[object, ...]:
    """What a recorded pass takes for granted: where weights lie, which of them learn, which modules are training."""
    weights = tuple((parameter.data_ptr(), parameter.requires_grad) for parameter in trunk.parameters())
    buffers = tuple(buffer.data_ptr() for buffer in trunk.buffers())
    return weights, buffers, tuple(module.training for module in trunk.modules())
