"""Weights of the loss: of each tag's positive terms, of each example."""

# Shapes: B examples, N tags.

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from workers.config import MAX_FACTOR
from workers.errors import DataError
from workers.settings import check


def checked_weights(pos_weights: npt.ArrayLike | None, num_tags: int) -> npt.NDArray[np.float32] | None:
    """Weights of tags' positive terms as float32 `[N]`, or None for 1.

    Raises:
        ConfigError: another shape.
    """
    if pos_weights is None:
        return None
    weights_N = np.asarray(pos_weights, np.float32)
    check(weights_N.shape == (num_tags,), "shape of pos_weights", weights_N.shape, f"({num_tags},)")
    return weights_N


def checked_example_weights(weights: Any, num_examples: int) -> npt.NDArray[np.float32] | None:
    """Factors of the examples' losses as float32 `[B]`, or None for 1; from any device.

    Raises:
        DataError: they are not `[B]`, no floats (numbers of items, say), or not between 0 and `MAX_FACTOR`.
    """
    if weights is None:
        return None
    try:
        array = np.asarray(_on_host(weights) if isinstance(weights, torch.Tensor) else weights)
    except (TypeError, ValueError, RuntimeError) as e:  # lists of lists, sparse or nested tensors
        raise DataError(f"example_weights cannot be read as floats of shape ({num_examples},): {e}.") from e
    if array.shape != (num_examples,) or array.dtype.kind not in "fb":
        raise DataError(
            f"example_weights are {array.dtype} of shape {array.shape}; expected floats of shape ({num_examples},), a "
            "factor for the loss of each example, or a mask of truth values: .bool() makes one of 0 and 1."
        )
    if len(wrong := np.flatnonzero(~((array >= 0) & (array <= MAX_FACTOR)))):
        raise DataError(
            f"example_weights has {array[wrong[0]]} for example {wrong[0]}; expected numbers from 0 to {MAX_FACTOR:g}."
        )
    return array.astype(np.float32)  # a copy: a chunk may be sent again


def _on_host(weights: torch.Tensor) -> torch.Tensor:
    """NumPy has not all types of floats."""
    return weights.detach().to("cpu", torch.float32 if weights.is_floating_point() else None)
