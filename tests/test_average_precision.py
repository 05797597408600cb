"""Average precision with ties, against the average over every order."""

import itertools

import numpy as np
import pytest
import torch

from hybrid.average_precision import COUNTING_LIMIT, average_precision_Q, chance_Q, tags_to_rank
from hybrid.truths import Truths
from workers.errors import ConfigError


def precision_of_order(is_true_in_order):
    """Plain average precision of one order of the images."""
    hits, total = 0, 0.0
    for place, is_true in enumerate(is_true_in_order, start=1):
        hits += is_true
        total += is_true * hits / place
    return total / sum(is_true_in_order)


def over_all_orders(scores, is_true):
    """Average over all permutations that sort the scores from high to low."""
    orders = [
        [is_true[i] for i in order]
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return np.mean([precision_of_order(order) for order in orders])


def transposed(is_true_QI):
    """Truths of images from the true images of tags."""
    lists = [np.flatnonzero(column) for column in np.array(is_true_QI).T]
    offsets = np.cumsum([0] + [len(tags) for tags in lists])
    return Truths(offsets, np.concatenate(lists).astype(np.int32), np.zeros(len(lists), np.int64))


def scored(scores_QI, is_true_QI, bounds=(1, 10_000), block=2):
    """Features are unit vectors, so that rows are the scores themselves."""
    scores_QI = np.array(scores_QI, np.float32)
    wanted = tags_to_rank(transposed(is_true_QI), np.ones(len(scores_QI)), bounds)
    rows = scores_QI[wanted.tags_Q]
    blocks = (rows[at : at + block] for at in range(0, len(rows), block))
    return average_precision_Q(np.eye(scores_QI.shape[1], dtype=np.float32), blocks, wanted)


def test_autocast_around_it_rounds_nothing():
    """In bfloat16 both images of the second tag would tie."""
    scores, is_true = [[3.0, 2.0], [1.001, 1.0]], [[1, 0], [0, 1]]
    with torch.autocast("cpu", torch.bfloat16):
        assert scored(scores, is_true).tolist() == [1.0, 0.5]


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_average_over_all_permutations(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (4, 7))
    is_true = rng.random((4, 7)) < 0.4
    is_true[:, 0] = True
    expected = [over_all_orders(s, t) for s, t in zip(scores, is_true, strict=True)]
    assert scored(scores, is_true) == pytest.approx(expected, abs=1e-12)


def test_no_ties_by_hand():
    assert scored([[4, 3, 2, 1]], [[1, 0, 1, 0]]) == pytest.approx([(1 + 2 / 3) / 2])


def test_chance_is_the_average_over_all_permutations():
    is_true = [[1, 0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1]]
    wanted = tags_to_rank(transposed(is_true), np.ones(3), (1, 7))
    expected = [over_all_orders([0] * 7, t) for t in is_true]
    assert chance_Q(wanted, 7) == pytest.approx(expected, abs=1e-12)
    assert scored([[0.5] * 7] * 3, is_true) == pytest.approx(expected, abs=1e-12)


def test_sorting_and_counting_agree():
    """A tag above the limit, doubled images and all, gives what plain averaging of its order gives."""
    rng = np.random.default_rng(3)
    num_images = 3 * COUNTING_LIMIT
    scores = rng.permutation(num_images)
    is_true = np.zeros(num_images, bool)
    is_true[rng.choice(num_images, COUNTING_LIMIT + 1, replace=False)] = True
    expected = precision_of_order(is_true[np.argsort(-scores)])
    assert scored([scores], [is_true]) == pytest.approx([expected], abs=1e-12)
    tied = rng.integers(0, 9, num_images)
    group_order = [over_many_orders(tied, is_true, rng)]
    assert scored([tied], [is_true]) == pytest.approx(group_order, abs=0.005)


def over_many_orders(scores, is_true, rng):
    shuffled = (rng.permutation(len(scores)) for _ in range(2000))
    return np.mean([precision_of_order(is_true[p[np.argsort(-scores[p], kind="stable")]]) for p in shuffled])


def test_only_tags_seen_in_training_within_bounds_qualify():
    is_true = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0]]
    counts = np.array([9, 9, 9, 9, 0])
    wanted = tags_to_rank(transposed(is_true), counts, (2, 3))
    assert list(wanted.tags_Q) == [1, 2]
    assert [list(wanted.images[a:b]) for a, b in itertools.pairwise(wanted.offsets)] == [[0, 1], [0, 1, 3]]


def test_impossible_bounds_are_refused():
    with pytest.raises(ConfigError, match="map_bounds"):
        tags_to_rank(transposed([[1, 1]]), np.ones(1), (5, 2))
