"""Defaults that a trunk on a card has for itself."""

from collections.abc import Mapping
from typing import Any

from launch.config import TrunkConfig
from workers.accelerator import is_on_card
from workers.config import HeadConfig
from workers.errors import ConfigError

CHUNK_SIZE = 16
"""Half of the head's own: a card that computes faster than workers waits for the last of them, and beside it there are
cores for twice as many."""
_HEAD = HeadConfig()


def card_defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults in the place of `RunConfig`'s own, for settings of which some are `given`, by dotted keys.

    Negatives are in proportion to the chunk, so that a step draws as many whatever its chunks. Sampled softmax keeps
    the head's own, since it needs many for each example; so do private negatives. What is given may be wrong, which is
    for others to say.

    Example:
        >>> dict(card_defaults({"trunk.device": "cuda"}))
        {'head.chunk_size': 16, 'head.negatives': 2048}
        >>> dict(card_defaults({"trunk.device": "cuda", "head.chunk_size": 8}))
        {'head.chunk_size': 8, 'head.negatives': 1024}
    """
    device = given.get("trunk.device", TrunkConfig().device)
    is_shared = given.get("head.private_negatives", _HEAD.private_negatives) is False
    is_sampling = given.get("head.objective", _HEAD.objective) == _HEAD.objective
    if not (is_shared and is_sampling and isinstance(device, str) and is_on_card(device)):
        return {}
    try:
        size = HeadConfig(chunk_size=given.get("head.chunk_size", CHUNK_SIZE)).chunk_size
    except ConfigError:
        return {}
    return {"head.chunk_size": size, "head.negatives": size * _HEAD.negatives // _HEAD.chunk_size}
