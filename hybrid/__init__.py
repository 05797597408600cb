"""Train networks whose last layer has millions of rows: the trunk on the GPU, the tag matrix on the CPU."""

import importlib
from typing import TYPE_CHECKING, Any

from hybrid.neighbouring_packages import check_workers

if TYPE_CHECKING:
    from hybrid.head import WideHead
    from hybrid.loaded import LoadedRun, load
    from hybrid.pipeline import Pipeline
    from hybrid.tag_batch import ItemNumbers, TagBatch
    from hybrid.trainer import Trainer

__all__ = ["ItemNumbers", "LoadedRun", "Pipeline", "TagBatch", "Trainer", "WideHead", "load"]

_HOMES = {
    "ItemNumbers": "hybrid.tag_batch",
    "LoadedRun": "hybrid.loaded",
    "Pipeline": "hybrid.pipeline",
    "TagBatch": "hybrid.tag_batch",
    "Trainer": "hybrid.trainer",
    "WideHead": "hybrid.head",
    "load": "hybrid.loaded",
}


check_workers()  # before a module of that name is loaded, which fails in words that nobody understands


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: data preparation then starts without loading torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
