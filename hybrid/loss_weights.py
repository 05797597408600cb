"""Weights of the loss: of each tag's positive terms, of each example."""

# Shapes: B examples, N tags.

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from workers.config import MAX_FACTOR
from workers.errors import DataError


def read_tag_weights(pos_weights: Any, num_tags: int) -> npt.NDArray[np.float32] | None:
    """Weights of tags' positive terms as float32 `[N]`, or None for 1; from any device.

    How large they are is for whoever uses some of them to check: there may be millions, of which a batch needs few.

    Raises:
        DataError: they are not `[N]`, or no numbers.
    """
    if pos_weights is None:
        return None
    array = _array(pos_weights, "pos_weights", num_tags)
    if array.shape != (num_tags,) or array.dtype.kind not in "fiub":
        raise DataError(
            f"pos_weights are {array.dtype} of shape {array.shape}; expected numbers of shape ({num_tags},), a factor "
            "for the positive terms of each tag."
        )
    with np.errstate(over="ignore"):  # infinity, which `check_weights` refuses
        return array.astype(np.float32, copy=False)


def checked_tag_weights(pos_weights: Any, num_tags: int) -> npt.NDArray[np.float32] | None:
    """What `read_tag_weights` gives, with all of them checked.

    Raises:
        DataError: as `read_tag_weights` and `check_weights`.
    """
    weights_N = read_tag_weights(pos_weights, num_tags)
    if weights_N is not None:
        check_weights("pos_weights", weights_N, "tag", range(num_tags))
    return weights_N


def checked_example_weights(weights: Any, num_examples: int) -> npt.NDArray[np.float32] | None:
    """Factors of the examples' losses as float32 `[B]`, or None for 1; from any device.

    Raises:
        DataError: they are not `[B]`, or no floats (numbers of items, say), or see `check_weights`.
    """
    if weights is None:
        return None
    array = _array(weights, "example_weights", num_examples)
    if array.shape != (num_examples,) or array.dtype.kind not in "fb":
        raise DataError(
            f"example_weights are {array.dtype} of shape {array.shape}; expected floats of shape ({num_examples},), a "
            "factor for the loss of each example, or a mask of truth values: .bool() makes one of 0 and 1."
        )
    check_weights("example_weights", array, "example", range(num_examples))
    return array.astype(np.float32)  # a copy: a chunk may be sent again


def check_weights(name: str, weights: npt.NDArray[Any], of: str, numbers: Any) -> None:
    """Refuse what workers would.

    Args:
        name: of the weights.
        weights: flat.
        of: what each belongs to, a tag or an example.
        numbers: of these.

    Raises:
        DataError: one is not between 0 and `MAX_FACTOR`.
    """
    wrong = np.flatnonzero(~((weights >= 0) & (weights <= MAX_FACTOR)))
    if len(wrong):
        i = wrong[0]
        raise DataError(f"{name} has {weights[i]} for {of} {numbers[i]}; expected numbers from 0 to {MAX_FACTOR:g}.")


def _array(weights: Any, name: str, number: int) -> npt.NDArray[Any]:
    try:
        return np.asarray(_on_host(weights) if isinstance(weights, torch.Tensor) else weights)
    except (TypeError, ValueError, RuntimeError) as e:  # lists of lists, sparse or nested tensors
        raise DataError(f"{name} cannot be read as floats of shape ({number},): {e}.") from e


def _on_host(weights: torch.Tensor) -> torch.Tensor:
    """NumPy has not all types of floats."""
    return weights.detach().to("cpu", torch.float32 if weights.is_floating_point() else None)
