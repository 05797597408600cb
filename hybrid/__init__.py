"""Train networks whose last layer has millions of rows: the trunk on the GPU, the tag matrix on the CPU."""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def _check_neighbours() -> None:
    """Raise ImportError if Python finds another `workers` or `launch` than those beside this package."""
    home = Path(__file__).resolve().parent.parent
    for name in ("workers", "launch"):
        spec = importlib.util.find_spec(name)
        found = spec.origin if spec is not None else None
        if found is None or Path(found).resolve().parent != home / name:
            raise ImportError(
                f"hybrid needs the package {name!r} that was installed with it, {home / name}, but Python finds "
                f"{found or 'none'}: rename that, or take its folder from the front of sys.path."
            )


_check_neighbours()


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: data preparation then starts without loading torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
