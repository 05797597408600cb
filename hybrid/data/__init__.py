"""Pictures with tags, prepared once and read fast."""

import importlib
from typing import TYPE_CHECKING, Any

from hybrid.data.prepare import prepare
from hybrid.data.stats import stats
from hybrid.data.view import View, write_head_arrays
from hybrid.data.vocabulary import TagVocabulary, normalise_tag

if TYPE_CHECKING:
    from hybrid.data.loader import batches

__all__ = ["TagVocabulary", "View", "batches", "normalise_tag", "prepare", "stats", "write_head_arrays"]


def __getattr__(name: str) -> Any:
    """Import `batches` when it is first used: it alone needs torch, and data are prepared without."""
    if name == "batches":
        return importlib.import_module("hybrid.data.loader").batches
    raise AttributeError(f"module 'hybrid.data' has no attribute {name!r}")
