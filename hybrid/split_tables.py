"""The tables of measures of a model on the held-out splits of a data set, with the index of their pictures."""

# Shapes: I items, N tags, D dim.

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybrid.data.cache import ProgressCallback
from hybrid.data.view import View
from hybrid.evaluation import evaluate
from hybrid.features import FeatureMaker
from hybrid.image_index import ImageIndex
from hybrid.ranking import Ranker, Rows, WatchedRows
from hybrid.temperature import NEUTRAL, choose_temperature
from hybrid.truths import select_truths
from launch.config import MAP_BOUNDS


def measure_splits(
    features: FeatureMaker,
    rows: Rows,
    score_bias_N: NDArray[np.float32],
    view: View,
    *,
    score: str,
    step: int,
    map_bounds: tuple[int, int] = MAP_BOUNDS,
    progress: ProgressCallback = lambda text, done, total: None,
) -> tuple[dict[str, dict[str, Any]], ImageIndex]:
    """Measure the validation items, the test items and further test sets; splits without readable items are left out.

    The validation items, which come first, choose the temperature for all, if tags are ranked by probability.

    Args:
        features: makes them.
        rows: the tag matrix.
        score_bias_N: what ranks tags, see `evaluate`.
        view: the data set.
        score: what `score_bias_N` makes of scores, noted in the tables.
        step: of the training that trunk and rows come from, noted in the index.
        map_bounds: see `evaluate`.
        progress: told what is going on, how much is done, of how much.

    Returns:
        What `evaluate` returns, and `score`, by name of the split, and the index of all test pictures.
    """
    counts_N, num_train_items = view.vocabulary.counts, len(view.train_items)
    temperature = NEUTRAL
    tables: dict[str, dict[str, Any]] = {}
    tested: list[tuple[NDArray, NDArray]] = [(np.empty(0, np.int64), np.empty((0, rows.dim), np.float32))]
    for name, items, features_ID in _readable_splits(view, features, rows.dim, progress):
        about = f"ranking {rows.num_tags:,} tags for {len(items):,} {name} pictures"
        watched = WatchedRows(rows, partial(progress, about))
        truths = select_truths(view.item_offsets, view.item_tags, view.num_unseen_tags, items)
        if name == "valid" and score == "probability":  # the bare score is ranked as it is, here and by `annotate`
            temperature = choose_temperature(Ranker(watched, score_bias_N, features.device), features_ID, truths)
        tables[name] = evaluate(
            features_ID,
            watched,
            score_bias_N,
            truths,
            counts_N,
            num_train_items,
            features.device,
            map_bounds,
            temperature,
        ) | {"score": score, "step": step}
        if name != "valid":
            tested.append((items, features_ID))
    items_I, features_ID = (np.concatenate(parts) for parts in zip(*tested, strict=True))
    return tables, ImageIndex(items_I, features_ID, view.content, step)


def index_pictures(
    features: FeatureMaker, view: View, dim: int, step: int, progress: Callable[[int, int], None]
) -> ImageIndex:
    """The index that `measure_splits` makes, without its tables.

    Args:
        features: makes them.
        view: the data set.
        dim: D, of the features.
        step: of the training that the trunk comes from, noted in the index.
        progress: told how many pictures are done, of how many.
    """
    items_I, features_ID = features.of_items(view, tested_items(view), dim, progress)
    return ImageIndex(items_I, features_ID, view.content, step)


def tested_items(view: View) -> NDArray[np.int64]:
    """The items of the test and of further test sets, in the order of the index."""
    return np.concatenate([np.asarray(items, np.int64) for items in (view.test_items, *view.extra_test.values())])


def _readable_splits(
    view: View, features: FeatureMaker, dim: int, progress: ProgressCallback
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float32]]]:
    """Name, items and features of each held-out split, as far as its pictures can be read; validation comes first."""
    for name, wanted in {"valid": view.valid_items, "test": view.test_items, **view.extra_test}.items():
        items, features_ID = features.of_items(view, np.asarray(wanted), dim, partial(progress, f"{name} pictures"))
        if len(items):
            yield name, items, features_ID
