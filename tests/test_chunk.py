"""What the engine refuses: every rule of a chunk by its own bad value, named by its field."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wide_cases import B, D, looked_up, make_chunk, make_config, make_matrix, prepared_chunk, random_features

from workers.chunk import NO_I4
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
    "weights_empty": (GOOD, "pos_weights", np.zeros(0, np.float32)),
    "weights_nan": (GOOD, "pos_weights", np.array([1, 1, np.nan, 1, 1], np.float32)),
    "weights_negative": (GOOD, "pos_weights", np.array([1, 1, -1, 1, 1], np.float32)),
    "weights_huge": (GOOD, "pos_weights", np.array([1, 1, 2e6, 1, 1], np.float32)),
    "example_weights_short": (GOOD, "example_weights", np.ones(4, np.float32)),
    "example_weights_empty": (GOOD, "example_weights", np.zeros(0, np.float32)),
    "example_weights_of_each_positive": (GOOD, "example_weights", np.ones((B, 1), np.float32)),
    "example_weights_float64": (GOOD, "example_weights", np.ones(B)),
    "example_weights_infinite": (GOOD, "example_weights", np.array([1, 1, np.inf, 1, 1], np.float32)),
    "example_weights_negative": (GOOD, "example_weights", np.array([1, 1, -1, 1, 1], np.float32)),
    "example_weights_huge": (GOOD, "example_weights", np.array([1, 1, 2e6, 1, 1], np.float32)),
    "true_too_large": (GOOD, "true_ids", changed(GOOD.true_ids, -1, 60)),
    "true_unsorted": (GOOD, "true_ids", changed(GOOD.true_ids, 0, 5)),
    "true_twice": (GOOD, "true_ids", changed(GOOD.true_ids, 0, 2)),
    "true_offsets_end": (GOOD, "true_offsets", changed(GOOD.true_offsets, -1, 3)),
    "both_truths": (GOOD, "items_B", np.arange(B)),
    "truth_without_offsets": (GOOD, "true_offsets", None),
    "offsets_beside_items": (ITEMS, "true_offsets", np.zeros(0, np.int32)),
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
    "fractional_step": (GOOD, "step", 1.0),
    "seed_beyond_64_bits": (GOOD, "seed", 1 << 70),
    "lr_of_words": (GOOD, "row_lr", "0.1"),
    "lr_huge": (GOOD, "row_lr", 1e30),
}

ARRAYS = (
    "features_BD",
    "pos_ids",
    "pos_offsets",
    "pos_weights",
    "example_weights",
    "items_B",
    "true_ids",
    "true_offsets",
)
WEIGHED = {
    "pos_weights": np.arange(2, 7, dtype=np.float32),
    "example_weights": np.arange(3, 3 + B, dtype=np.float32),
}
EDGES = [-(2**31), -1, 0, 1, 2, 3, 4, 5, 11, 12, 58, 59, 60, 2**31 - 1]


@pytest.mark.parametrize(("chunk", "field", "value"), BAD.values(), ids=BAD.keys())
def test_bad_value_is_refused_by_name(chunk, field, value):
    engine = WideEngine(make_matrix(CONFIG), CONFIG)
    engine.check(chunk)
    bad = dataclasses.replace(chunk, **{field: value})
    with pytest.raises(ChunkError, match=field):
        engine.check(bad)
    with pytest.raises(ChunkError, match=field):
        engine.apply(bad)


@pytest.mark.parametrize("private", [False, True])
def test_a_chunk_of_no_examples_is_refused(private):
    """Though all its arrays fit each other."""
    config, none, start = make_config(private_negatives=private), np.zeros(0, i32), np.zeros(1, i32)
    arrays = {"pos_ids": none, "pos_offsets": start, "true_ids": none, "true_offsets": start}
    with pytest.raises(ChunkError, match="features_BD"):
        WideEngine(make_matrix(config), config).apply(
            dataclasses.replace(GOOD, features_BD=np.zeros((0, D), np.float32), **arrays)
        )


def test_engine_goes_on_after_a_refusal():
    engine = WideEngine(make_matrix(CONFIG), CONFIG)
    with pytest.raises(ChunkError):
        engine.apply(dataclasses.replace(GOOD, num_negatives=0))
    assert np.isfinite(engine.apply(GOOD).loss_B).all()


@pytest.mark.parametrize("index", [-1, 256])
def test_worker_index_out_of_range(index):
    with pytest.raises(ValueError, match="worker_index"):
        WideEngine(make_matrix(CONFIG), CONFIG, worker_index=index)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    apart = np.zeros((len(array), 2, *array.shape[1:]), array.dtype)
    apart[:, 0] = array
    return apart[:, 0]


def unaligned(array):
    memory = bytearray(b"x" + array.tobytes())
    return np.frombuffer(memory, array.dtype, offset=1).reshape(array.shape)


@pytest.mark.parametrize("laid_out_otherwise", [read_only, strided, unaligned])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_compiled_code_cannot_take_as_they_are_give_the_same_numbers(name, laid_out_otherwise):
    given = dataclasses.replace(ITEMS if name == "items_B" else GOOD, **WEIGHED)
    expected = WideEngine(make_matrix(CONFIG), CONFIG).apply(given)
    other = dataclasses.replace(given, **{name: laid_out_otherwise(getattr(given, name))})
    with pytest.raises((TypeError, ValueError)):
        WideEngine(make_matrix(CONFIG), CONFIG)._admit(other)
    got = WideEngine(make_matrix(CONFIG), CONFIG).apply(other)
    np.testing.assert_array_equal(got.loss_B, expected.loss_B)
    np.testing.assert_array_equal(got.feature_grad_BD, expected.feature_grad_BD)


def is_admitted(engine, chunk):
    """What the compiled pass alone says of a chunk."""
    try:
        engine._admit(chunk)
    except ValueError:
        return False
    return True


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_compiled_pass_and_single_rules_agree(data):
    engine = WideEngine(make_matrix(CONFIG), CONFIG)
    chunk = data.draw(st.sampled_from([GOOD, ITEMS, dataclasses.replace(GOOD, **WEIGHED)]))
    name = data.draw(st.sampled_from([n for n in ARRAYS[1:] if getattr(chunk, n) is not None]))
    array = getattr(chunk, name).copy()
    values = [np.nan, np.inf, -np.inf, -0.0, -1e-45, 3e38, 1.0] if array.dtype == np.float32 else EDGES
    for _ in range(data.draw(st.integers(1, 2))):
        array.flat[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from(values))
    changed_chunk = dataclasses.replace(chunk, **{name: array})
    try:
        engine.check(changed_chunk)
        keeps_rules = True
    except ChunkError:
        keeps_rules = False
    assert is_admitted(engine, changed_chunk) == keeps_rules


def test_weights_are_one_over_the_number_of_positives():
    lengths = np.arange(200)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    pos_weights = np.random.default_rng(0).random(offsets[-1]).astype(np.float32)
    zeros, none = np.zeros(offsets[-1], np.int32), np.zeros(0, np.int32)
    chunk = dataclasses.replace(
        GOOD,
        features_BD=random_features(200),
        pos_ids=zeros,
        pos_offsets=offsets,
        pos_weights=pos_weights,
        true_ids=none,
        true_offsets=np.zeros(201, np.int32),
    )
    prepared = prepared_chunk(chunk, none, CONFIG)
    each = np.float32(1) / np.maximum(lengths, 1).astype(np.float32)
    np.testing.assert_array_equal(looked_up(prepared).weights_A, np.repeat(each, lengths) * pos_weights)


def test_truth_of_items_is_where_the_matrix_has_it():
    matrix = make_matrix(CONFIG)
    prepared = prepared_chunk(ITEMS, NO_I4, CONFIG, matrix.item_offsets, matrix.item_tags)
    lookup = looked_up(prepared)
    np.testing.assert_array_equal(lookup.starts_B, matrix.item_offsets[ITEMS.items_B])
    np.testing.assert_array_equal(lookup.stops_B, matrix.item_offsets[ITEMS.items_B + 1])
