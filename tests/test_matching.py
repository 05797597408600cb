"""Comparisons of sixteen tags at once against plain Python."""

import numpy as np
import pytest

from workers.jit import kernel
from workers.matching import TAGS_AT_ONCE, place_among
from workers.vectors import values_from

SIZES = [1, 2, 15, 16, 17, 31, 32, 33, 50]


@kernel
def place(tags, S, tag):
    return place_among(values_from(tags, 0), S, tag)


def room_for(tags):
    """The tags with room behind them, where other numbers are."""
    return np.concatenate([tags, np.full(TAGS_AT_ONCE, 7, np.int32)]).astype(np.int32)


@pytest.mark.parametrize("S", SIZES)
def test_places_are_those_of_the_first_equal_tag_and_none_behind_the_last(S):
    tags = np.random.default_rng(S).permutation(1000)[:S] + 10
    for i in range(S):
        assert place(room_for(tags), S, np.int32(tags[i])) == i
    assert place(room_for(tags), S, np.int32(7)) == S  # it stands behind them
    doubled = room_for(np.concatenate([tags, tags]))
    assert place(doubled, 2 * S, np.int32(tags[-1])) == S - 1
