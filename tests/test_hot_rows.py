"""Rows that a chunk updates many times: private copies change nothing but who is in whose way."""

import dataclasses

import numpy as np
import pytest
from wide_cases import assert_equal, make_chunk, make_config, make_matrix, prepared_chunk, random_features, run_both

from workers.engine import WideEngine
from workers.errors import ChunkError
from workers.hot_rows import hot_rows, merge_hot, take_hot
from workers.hot_tags import HOT_UPDATES, MAX_HOT, NUM_BUCKETS, TABLE_SIZE, place_hot
from workers.jit import JIT_ENABLED, kernel
from workers.kernel_private import plan_chunk, run_private
from workers.prepared_chunk import Answer
from workers.rounding import rounding_noise
from workers.rows import pack
from workers.scratch import Scratch
from workers.sightings import SLOT_SIGHT, see
from workers.tags import Tags
from workers.vectors import values_from, zeros
from workers.widths import vector_widths

NUM_EXAMPLES = 3 * HOT_UPDATES
POSITIVES = [[1, 2 + b % 9] for b in range(NUM_EXAMPLES)]
"""Tag 1 is hot as a positive; among 60 tags most negatives are, too."""


def hot_chunk(**changes):
    return make_chunk(random_features(NUM_EXAMPLES), POSITIVES, POSITIVES, **{"row_lr": 0.02, **changes})


@kernel
def place_all(counts, suspects, table, ids_H, places, weights):
    tags, out = values_from(places, 0), values_from(weights, 0)
    _, num_hot = see(counts, 0, tags, 1, tags, out, 0, len(places), SLOT_SIGHT, suspects, 0, table, ids_H, 0)
    place_hot(counts, table, ids_H, num_hot, places)
    return num_hot


def places_of(slot_ids):
    places, ids_H = np.array(slot_ids, np.int32), np.full(MAX_HOT, -7, np.int32)
    counts, suspects = np.zeros(NUM_BUCKETS, np.uint32), np.empty(len(places), np.int32)
    num_hot = place_all(
        counts, suspects, np.full(TABLE_SIZE, -1, np.int32), ids_H, places, np.empty(len(places), np.float32)
    )
    return ids_H[:num_hot].tolist(), places.tolist()


@pytest.mark.parametrize("objective", ["negative-sampling", "sampled-softmax"])
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
@pytest.mark.parametrize("shrinks", [{}, {"weight_decay": 0.1, "max_norm": 4.0}])
def test_result_is_that_of_the_naive_twin(objective, optimizer, shrinks):
    """Which updates rows in place, one example after the other, and knows of no copies."""
    config = make_config(private_negatives=True, objective=objective, row_optimizer=optimizer, **shrinks)
    both = run_both(make_matrix(config), config, hot_chunk(), hot_chunk(step=4))
    assert_equal(both, tolerance=2e-5)


@pytest.mark.parametrize(
    ("shrinks", "are_copied"), [({}, True), ({"max_norm": 1.0}, False), ({"weight_decay": 0.1}, False)]
)
def test_rows_that_shrink_when_written_are_not_copied(shrinks, are_copied):
    """Each of several workers would take the same excess off: rows would be thrown to the other side, and further."""
    config, scratch, chunk = make_config(private_negatives=True, **shrinks), Scratch(), hot_chunk(num_negatives=4)
    matrix = make_matrix(config)
    tags = Tags(matrix.rows_NS, matrix.tag_state_N4, rounding_noise(matrix.dim))
    prepared = prepared_chunk(chunk, np.zeros(NUM_EXAMPLES * 4, np.int32), config)
    answer = Answer(np.empty(NUM_EXAMPLES, np.float32), np.empty_like(chunk.features_BD))
    planned = plan_chunk(tags, prepared, scratch, answer)
    assert (planned.num_hot > 0) == are_copied
    copies_HS = planned.memory.hot.rows_HS
    copies_HS[:] = 7
    run_private(tags, prepared, scratch, answer)  # which plans by itself
    assert (copies_HS != 7).any() == are_copied


