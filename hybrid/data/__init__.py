"""Pictures with tags, prepared once and read fast."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.data.loader import batches
    from hybrid.data.prepare import prepare
    from hybrid.data.stats import stats
    from hybrid.data.view import View, write_head_arrays
    from hybrid.data.vocabulary import TagVocabulary, normalise_tag

__all__ = ["TagVocabulary", "View", "batches", "normalise_tag", "prepare", "stats", "write_head_arrays"]

_HOMES = {
    "TagVocabulary": "hybrid.data.vocabulary",
    "View": "hybrid.data.view",
    "batches": "hybrid.data.loader",
    "normalise_tag": "hybrid.data.vocabulary",
    "prepare": "hybrid.data.prepare",
    "stats": "hybrid.data.stats",
    "write_head_arrays": "hybrid.data.view",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: only `batches` needs torch, and preparing is quicker without it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hybrid.data' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
