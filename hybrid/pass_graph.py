"""One forward and one backward pass of a trunk as CUDA graphs, on memory of their own."""

# Shapes: B examples of a micro-batch, D dim.

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hybrid.grad_totals import GradTotals
from hybrid.recording import Recorder
from hybrid.trunk_inputs import Inputs, arguments_of, mapped, tensors_of
from hybrid.trunk_passes import TrunkPasses, pinned_for
from workers.errors import ConfigError


class PassGraph:
    """Records a trunk's passes on inputs of one form, without running them; then replays them on others.

    Recording uses leaves of its own for the weights: torch remembers for a parameter on which stream its gradient was
    summed before, and would make that stream part of the recording.

    Args:
        passes: with the trunk and its precision.
        inputs: of the form, on one card; they are copied.
        totals: what the backward pass adds to, of all parameters of the trunk that learn, in their order.

    Raises:
        ConfigError: a weight has a hook, which leaves would not have, or learns though no module of the trunk has it.
        RuntimeError: torch or CUDA cannot record the passes.
    """

    def __init__(self, passes: TrunkPasses, inputs: Inputs, totals: GradTotals) -> None:
        trunk, device = passes.trunk, tensors_of(inputs)[0].device
        self._totals = totals
        _refuse_hooks(trunk)
        self._recorder = Recorder(self, device)
        self._kept = [*trunk.parameters(), *trunk.buffers(), *trunk.modules()]  # their ids stay theirs
        self._inputs = mapped(inputs, Tensor.clone)
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with self._recorder.session():
            self._record(passes, totals)
        self.num_bytes = self._recorder.num_bytes
        """Taken on the card for as long as this lives."""
        self.num_free_bytes = torch.cuda.mem_get_info(device)[0]
        """That the card had left afterwards."""

    def _record(self, passes: TrunkPasses, totals: GradTotals) -> None:
        trunk, device = passes.trunk, self._recorder.device
        leaves = {name: p.detach().requires_grad_(p.requires_grad) for name, p in trunk.named_parameters()}
        dtype = passes.autocast_dtype(device.type)
        # Weights are cast inside the graph, each time anew: none of a cast that was there before it.
        autocast = torch.autocast(device.type, dtype, enabled=dtype is not None, cache_enabled=False)
        with self._recorder.recorded(self._forward), autocast:
            features_BD = functional_call(trunk, leaves, *arguments_of(self._inputs))
        self.features_BD = features_BD.detach()
        """What a replay computes, until the next one."""
        _refuse_others(features_BD, leaves, trunk)
        self._grad_BD = torch.empty_like(self.features_BD, dtype=torch.float32)
        self._which: list[int] = []
        """Parameters of `totals` that get a gradient."""
        if features_BD.requires_grad:  # else the trunk is frozen
            learning = [leaf for leaf in leaves.values() if leaf.requires_grad]
            with self._recorder.recorded(self._backward):
                grad_BD = self._grad_BD.to(features_BD.dtype)
                grads = torch.autograd.grad(features_BD, learning, grad_BD, allow_unused=True)
                there_are = {i: grad for i, grad in enumerate(grads) if grad is not None}
                if there_are:
                    torch._foreach_add_([totals.part(i) for i in there_are], list(there_are.values()))
            self._which = list(there_are)

    def drain(self) -> None:
        """Wait until the card has done all that it was asked for, so that this is not in use when it is let go of."""
        self._recorder.drain()

    def forward(self, inputs: Inputs) -> Tensor:
        """Features of inputs of the form."""
        for own, tensor in zip(tensors_of(self._inputs), tensors_of(inputs), strict=True):
            own.copy_(tensor)
        self._forward.replay()
        return self.features_BD

    def backward(self, grad_BD: Tensor) -> None:
        """Add to the gradients of the trunk's weights, for the inputs of the latest `forward`."""
        if self._which:
            self._grad_BD.copy_(pinned_for(self.features_BD, grad_BD), non_blocking=True)
            self._totals.add(self._which, self._backward.replay)


def has_gradient_hook(tensor: Tensor) -> bool:
    """Whether somebody wants to see or change its gradient, which a recorded pass would leave out."""
    return bool(tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None))


def _refuse_hooks(trunk: nn.Module) -> None:
    for name, parameter in trunk.named_parameters():
        if has_gradient_hook(parameter):
            raise ConfigError(
                f"the trunk's {name} has a hook on its gradient, which a recorded pass would leave out. Remove it, or "
                "start again without CUDA graphs: --cuda-graphs off, in Python cuda_graphs=False."
            )


def _refuse_others(features_BD: Tensor, leaves: dict[str, Tensor], trunk: nn.Module) -> None:
    """Refuse what learns from the features and is none of the leaves: its gradient would be lost."""
    own = {id(leaf) for leaf in leaves.values()}
    names = {id(parameter): name for name, parameter in trunk.named_parameters()}
    seen, todo = set(), [features_BD.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [function for function, _ in node.next_functions]
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in own:
            what = names.get(id(variable), f"a tensor of shape {list(variable.shape)}")
            raise ConfigError(
                f"{what} learns in the trunk's forward, but is not reached there as a parameter of one of its modules, "
                "as recorded passes need it. Start again without CUDA graphs: --cuda-graphs off, in Python "
                "cuda_graphs=False."
            )
