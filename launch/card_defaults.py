"""Defaults that a trunk on a card has for itself."""

from collections.abc import Mapping
from typing import Any

from launch.config import TrunkConfig
from workers.accelerator import is_on_card
from workers.config import HeadConfig

CARD_CHUNKS: Mapping[str, Any] = {"head.chunk_size": 16, "head.negatives": 2048}
"""Chunks of half the size: a card that computes faster than workers waits for the last of them, and beside it there
are cores for twice as many workers. Half the negatives for each, so that a step draws as many."""


def card_defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults in the place of `RunConfig`'s own, for settings of which some are `given`, by dotted keys.

    Sampled softmax keeps its own, which needs many negatives for each example; so do private negatives.

    Example:
        >>> dict(card_defaults({"trunk.device": "cuda"}))
        {'head.chunk_size': 16, 'head.negatives': 2048}
        >>> dict(card_defaults({"trunk.device": "cuda", "head.chunk_size": 32}))
        {}
    """
    head = HeadConfig()
    shares = not given.get("head.private_negatives", head.private_negatives)
    samples = given.get("head.objective", head.objective) == head.objective
    is_open = shares and samples and "head.chunk_size" not in given
    return CARD_CHUNKS if is_open and is_on_card(given.get("trunk.device", TrunkConfig().device)) else {}
