"""The plan of a chunk against what it says in plain Python: which slots an example has, and what they weigh."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from wide_cases import looked_up, make_chunk, make_config, prepared_chunk, random_features

from workers.config import OBJECTIVES
from workers.hot_tags import HOT_UPDATES, MAX_HOT, NUM_BUCKETS
from workers.jit import JIT_ENABLED
from workers.matching import TAGS_AT_ONCE
from workers.private_plan import PlanSize, make_plan, plan_memory
from workers.scratch import Scratch

K = 6
FEW_TAGS = [3, 5, 8, 9, 3 + NUM_BUCKETS, 5 + NUM_BUCKETS, 3 + 2 * NUM_BUCKETS, 77, 90, 91]
"""Some are counted together without being the same."""
MANY_TAGS = range(400)


def planned(neg_ids, positives, truth, *, objective=OBJECTIVES[0], pos_weights=None, update=True):
    config = make_config(private_negatives=True, objective=objective)
    features_BD, num_drawn = random_features(len(positives)), len(neg_ids[0])
    chunk = make_chunk(features_BD, positives, truth, num_negatives=num_drawn, update=update)
    chunk = dataclasses.replace(chunk, pos_weights=pos_weights)
    prepared = prepared_chunk(chunk, np.array(neg_ids, np.int32).ravel(), config)
    ids_H = np.empty(MAX_HOT, np.int32)
    size = PlanSize(len(features_BD), len(prepared.pos_ids_A), len(prepared.neg_ids), num_drawn)
    memory = plan_memory(size, Scratch())
    num_hot, hits = make_plan(prepared, memory, ids_H)
    return prepared, memory.plan, ids_H[:num_hot], hits


def tags_of(plan, ids_H, b):
    places = plan.places[plan.offsets_B2[b] : plan.offsets_B2[b + 1]]
    return [int(place) if place >= 0 else int(ids_H[-1 - place]) for place in places]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(
    ("tags", "num_drawn", "most_positives"), [(FEW_TAGS, K, 3), (MANY_TAGS, 16, 20), (MANY_TAGS, 37, 3)]
)
def test_random_examples(objective, seed, tags, num_drawn, most_positives):
    rng = np.random.default_rng(seed)
    B = 40
    neg_ids = rng.choice(tags, (B, num_drawn))
    positives = [rng.choice(tags, rng.integers(0, most_positives + 1)).tolist() for _ in range(B)]
    truth = [sorted({*map(int, p), *map(int, rng.choice(tags, rng.integers(0, 3)))}) for p in positives]
    weights = rng.choice(np.float32([0, 0.5, 2]), sum(map(len, positives)), p=[0.05, 0.45, 0.5])
    assert_planned(neg_ids, positives, truth, objective=objective, pos_weights=weights)


@pytest.mark.skipif(not JIT_ENABLED, reason="too many numbers for plain Python")
@pytest.mark.parametrize("num_true", [0, 15, 16, 17, 700, 4096, 4097, 6000])
@pytest.mark.parametrize("num_drawn", [15, 16, 17, 400, 600])
def test_examples_of_every_size(num_true, num_drawn):
    rng = np.random.default_rng(num_true)
    neg_ids = rng.integers(0, 100_000, (3, num_drawn))
    truth = [sorted(rng.choice(100_000, num_true, replace=False).tolist()) for _ in range(3)]
    for b in range(min(3, num_true)):  # the first of them, or the last, is drawn
        neg_ids[b, -b] = truth[b][-b]
    assert_planned(neg_ids, [ids[:20] for ids in truth], truth)


def assert_planned(neg_ids, positives, truth, *, objective=OBJECTIVES[0], pos_weights=None):
    """Everything a plan says of these examples is what plain Python finds."""
    prepared, plan, ids_H, hits = planned(neg_ids, positives, truth, objective=objective, pos_weights=pos_weights)
    (B, num_drawn), expected_hits, at = neg_ids.shape, 0, 0
    for b in range(B):
        drawn = [int(tag) for tag in neg_ids[b] if tag not in truth[b]]
        expected_hits += num_drawn - len(drawn)
        weights_P = looked_up(prepared).weights_A[at : at + len(positives[b])]
        pos_slots = plan.pos_slots_A[at : at + len(positives[b])]
        at += len(positives[b])
        tags, start = tags_of(plan, ids_H, b), plan.offsets_B2[b]
        assert len(set(tags)) == len(tags)
        is_simple = objective == OBJECTIVES[0] and (weights_P > 0).all() and not {*drawn} & {*positives[b]}
        assert plan.is_simple_B[b] == (is_simple and len(drawn) + len(positives[b]) <= 512)
        if plan.is_simple_B[b]:
            expected = Counter(
                {tag: prepared.negative_weight / num_drawn * often for tag, often in Counter(drawn).items()}
            )
            for tag, weight in zip(positives[b], weights_P, strict=True):
                expected[tag] -= weight
            assert tags == list(expected) and plan.num_negatives_B[b] == len({*drawn})
            np.testing.assert_allclose(plan.weights[start : start + len(tags)], [*expected.values()], rtol=1e-6)
        else:
            np.testing.assert_array_equal(plan.pos_weights_A[at - len(positives[b]) : at], weights_P)
            n = plan.num_negatives_B[b]
            multiplicity = plan.multiplicity[start : start + n]
            drawn_often = {tag: m for tag, m in zip(tags[:n], multiplicity.tolist(), strict=True) if m}
            assert drawn_often == Counter(drawn)
            assert [tags[slot] for slot in pos_slots] == positives[b]
    assert hits == expected_hits
    assert plan.offsets_B2[B + 1] == plan.offsets_B2[B]


def test_tags_that_are_counted_together_are_no_repeats():
    neg_ids = [[3, 5, 3 + NUM_BUCKETS, 5 + NUM_BUCKETS, 8, 3 + 2 * NUM_BUCKETS]]
    _, plan, _, _ = planned(neg_ids, [[9, 9 + NUM_BUCKETS]], [[9, 9 + NUM_BUCKETS]])
    assert plan.is_simple_B.tolist() == [True]


def test_rows_are_hot_only_where_they_are_written():
    positives = [[7, 20 + b] for b in range(HOT_UPDATES)]
    neg_ids = [[1000 + 10 * b + k for k in range(K)] for b in range(HOT_UPDATES)]
    _, plan, ids_H, _ = planned(neg_ids, positives, positives)
    assert ids_H.tolist() == [7] and (plan.places[: plan.offsets_B2[-1]] == -1).sum() == HOT_UPDATES
    _, plan, ids_H, _ = planned(neg_ids, positives, positives, update=False)
    assert len(ids_H) == 0 and (plan.places[: plan.offsets_B2[-1]] >= 0).all()


@pytest.mark.parametrize("num_positives", [0, 1, 2, 18, 50, 498])
def test_blocks_may_be_looked_at_beyond_where_an_example_after_the_last_would_end(num_positives):
    _, plan, _, _ = planned([range(100, 100 + K)], [list(range(200, 200 + num_positives))], [[]])
    assert len(plan.places) >= plan.offsets_B2[-1] + K + num_positives + TAGS_AT_ONCE


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("num_drawn", [509, 510, 511])
@pytest.mark.parametrize("also_drawn", [False, True])
@pytest.mark.parametrize("weight", [0, 1])
def test_examples_around_the_largest_that_is_simple(objective, num_drawn, also_drawn, weight):
    neg_ids = np.arange(1000, 1000 + num_drawn)[None].repeat(2, 0)
    neg_ids[1, 7], weights = 1000, np.float32([1, 1, 1, weight])  # the second example has a repeat
    positives = [[3, 4], [3, 1300 if also_drawn else 4]]
    assert_planned(neg_ids, positives, [[], [3]], objective=objective, pos_weights=weights)
