"""What the table of sightings says against a plain list: it may suspect too much, and never too little."""

import numpy as np
import pytest

from workers.hot_tags import HOT_UPDATES, MAX_HOT, NUM_BUCKETS, TABLE_SIZE, count_of
from workers.jit import kernel
from workers.sightings import ANY_SIGHT, SLOT_SIGHT, see, see_true
from workers.vectors import values_from

NUM_TAGS = 3 * NUM_BUCKETS
"""Some share their low bits."""
DRAWN, POSITIVE = np.float32(0.25), np.float32(-1)
"""Weights."""


@kernel
def look_at(buckets, b, true_tags, drawn, positives, slots, suspects, hot_table, hot_ids):
    """An example's tags in the order in which a plan looks at them; returns (suspects, those among draws, hot)."""
    see_true(buckets, b, true_tags, 0, len(true_tags))
    K, S, (tags, weights) = len(drawn), len(drawn) + len(positives), slots
    to, ids, more_ids = (
        (values_from(tags, 0), values_from(weights, 0)),
        values_from(drawn, 0),
        values_from(positives, 0),
    )
    n, hot = see(buckets, b, ids, DRAWN, *to, 0, K, ANY_SIGHT, suspects, 0, hot_table, hot_ids, 0)
    m, hot = see(buckets, b, more_ids, POSITIVE, *to, K, S, SLOT_SIGHT, suspects, n, hot_table, hot_ids, hot)
    return m, n, hot


def buckets_of(tags):
    return [int(tag) % NUM_BUCKETS for tag in tags]


@pytest.mark.parametrize("first_example", [0, 1, 2045])
def test_every_tag_that_came_before_in_its_example_is_suspect(first_example):
    rng, buckets, hot_table = np.random.default_rng(1), np.zeros(NUM_BUCKETS, np.uint32), np.empty(TABLE_SIZE, np.int32)
    suspects, hot_ids = np.empty(200, np.int32), np.empty(MAX_HOT, np.int32)
    slots_of = np.zeros(110, np.int32), np.zeros(110, np.float32)
    for b in range(first_example, first_example + 6):
        true_tags, drawn, positives = (rng.choice(NUM_TAGS, n).astype(np.int32) for n in (40, 90, 20))
        drawn[7], drawn[50], positives[5] = true_tags[3], drawn[8], drawn[30]
        hot_table[:] = -1
        m, n, _ = look_at(buckets, b, true_tags, drawn, positives, slots_of, suspects, hot_table, hot_ids)
        assert slots_of[0].tolist() == [*drawn, *positives]
        assert slots_of[1].tolist() == [DRAWN] * 90 + [POSITIVE] * 20
        seen, slots, expected = set(buckets_of(true_tags)), set(), []
        for i, bucket in enumerate(buckets_of(drawn)):
            expected += [i] if bucket in seen | slots else []
            slots.add(bucket)
        assert {7, 50} <= {*expected}
        if b % 2048 != 2047:  # whose mark is that of buckets that none has looked at
            assert suspects[:n].tolist() == expected
        assert {*expected} <= {*suspects[:n].tolist()}
        expected = []
        for i, bucket in enumerate(buckets_of(positives)):
            expected += [90 + i] if bucket in slots else []
            slots.add(bucket)
        assert 95 in expected and {*expected} <= {*suspects[n:m].tolist()}


def test_updates_are_counted_and_true_tags_are_none():
    buckets, hot_table = np.zeros(NUM_BUCKETS, np.uint32), np.full(TABLE_SIZE, -1, np.int32)
    suspects, hot_ids = np.empty(HOT_UPDATES, np.int32), np.empty(MAX_HOT, np.int32)
    slots = np.zeros(HOT_UPDATES, np.int32), np.zeros(HOT_UPDATES, np.float32)
    none, fives, true_tags = np.zeros(0, np.int32), np.full(HOT_UPDATES, 5, np.int32), np.array([5, 9], np.int32)
    assert look_at(buckets, 3, true_tags, fives[1:], none, slots, suspects, hot_table, hot_ids)[2] == 0
    assert [count_of(int(buckets[tag])) for tag in (5, 9)] == [HOT_UPDATES - 1, 0]
    assert look_at(buckets, 4, true_tags, fives[:1], none, slots, suspects, hot_table, hot_ids)[2] == 1
    assert hot_ids[0] == 5
