"""Weights of positive terms by how rare a tag is."""

import numpy as np

from workers.tag_weights import inverse_frequency_weights, weights_above_zero


def test_weight_is_the_log_of_items_per_count():
    weights = inverse_frequency_weights(np.array([1, 10, 50, 100]), 100)
    np.testing.assert_allclose(weights, np.log([100, 10, 2, 1]), rtol=1e-6)
    assert weights.dtype == np.float32


def test_tags_on_every_item_or_on_none_weigh_nothing():
    assert inverse_frequency_weights(np.array([0, 100]), 100).tolist() == [0.0, 0.0]


def test_counts_above_the_items_give_no_negative_weight():
    assert inverse_frequency_weights(np.array([120]), 100).tolist() == [0.0]


def test_no_items_at_all():
    assert inverse_frequency_weights(np.zeros(3, np.int64), 0).tolist() == [0.0, 0.0, 0.0]


def test_a_weight_of_nothing_counts_for_less_than_that_of_any_rarer_tag():
    counts = np.array([1000, 0, 999, 1])
    weights = weights_above_zero(inverse_frequency_weights(counts, 1000), counts)
    np.testing.assert_allclose(weights, [1 / 1000, 1 / 1000, np.log(1000 / 999), np.log(1000)], rtol=1e-6)
    assert weights[0] < weights[2]
    assert weights_above_zero(np.zeros(2, np.float32), np.zeros(2, np.int64)).tolist() == [1.0, 1.0]
