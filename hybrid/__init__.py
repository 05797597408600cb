"""Train networks whose last layer has millions of rows: the trunk on the GPU, the tag matrix on the CPU."""

import importlib
from typing import TYPE_CHECKING, Any

from hybrid.neighbouring_packages import check_neighbour

if TYPE_CHECKING:
    from hybrid.head import WideHead
    from hybrid.loaded import LoadedRun, load
    from hybrid.pipeline import Pipeline
    from hybrid.tag_batch import ItemNumbers, TagBatch
    from hybrid.trainer import Trainer
    from launch.config import TrainConfig
    from workers.config import HeadConfig

__all__ = [
    "HeadConfig",
    "ItemNumbers",
    "LoadedRun",
    "Pipeline",
    "TagBatch",
    "TrainConfig",
    "Trainer",
    "WideHead",
    "load",
]

_HOMES = {
    "HeadConfig": "workers.config",
    "ItemNumbers": "hybrid.tag_batch",
    "LoadedRun": "hybrid.loaded",
    "Pipeline": "hybrid.pipeline",
    "TagBatch": "hybrid.tag_batch",
    "TrainConfig": "launch.config",
    "Trainer": "hybrid.trainer",
    "WideHead": "hybrid.head",
    "load": "hybrid.loaded",
}
_NEED_LAUNCH = frozenset({"LoadedRun", "TrainConfig", "Trainer", "load"})
"""A WideHead does without: who has no use for the others may have a `launch` of their own."""


check_neighbour("workers")


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: data preparation then starts without loading torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
    if name in _NEED_LAUNCH:
        check_neighbour("launch")
    return getattr(importlib.import_module(_HOMES[name]), name)
