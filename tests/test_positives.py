"""Draws of positives: all of few, a uniform choice of many, reproducible."""

import itertools

import naive
import numpy as np
import pytest
from goodness_of_fit import p_value
from wide_cases import ragged

from workers.jit import JIT_ENABLED
from workers.positives import draw_positives

TRUTH = [[3, 5, 8], [], list(range(10, 40)), [1], [2, 4]]
IDS, OFFSETS = ragged(TRUTH)
OFFSETS = OFFSETS.astype(np.int64)


def draw(items, num_positives, key=5):
    pos_ids, pos_offsets = draw_positives(OFFSETS, IDS, np.array(items), num_positives, np.uint64(key))
    assert pos_ids.dtype == np.int32
    assert pos_offsets.dtype == np.int32
    assert pos_offsets[0] == 0
    assert pos_offsets[-1] == len(pos_ids)
    return [pos_ids[a:b].tolist() for a, b in itertools.pairwise(pos_offsets)]


def test_few_tags_are_all_taken():
    assert draw([0, 1, 3, 4], 3) == [[3, 5, 8], [], [1], [2, 4]]


def test_many_tags_are_drawn_without_replacement():
    (drawn,) = draw([2], 12)
    assert len(set(drawn)) == 12
    assert set(drawn) <= set(TRUTH[2])


def test_draws_agree_with_the_naive_twin():
    items = [2, 0, 2, 1, 4]
    assert draw(items, 2, key=77) == naive.draw_positives([TRUTH[i] for i in items], 2, 77)


def test_the_same_item_twice_draws_twice():
    first, second = draw([2, 2], 12)
    assert first != second


def test_keys_decide():
    assert draw([2], 12, key=1) == draw([2], 12, key=1)
    assert draw([2], 12, key=1) != draw([2], 12, key=2)


def test_every_tag_is_as_likely():
    repeats = 20_000 if JIT_ENABLED else 1_000
    drawn = np.concatenate(draw([2] * repeats, 3))
    assert p_value(np.bincount(drawn - 10, minlength=30)) > 1e-4
    first = np.array([d[0] for d in draw([2] * repeats, 3, key=8)])
    assert p_value(np.bincount(first - 10, minlength=30)) > 1e-4


def test_arrays_mapped_for_reading(tmp_path):
    np.save(tmp_path / "tags.npy", IDS)
    mapped = np.load(tmp_path / "tags.npy", mmap_mode="r")
    pos_ids, _ = draw_positives(OFFSETS, mapped, np.array([2, 0]), 4, np.uint64(5))
    assert pos_ids.tolist() == [t for tags in draw([2, 0], 4) for t in tags]


def test_no_items():
    assert draw(np.zeros(0, np.int64), 4) == []


@pytest.mark.parametrize("item", [-1, 5])
def test_items_out_of_range(item):
    with pytest.raises(IndexError, match="has 5"):
        draw([0, item], 3)
