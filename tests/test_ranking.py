"""Exact best tags against sorting all of them."""

import numpy as np
import pytest
import torch

import hybrid.ranking as ranking
from hybrid.ranking import MEMBERS, LiveRows, Ranker, WatchedRows, two_level_topk
from workers.errors import DataError, MatrixMismatch


def random_case(num_tags, B=7, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    rows, features = rng.standard_normal((num_tags, dim), np.float32), rng.standard_normal((B, dim), np.float32)
    return rows, features, rng.standard_normal(num_tags).astype(np.float32)


def topk(rows, bias, features, k):
    ids, scores = Ranker(LiveRows(rows), bias).topk(torch.from_numpy(features), k)
    return ids.numpy(), scores.numpy()


@pytest.mark.parametrize("num_tags", [1, 5, 63, 64, 65, 1000, 40_000])
@pytest.mark.parametrize("k", [1, 10])
def test_equals_sorting_all_scores(num_tags, k):
    rows, features, bias = random_case(num_tags)
    ids, scores = topk(rows, bias, features, k)
    all_scores = features.astype(np.float64) @ rows.T.astype(np.float64) + bias
    expected = np.argsort(-all_scores, axis=1)[:, :k]
    found = min(k, num_tags)
    assert np.array_equal(ids[:, :found], expected)
    assert scores[:, :found] == pytest.approx(np.take_along_axis(all_scores, expected, 1), abs=1e-5)
    assert (ids[:, found:] == -1).all() and (scores[:, found:] == -np.inf).all()


def test_autocast_around_a_ranking_rounds_nothing():
    rows, features, bias = random_case(5000)
    features_BD, ranker = torch.from_numpy(features), Ranker(LiveRows(rows), bias)
    ids, scores = ranker.topk(features_BD, 10)
    with torch.autocast("cpu", torch.bfloat16):
        assert (features_BD @ features_BD.T).dtype == torch.bfloat16, "autocast is on"
        same_ids, same_scores = ranker.topk(features_BD, 10)
    assert torch.equal(ids, same_ids) and torch.equal(scores, same_scores)


def test_blocks_do_not_change_the_result(monkeypatch):
    rows, features, bias = random_case(5000)
    whole = topk(rows, bias, features, 10)[0]
    monkeypatch.setattr(ranking, "BLOCK_ROWS", 777)
    assert np.array_equal(topk(rows, bias, features, 10)[0], whole)


def test_features_times_several_factors_are_ranked_in_one_pass(monkeypatch):
    monkeypatch.setattr(ranking, "BLOCK_ROWS", 2000)
    rows, features, bias = random_case(5000)
    told = []
    watched = WatchedRows(LiveRows(rows), lambda done, total: told.append(done))
    factors = [1.0, 0.5, 0.1]
    ranked = Ranker(watched, bias).topk_scaled(torch.from_numpy(features), 10, factors)
    assert told == [0, 2000, 4000]
    for (ids, scores), factor in zip(ranked, factors, strict=True):
        expected_ids, expected_scores = topk(rows, bias, features * np.float32(factor), 10)
        assert np.array_equal(ids.numpy(), expected_ids)
        np.testing.assert_allclose(scores.numpy(), expected_scores, atol=1e-5)
    assert len({tuple(ids.flatten().tolist()) for ids, _ in ranked}) == 3, "factors change the order"


def test_watched_rows_tell_how_far_a_pass_is_and_rank_the_same(monkeypatch):
    monkeypatch.setattr(ranking, "BLOCK_ROWS", 2000)
    rows, features, bias = random_case(5000)
    told = []
    watched = WatchedRows(LiveRows(rows), lambda done, total: told.append((done, total)))
    ids = Ranker(watched, bias).topk(torch.from_numpy(features), 10)[0].numpy()
    assert told == [(0, 5000), (2000, 5000), (4000, 5000)]
    assert np.array_equal(ids, topk(rows, bias, features, 10)[0])


def test_tags_with_an_infinite_bias_are_never_ranked():
    rows, features, bias = random_case(300)
    bias[3:] = -np.inf
    ids, _ = topk(rows, bias, features, 5)
    assert (np.sort(ids[:, :3], axis=1) == [0, 1, 2]).all() and (ids[:, 3:] == -1).all()


@pytest.mark.parametrize("n", [MEMBERS * 40, MEMBERS * 40 + 17])
def test_two_levels_select_the_same_scores_even_among_ties(n):
    scores = torch.randint(0, 50, (9, n), generator=torch.Generator().manual_seed(1)).float()
    values, places = two_level_topk(scores, 10)
    assert torch.equal(values, scores.topk(10, dim=1).values)
    assert torch.equal(scores.gather(1, places), values)
    assert all(len(set(row)) == 10 for row in places.tolist())


def test_no_items():
    rows, features, bias = random_case(20)
    assert topk(rows, bias, features[:0], 3)[0].shape == (0, 3)


def test_nan_features_are_refused_by_item():
    rows, features, bias = random_case(20)
    features[4, 2] = np.nan
    with pytest.raises(DataError, match="item 4"):
        topk(rows, bias, features, 3)


def test_wrong_shapes_are_refused():
    rows, features, bias = random_case(20)
    with pytest.raises(MatrixMismatch, match=r"\[items, 8\]"):
        topk(rows, bias, features[:, :5], 3)
    with pytest.raises(MatrixMismatch, match="19"):
        Ranker(LiveRows(rows), bias[:19])
