"""The plan of a chunk with shared negatives against what it says in plain Python."""

from collections import Counter

import numpy as np
import pytest
from wide_cases import looked_up, make_chunk, make_config, prepared_chunk, random_features, written_down

from workers.scratch import Scratch
from workers.shared_plan import cut_plan, fill_plan, shared_plan

CONFIG = make_config()


def fill(prepared):
    """The plan in memory as other chunks leave it, full of numbers that mean nothing."""
    (B, _), A, lookup = prepared.features_BD.shape, len(prepared.pos_ids_A), looked_up(prepared)
    memory = shared_plan(B + 3, len(prepared.neg_ids), A + 5, Scratch())
    for array in memory:
        array.fill(1)
    K, S, L = fill_plan(memory, prepared.neg_ids, prepared.pos_ids_A, prepared.pos_offsets_B1, lookup.weights_A)
    return written_down(cut_plan)(memory, B, A, K, S, L)


def planned(neg_ids, positives):
    chunk = make_chunk(random_features(len(positives)), positives, positives, num_negatives=len(neg_ids))
    prepared = prepared_chunk(chunk, np.array(neg_ids, np.int32), CONFIG)
    return prepared, fill(prepared)


@pytest.mark.parametrize("seed", range(30))
def test_random_chunks(seed):
    rng = np.random.default_rng(seed)
    num_tags = rng.integers(2, 60)
    neg_ids = rng.integers(0, num_tags, rng.integers(1, 30)).tolist()
    positives = [sorted(rng.choice(num_tags, rng.integers(0, min(num_tags, 6))).tolist()) for _ in range(12)]
    prepared, plan = planned(neg_ids, positives)
    drawn, wanted = Counter(neg_ids), Counter(tag for tags in positives for tag in tags)
    ids, K = plan.ids_S.tolist(), len(plan.multiplicity_K)
    assert dict(zip(ids[:K], plan.multiplicity_K.tolist(), strict=True)) == drawn
    assert sorted(ids[K:]) == sorted(tag for tag, count in wanted.items() if count > 1 and tag not in drawn)
    for b, tags in enumerate(positives):
        start, stop = prepared.pos_offsets_B1[b : b + 2]
        assert sorted(plan.pos_ids_A[start:stop].tolist()) == tags
        assert np.all(plan.pos_weights_A[start:stop] == np.float32(1) / np.float32(max(len(tags), 1)))
        for i, p in enumerate(range(start, stop)):
            tag = plan.pos_ids_A[p]
            is_lone = wanted[tag] == 1 and tag not in drawn
            assert is_lone == (i < plan.num_lone_B[b]) == (plan.pos_slots_A[p] < 0)
            assert is_lone or ids[plan.pos_slots_A[p]] == tag
    assert plan.lone_ids_L.tolist() == plan.pos_ids_A[plan.pos_slots_A < 0].tolist()


def test_weights_go_where_their_positives_go():
    neg_ids, positives = [4], [[4, 9], [7, 5, 7, 8]]
    prepared, _ = planned(neg_ids, positives)
    chosen = np.arange(1, 7, dtype=np.float32)
    lengths = np.float32([2, 2, 4, 4, 4, 4])
    plan = fill(prepared._replace(pos_factors_A=chosen * lengths))
    pairs = list(zip(plan.pos_ids_A.tolist(), plan.pos_weights_A.tolist(), strict=True))
    assert pairs[:2] == [(9, 2.0), (4, 1.0)]
    assert sorted(pairs[2:4]) == [(5, 4.0), (8, 6.0)] and sorted(pairs[4:]) == [(7, 3.0), (7, 5.0)]


def test_a_chunk_without_positives():
    _, plan = planned([3, 3, 4], [[], []])
    assert plan.ids_S.tolist() == [3, 4] and plan.num_lone_B.tolist() == [0, 0] and len(plan.lone_ids_L) == 0
