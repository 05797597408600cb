"""What a data set holds, in numbers."""

from collections import Counter
from typing import Any

import numpy as np

from hybrid.data.skipped import read_skipped
from hybrid.data.view import View

_NAMED_PER_REASON = 3


def stats(view: View) -> dict[str, Any]:
    """Counts of items, tags and what was left out, ready for a table or JSON."""
    counts = view.vocabulary.counts
    lengths = view.tags_of.lengths()
    result: dict[str, Any] = {
        "source": view.source,
        "items": len(view),
        "training items": len(view.train_items),
        "validation items": len(view.valid_items),
        "test items": len(view.test_items),
        **{f"extra test items, {name}": len(items) for name, items in view.extra_test.items()},
        "tags": len(counts),
        "tags on one training item": int(np.count_nonzero(counts == 1)),
        "tags per item": _spread(lengths),
        "unseen tags per test item": _mean(view.num_unseen_tags[view.test_items]),
        "training items per tag": _spread(counts),
        "most frequent tags": dict(zip(view.vocabulary.tags[:10], counts[:10].tolist(), strict=True)),
        "left out": view.dropped,
        **_skipped(view),
        "stored pictures": f"{view.images.size} x {view.images.size} x {view.images.channels}"
        + (", decoded" if view.images.is_decoded else ", decoded on the fly"),
        "folder": str(view.folder),
        "fingerprint": view.fingerprint,
        **view.facts,
    }
    if view.group is not None:
        result["items per design"] = dict(
            zip(view.group_names, np.bincount(view.group, minlength=len(view.group_names)).tolist(), strict=True)
        )
    return result


def _skipped(view: View) -> dict[str, Any]:
    """The first items that were left out for each reason, with what was found, and where all are listed."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reason, name, found in read_skipped(view.skipped_path):
        counts[reason] += 1
        if counts[reason] <= _NAMED_PER_REASON:
            first[name] = f"{reason}: {found}"
    return {"left out, the first": first, "left out, all": str(view.skipped_path)} if first else {}


def _spread(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    return {
        "mean": _mean(values),
        "median": float(np.median(values)),
        "least": int(values.min()),
        "most": int(values.max()),
    }


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 2) if len(values) else 0.0
