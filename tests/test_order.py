"""The order of training items."""

import numpy as np

from hybrid.order import epoch_order

ITEMS = np.arange(100, 150)


def test_each_epoch_visits_every_item_once_in_an_order_of_its_own():
    orders = [epoch_order(ITEMS, 3, epoch) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), ITEMS)
    assert len({order.tobytes() for order in orders}) == 3


def test_the_order_depends_on_seed_and_epoch_alone():
    np.testing.assert_array_equal(epoch_order(ITEMS, 3, 1), epoch_order(ITEMS, 3, 1))
    assert (epoch_order(ITEMS, 3, 1) != epoch_order(ITEMS, 4, 1)).any()
    assert (epoch_order(ITEMS, 1, 2) != epoch_order(ITEMS, 2, 1)).any()
    assert len(epoch_order(ITEMS, 2**63 - 1, 0)) == 50


def test_a_resumption_visits_exactly_the_rest():
    whole = epoch_order(ITEMS, 0, 7)
    for last in (0, 1, 48, 49):
        rest = epoch_order(ITEMS, 0, 7, int(whole[last]))
        np.testing.assert_array_equal(np.concatenate([whole[: last + 1], rest]), whole)


def test_the_items_themselves_stay_as_they_are():
    items = ITEMS.copy()
    epoch_order(items, 0, 0)
    np.testing.assert_array_equal(items, ITEMS)