@pytest.mark.parametrize("dim", [8, 24, 104])
@pytest.mark.parametrize("row_dtype", ["float32", "bfloat16"])
def test_what_others_add_meanwhile_stays(row_dtype, dim):
    """Another worker moves a row while this one works on its copy: both moves arrive, and no other row moves."""
    matrix = make_matrix(make_config(row_dtype=row_dtype), dim=dim)
    tags = Tags(matrix.rows_NS, matrix.tag_state_N4, rounding_noise(dim))
    hot, (wide, narrow) = hot_rows(tags, Scratch()), vector_widths(dim)

    @kernel
    def take(tags, hot):
        take_hot(tags, hot, 2)

    @kernel
    def merge(tags, hot):
        merge_hot(tags, hot, 2, dim // 2, (zeros(wide), zeros(narrow)), np.uint64(5))

    hot.ids_H[:2] = 7, 30
    before_ND, state_before = matrix.rows_ND.copy(), matrix.tag_state_N4.copy()
    take(tags, hot)
    hot.rows_HS[0] = pack(before_ND[7] + 2.0, row_dtype)
    hot.state_H4[0, :3] += 0.5
    matrix.rows_NS[7] = pack(before_ND[7] + 1.0, row_dtype)
    matrix.tag_state_N4[7, :3] += 0.25
    merge(tags, hot)
    near = {"rtol": 1e-6} if row_dtype == "float32" else {"atol": 0.05}
    np.testing.assert_allclose(matrix.rows_ND[7], before_ND[7] + 3.0, **near)
    np.testing.assert_allclose(matrix.tag_state_N4[7, :3], state_before[7, :3] + 0.75, rtol=1e-6)
    rest = np.arange(60) != 7
    np.testing.assert_array_equal(matrix.rows_ND[rest], before_ND[rest])
    np.testing.assert_array_equal(matrix.tag_state_N4[rest], state_before[rest])


def test_refused_chunk_keeps_what_earlier_examples_did_to_hot_rows():
    config = make_config(private_negatives=True)
    matrix = make_matrix(config)
    features_BD = random_features(NUM_EXAMPLES)
    features_BD[-1] = 3e38
    before = matrix.rows_ND.copy()
    with pytest.raises(ChunkError, match=f"example {NUM_EXAMPLES - 1}"):
        WideEngine(matrix, config).apply(dataclasses.replace(hot_chunk(), features_BD=features_BD))
    assert (matrix.rows_ND[1] != before[1]).any()
    assert np.isfinite(matrix.rows_ND).all()


def test_without_update_nothing_is_copied_or_written():
    config = make_config(private_negatives=True)
    matrix = make_matrix(config)
    rows, state = matrix.rows_ND.tobytes(), matrix.tag_state_N4.tobytes()
    assert_equal(run_both(matrix, config, hot_chunk(update=False)))
    assert (matrix.rows_ND.tobytes(), matrix.tag_state_N4.tobytes()) == (rows, state)


def test_few_updates_are_not_hot():
    ids = [5] * (HOT_UPDATES - 1) + [6] * HOT_UPDATES + [7]
    hot, places = places_of(ids)
    assert hot == [6]
    assert places == [5] * (HOT_UPDATES - 1) + [-1] * HOT_UPDATES + [7]


def test_tags_that_are_counted_together_keep_apart():
    """Their counts are added, so all may be copied; never one in the other's place."""
    ids = [9, 9 + NUM_BUCKETS, 9 + 2 * NUM_BUCKETS] * HOT_UPDATES
    hot, places = places_of(ids)
    assert sorted(hot) == [9, 9 + NUM_BUCKETS, 9 + 2 * NUM_BUCKETS]
    assert [hot[-1 - place] for place in places] == ids


@pytest.mark.parametrize("num_hot", [1, 16, 17, 40])
def test_few_hot_rows_and_many_find_their_copies(num_hot):
    """They are looked for in two ways."""
    hot_ids, others = np.arange(num_hot) * 7, np.arange(10_000, 10_300)
    ids = np.random.default_rng(num_hot).permutation(np.concatenate([hot_ids.repeat(HOT_UPDATES), others])).tolist()
    hot, places = places_of(ids)
    assert sorted(hot) == hot_ids.tolist()
    assert [hot[-1 - p] if p < 0 else p for p in places] == ids
    assert all(p < 0 for p, tag in zip(places, ids, strict=True) if tag in hot)


@pytest.mark.skipif(not JIT_ENABLED, reason="too many numbers for plain Python")
def test_more_hot_rows_than_there_is_room_for():
    ids = np.repeat(np.arange(2 * MAX_HOT), HOT_UPDATES).tolist()
    hot, places = places_of(ids)
    assert hot == list(range(MAX_HOT))
    assert [hot[-1 - p] if p < 0 else p for p in places] == ids
