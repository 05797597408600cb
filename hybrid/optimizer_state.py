"""An optimizer's state as tensors by name beside plain values, so that nothing need be pickled."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def split_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state's tensors named `INDEX.KEY`, and everything else as plain values (JSON)."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else scalars)[f"{index}.{key}"] = value
    return tensors, {"groups": state["param_groups"], "scalars": scalars}


def join_optimizer(tensors: Mapping[str, Tensor], plain: Mapping[str, Any], optimizer: Any) -> dict[str, Any]:
    """What `optimizer.load_state_dict` takes, from what `split_optimizer` gave.

    Tensors are laid out in memory as their parameters are, which files do not keep: a fused optimizer goes through both
    by address, or refuses to.

    Raises:
        ValueError: a tensor does not have the shape of its parameter.
        IndexError: there are more parameters in the state than in the optimizer.
    """
    state: dict[int, dict[str, Any]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in [*tensors.items(), *plain["scalars"].items()]:
        index, _, key = name.partition(".")
        if isinstance(value, Tensor) and value.ndim > 0:
            parameter = parameters[int(index)]
            if value.shape != parameter.shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}")
            value = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
        state.setdefault(int(index), {})[key] = value
    groups = [{key: tuple(v) if key == "betas" else v for key, v in group.items()} for group in plain["groups"]]
    return {"state": state, "param_groups": groups}
