"""Every sentence of the definitions of the measures, by hand and against slow twins."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.metrics import DEPTH, RankingMetrics, inverse_propensity_N, popularity_ids
from hybrid.truths import Truths, select_truths
from workers.errors import ConfigError, DataError


def truths_of(lists, num_unseen=None):
    offsets = np.cumsum([0] + [len(tags) for tags in lists])
    tags = np.array([t for tags in lists for t in sorted(tags)], np.int32)
    return Truths(offsets, tags, np.array(num_unseen or [0] * len(lists), np.int64))


def measured(top_ids, lists, counts, num_train_items=100, num_unseen=None):
    metrics = RankingMetrics(np.array(counts), num_train_items)
    top = np.array([row + [-1] * (DEPTH - len(row)) for row in top_ids], np.int64)
    metrics.update(top, truths_of(lists, num_unseen))
    return metrics.result()


def slow_measures(top_ids, lists, counts, num_train_items, num_unseen):
    """The definitions as one would say them, one item after another."""
    a, b = 0.55, 1.5
    c = (math.log(num_train_items) - 1) * (b + 1) ** a
    weights = [1 + c * (n + b) ** -a if n > 0 else 0.0 for n in counts]
    result = {}
    for k in (1, 3, 5):
        result[f"P@{k}"] = np.mean(
            [sum(t in tags for t in top[:k]) / k for top, tags in zip(top_ids, lists, strict=True)]
        )
    ndcg, recall = [], []
    for top, tags, unseen in zip(top_ids, lists, num_unseen, strict=True):
        num_true = len(tags) + unseen
        gain = sum(1 / math.log2(rank + 2) for rank, t in enumerate(top[:5]) if t in tags)
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(5, num_true)))
        ndcg.append(gain / ideal if num_true else 0.0)
        recall.append(sum(t in tags for t in top[:10]) / num_true if num_true else 0.0)
    result |= {"nDCG@5": np.mean(ndcg), "R@10": np.mean(recall)}
    for k in (1, 5):
        got = np.mean(
            [sum(weights[t] for t in top[:k] if t in tags) / k for top, tags in zip(top_ids, lists, strict=True)]
        )
        best = np.mean([sum(sorted((weights[t] for t in tags), reverse=True)[:k]) / k for tags in lists])
        result[f"PSP@{k}"] = got / best if best else 0.0
    result["distinct tags"] = len({t for top in top_ids for t in top[:5] if t >= 0})
    return result


@st.composite
def problems(draw):
    num_tags = draw(st.integers(10, 30))
    tag_sets = st.sets(st.integers(0, num_tags - 1), max_size=num_tags)
    lists = draw(st.lists(tag_sets, min_size=1, max_size=12))
    top_ids = [draw(st.permutations(range(num_tags)))[:DEPTH] for _ in lists]
    counts = draw(st.lists(st.integers(0, 50), min_size=num_tags, max_size=num_tags))
    num_unseen = [draw(st.integers(0, 3)) for _ in lists]
    return top_ids, lists, counts, draw(st.integers(3, 1000)), num_unseen


@given(problems())
@settings(max_examples=100, deadline=None)
def test_equals_the_slow_twin(problem):
    expected = slow_measures(*problem)
    top_ids, lists, counts, num_train_items, num_unseen = problem
    got = measured(top_ids, lists, counts, num_train_items, num_unseen)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name


@given(problems(), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_does_not_depend_on_how_items_are_cut_into_updates(problem, block):
    top_ids, lists, counts, num_train_items, num_unseen = problem
    cut = RankingMetrics(np.array(counts), num_train_items)
    at = 0
    for part in truths_of(lists, num_unseen).blocks(block):
        cut.update(np.array(top_ids[at : at + len(part)]), part)
        at += len(part)
    assert cut.result() == pytest.approx(measured(top_ids, lists, counts, num_train_items, num_unseen), abs=1e-12)


def test_precision_divides_by_k_even_with_fewer_tags():
    assert measured([[3, 1, 2, 4, 5]], [[3]], [1] * 10)["P@5"] == pytest.approx(0.2)


def test_ndcg_divides_by_the_ideal_of_min_k_and_true_tags():
    two_true = measured([[7, 1, 2, 4, 5]], [[1, 2]], [1] * 10)["nDCG@5"]
    assert two_true == pytest.approx((1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3)))
    six_true = measured([[0, 1, 2, 3, 4]], [[0, 1, 2, 3, 4, 5]], [1] * 10)["nDCG@5"]
    assert six_true == pytest.approx(1.0)


def test_items_without_tags_count_as_zero():
    result = measured([[0], [0]], [[0], []], [1] * 10)
    assert (result["P@1"], result["nDCG@5"], result["R@10"]) == pytest.approx((0.5, 0.5, 0.5))


def test_psp_is_a_ratio_of_means_not_a_mean_of_ratios():
    counts = [90, 1] + [1] * 8
    weight = inverse_propensity_N(np.array(counts), 100)
    result = measured([[0], [5]], [[0], [1]], counts)
    assert result["PSP@1"] == pytest.approx(weight[0] / (weight[0] + weight[1]))
    assert result["PSP@1"] != pytest.approx(0.5, abs=0.05)


def test_inverse_propensity_by_hand():
    c = (math.log(1000) - 1) * 2.5**0.55
    expected = [1 + c * (7 + 1.5) ** -0.55, 1 + c * 2.5**-0.55, 0.0]
    assert inverse_propensity_N(np.array([7, 1, 0]), 1000) == pytest.approx(expected)
    assert expected[1] == pytest.approx(math.log(1000))


def test_unseen_tags_stay_in_p_r_and_ndcg_but_leave_psps_ideal():
    counts = [5, 0] + [5] * 8
    result = measured([[0]], [[0, 1]], counts, num_unseen=[2])
    assert result["R@10"] == pytest.approx(1 / 4)
    assert result["nDCG@5"] == pytest.approx(1 / (1 + 1 / math.log2(3) + 1 / 2 + 1 / math.log2(5)))
    assert result["PSP@5"] == pytest.approx(1.0)


def test_padding_neither_hits_nor_counts_as_distinct():
    result = measured([[], [2]], [[0, 9], [2]], [1] * 10)
    assert result["distinct tags"] == 1
    assert result["P@1"] == pytest.approx(0.5)


def test_no_items_gives_zeros():
    assert set(RankingMetrics(np.ones(10), 5).result().values()) == {0}


def test_popularity_is_the_most_frequent_with_ties_by_id():
    assert list(popularity_ids(np.array([1, 5, 0, 5, 2]), 5)) == [1, 3, 4, 0, -1]
    assert list(popularity_ids(np.array([3]), 3)) == [0, -1, -1]


def test_too_few_ranks_are_refused():
    with pytest.raises(ConfigError, match="at least 10"):
        RankingMetrics(np.ones(20), 5).update(np.zeros((1, 5), int), truths_of([[0]]))


def test_truths_select_in_the_order_given():
    offsets, tags = np.array([0, 2, 2, 5]), np.array([1, 4, 0, 2, 3], np.int32)
    chosen = select_truths(offsets, tags, np.array([0, 7, 1]), np.array([2, 1, 0, 2]))
    assert [list(chosen.of(i)) for i in range(4)] == [[0, 2, 3], [], [1, 4], [0, 2, 3]]
    assert list(chosen.num_true_I) == [4, 7, 2, 4]
    with pytest.raises(DataError, match="offsets"):
        Truths(np.array([0, 9]), tags, np.zeros(1, np.int64))
