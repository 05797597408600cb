"""What the engine refuses: every rule of a chunk by its own bad value, named by its field."""

import dataclasses

import numpy as np
import pytest
from wide_cases import B, D, make_chunk, make_config, make_matrix, random_features

from workers.engine import WideEngine
from workers.errors import ChunkError

CONFIG = make_config()
GOOD = make_chunk(random_features(), [[1, 2], [], [3], [59], [4]], [[1, 2], [], [3, 9], [59], [4]])
ITEMS = dataclasses.replace(GOOD, true_ids=None, true_offsets=None, items_B=np.arange(B))


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


i32 = np.int32
BAD = {
    "nan_features": (GOOD, "features_BD", changed(GOOD.features_BD, (2, 3), np.nan)),
    "infinite_features": (GOOD, "features_BD", changed(GOOD.features_BD, (2, 3), -np.inf)),
    "no_examples": (GOOD, "features_BD", np.zeros((0, D), np.float32)),
    "one_dimension": (GOOD, "features_BD", np.zeros(D, np.float32)),
    "wrong_dim": (GOOD, "features_BD", np.zeros((B, D + 4), np.float32)),
    "float64": (GOOD, "features_BD", GOOD.features_BD.astype(np.float64)),
    "a_list": (GOOD, "features_BD", GOOD.features_BD.tolist()),
    "pos_too_large": (GOOD, "pos_ids", changed(GOOD.pos_ids, 1, 60)),
    "pos_negative": (GOOD, "pos_ids", changed(GOOD.pos_ids, 1, -1)),
    "pos_int64": (GOOD, "pos_ids", GOOD.pos_ids.astype(np.int64)),
    "pos_too_few": (GOOD, "pos_offsets", GOOD.pos_offsets[:-1]),
    "pos_falls": (GOOD, "pos_offsets", changed(GOOD.pos_offsets, 1, 4)),
    "pos_start": (GOOD, "pos_offsets", changed(GOOD.pos_offsets, 0, 1)),
    "pos_end": (GOOD, "pos_offsets", changed(GOOD.pos_offsets, -1, 9)),
    "weights_short": (GOOD, "pos_weights", np.ones(3, np.float32)),
    "weights_nan": (GOOD, "pos_weights", np.array([1, 1, np.nan, 1, 1], np.float32)),
    "weights_negative": (GOOD, "pos_weights", np.array([1, 1, -1, 1, 1], np.float32)),
    "true_too_large": (GOOD, "true_ids", changed(GOOD.true_ids, -1, 60)),
    "true_unsorted": (GOOD, "true_ids", changed(GOOD.true_ids, 0, 5)),
    "true_twice": (GOOD, "true_ids", changed(GOOD.true_ids, 0, 2)),
    "true_offsets_end": (GOOD, "true_offsets", changed(GOOD.true_offsets, -1, 3)),
    "both_truths": (GOOD, "items_B", np.arange(B)),
    "no_truth": (ITEMS, "items_B", None),
    "item_too_large": (ITEMS, "items_B", changed(ITEMS.items_B, 0, 12)),
    "item_negative": (ITEMS, "items_B", changed(ITEMS.items_B, 0, -1)),
    "items_short": (ITEMS, "items_B", np.arange(B - 1)),
    "no_negatives": (GOOD, "num_negatives", 0),
    "too_many_negatives": (GOOD, "num_negatives", 1 << 40),
    "fractional_negatives": (GOOD, "num_negatives", 2.5),
    "negative_seed": (GOOD, "seed", -1),
    "step_beyond": (GOOD, "step", 2**63),
    "lr_nan": (GOOD, "row_lr", float("nan")),
    "lr_negative": (GOOD, "row_lr", -0.1),
    "lr_huge": (GOOD, "row_lr", 1e30),
}


@pytest.mark.parametrize(("chunk", "field", "value"), BAD.values(), ids=BAD.keys())
def test_bad_value_is_refused_by_name(chunk, field, value):
    engine = WideEngine(make_matrix(CONFIG), CONFIG)
    engine.check(chunk)
    bad = dataclasses.replace(chunk, **{field: value})
    with pytest.raises(ChunkError, match=field):
        engine.check(bad)
    with pytest.raises(ChunkError, match=field):
        engine.apply(bad)


def test_engine_goes_on_after_a_refusal():
    engine = WideEngine(make_matrix(CONFIG), CONFIG)
    with pytest.raises(ChunkError):
        engine.apply(dataclasses.replace(GOOD, num_negatives=0))
    assert np.isfinite(engine.apply(GOOD).loss_B).all()


@pytest.mark.parametrize("index", [-1, 256])
def test_worker_index_out_of_range(index):
    with pytest.raises(ValueError, match="worker_index"):
        WideEngine(make_matrix(CONFIG), CONFIG, worker_index=index)
