"""A trunk's passes as CUDA graphs: recorded, then queued as a whole."""

# Shapes: B examples of a micro-batch, D dim.

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hybrid.grad_totals import GradTotals
from hybrid.graph_place import Form, Place
from hybrid.pass_graph import PassGraph, has_gradient_hook
from hybrid.recording import NoRoom, no_room, recording
from hybrid.trunk_inputs import Inputs, arguments_of, tensors_of
from hybrid.trunk_passes import TrunkPasses
from workers.settings import check

logger = logging.getLogger(__name__)

_PASSES = "the trunk's passes"


class GraphedPasses(TrunkPasses):
    """Replays recorded passes where micro-batches have the form of those before; others run operation by operation.

    A card computes a small trunk's pass in less time than a host takes to queue its operations one by one, and each
    micro-batch has a pass of its own. A graph is queued at once, with the same operations on the same memory.

    - Each place of a micro-batch in its step has graphs of its own, since activations of all wait for their gradients
      together. What they take stays taken, activations and a gradient of each weight; ordinary passes, as of the last
      batch of an epoch, need theirs beside it. Where there would be no room for both, nothing is recorded, and `tell`
      gets it.
    - Gradients lie in the same memory at every step (`totals`): one that somebody keeps is overwritten by the first
      pass after `zero_grad`, unless it is copied.
    - A form is recorded once it has come more than `WARM_UPS` times in a row, and given up when another came twice:
      number, names, shapes and layout of the inputs, autocast, other weights or weights that lie elsewhere or are
      frozen, other modules, modules that are put in evaluation mode.
    - Python in the trunk's forward runs when a pass is recorded, not when it is replayed: branches and hooks of modules
      do what they did then, numbers are what they were (a probability of dropout that a schedule moves), and tensors
      that are neither parameters nor buffers must stay where they are. Random numbers on the card are drawn anew.
    - A trunk whose forward asks the card for a value cannot be recorded, and while one is recorded no other thread may
      wait for the whole card or draw from torch's default generator on it. Either is an error, as torch's random
      numbers and memory do not recover from it.

    Args:
        trunk: on a CUDA device.
        precision: as of `TrunkPasses`.
        tell: takes remarks for people.

    Raises:
        ConfigError: the trunk is not on a CUDA device, or other cards take part in it; in `forward`, the trunk cannot
            be recorded, or some of its inputs are elsewhere.

    Source: CUDA graphs as of PyTorch's notes on CUDA semantics, "CUDA Graphs"; unlike `make_graphed_callables`, it
    adds to `.grad`, so that gradients of several passes may be summed.
    """

    def __init__(
        self, trunk: nn.Module, precision: torch.dtype | None, tell: Callable[[str], None] = logger.warning
    ) -> None:
        super().__init__(trunk, precision)
        for module in trunk.modules():
            is_shared = isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel)
            rule = f"False with {type(module).__name__}: other cards take part by hooks or threads"
            check(not is_shared, "cuda_graphs", True, rule)
            is_compiled = getattr(module, "_compiled_call_impl", None) or type(module).__name__ == "OptimizedModule"
            rule = 'False with a compiled trunk: torch.compile has graphs of its own (mode="reduce-overhead")'
            check(not is_compiled, "cuda_graphs", True, rule)
        devices = sorted({str(tensor.device) for tensor in (*trunk.parameters(), *trunk.buffers())}) or ["cpu"]
        is_one_card = len(devices) == 1 and devices[0].startswith("cuda")
        rule = f"False with a trunk on {' and '.join(devices)}: graphs are of one card"
        check(is_one_card, "cuda_graphs", True, rule)
        self._tell = tell
        self._places: dict[int, Place[PassGraph]] = {}
        self._state: Form = ()
        self._has_room = True

    def forward(self, inputs: Inputs, number: int) -> Tensor:
        if number == 0:  # once a step
            self._begin_step()
        tensors = tensors_of(inputs)
        if len(devices := {one.device for one in tensors}) > 1:
            where = " and ".join(sorted(map(str, devices)))
            rule = f"False with inputs on {where}: what the host reads of them would be recorded"
            check(False, "cuda_graphs", True, rule)
        if any(one.requires_grad for one in tensors) or not (self._has_room or self._places):
            return super().forward(inputs, number)
        place = self._places.setdefault(number, Place())
        looks = tuple((one.shape, one.stride(), one.dtype, one.device) for one in tensors)
        form = (looks, tuple(arguments_of(inputs)[1]), self.autocast_dtype("cuda"), self._state)
        place.note(form)
        if place.is_outgrown:
            place.let_go()
        if place.is_due and self._has_room:
            self._record(place, form, inputs)
        if place.graph is not None and place.recorded_form == form:
            return place.graph.forward(inputs)
        return super().forward(inputs, number)

    def backward(self, features_BD: Tensor, grad_BD: Tensor, number: int) -> None:
        place = self._places.get(number)
        if place is not None and place.graph is not None and features_BD is place.graph.features_BD:
            place.graph.backward(grad_BD)
        else:
            super().backward(features_BD, grad_BD, number)

    def _begin_step(self) -> None:
        """Look at every weight; where room was short, give back what graphs have: none is in use between steps."""
        if self._has_room:
            self._state = _state_of(self.trunk)
        else:
            for place in self._places.values():
                place.let_go()
            self._places.clear()
            self.totals = None

    def _record(self, place: Place[PassGraph], form: Form, inputs: Inputs) -> None:
        try:
            with recording(_PASSES):
                graph = PassGraph(self, inputs, self._totals_of_now())
            graphs = [graph, *(other.graph for other in self._places.values() if other.graph is not None)]
            if (taken := sum(one.num_bytes for one in graphs)) > graph.num_free_bytes:
                why = f"they take {taken:,} bytes, {graph.num_free_bytes:,} are left for other passes"
                raise no_room(_PASSES, why)
        except NoRoom as e:
            self._has_room = False
            self._tell(str(e))
        else:
            place.graph, place.recorded_form = graph, form

    def _totals_of_now(self) -> GradTotals:
        learning = [p for p in self.trunk.parameters() if p.requires_grad]
        if self.totals is None or not self.totals.fits(learning):
            self.totals = GradTotals(learning)
        return self.totals


def _state_of(trunk: nn.Module) -> Form:
    """Which weights and modules there are, how weights lie, which learn or have hooks, which modules are training.

    Names of objects (`id`) are sound: a graph keeps what it was recorded with. Modules are walked by hand, in half the
    time of `parameters()` and the like: this is done in every step.
    """
    state: list[object] = []
    seen: set[int] = set()
    todo = [trunk]
    while todo:
        module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        state += (id(module), module.training)
        for t in (*module._parameters.values(), *module._buffers.values()):
            if t is not None:
                where = id(t), t.data_ptr(), t.dtype, t.shape, t.stride()
                state.append((*where, t.requires_grad, has_gradient_hook(t)))
        todo += [child for child in module._modules.values() if child is not None]
    return tuple(state)
