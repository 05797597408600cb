"""Weights of positive terms by how rare a tag is."""

import numpy as np

from workers.tag_weights import inverse_frequency_weights


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
