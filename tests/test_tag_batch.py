"""The forms in which users have tags."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid.tag_batch import ItemNumbers, TagBatch
from workers.errors import DataError

N = 20
LISTS = st.lists(st.lists(st.integers(0, N - 1), max_size=6), max_size=8)


def as_lists(batch):
    return [batch.ids[i:j].tolist() for i, j in zip(batch.offsets, batch.offsets[1:], strict=False)]


@given(LISTS)
def test_lists_become_sorted_distinct_ids(lists):
    batch = TagBatch.of(lists, N)
    assert as_lists(batch) == [sorted(set(ids)) for ids in lists]
    assert len(batch) == len(lists)
    assert batch.ids.dtype == np.int32 and batch.offsets.dtype == np.int64


@given(LISTS, st.sampled_from([np.int32, np.int64, np.uint8]))
def test_csr_is_the_same_as_lists(lists, dtype):
    ids = np.array([i for row in lists for i in row], dtype)
    offsets = np.cumsum([0, *map(len, lists)])
    for pair in ((ids, offsets), (torch.from_numpy(ids), torch.from_numpy(offsets))):
        assert as_lists(TagBatch.of(pair, N)) == as_lists(TagBatch.of(lists, N))


def test_a_pair_of_arrays_is_csr_and_a_pair_of_lists_is_two_examples():
    ids, offsets = [1, 2, 4], [0, 3]
    assert as_lists(TagBatch.of((ids, offsets), N)) == [ids, offsets]
    assert as_lists(TagBatch.of((np.array(ids), np.array(offsets)), N)) == [ids]


@given(LISTS, st.data())
def test_slices_are_batches_of_their_own(lists, data):
    start = data.draw(st.integers(0, len(lists)))
    stop = data.draw(st.integers(start, len(lists)))
    part = TagBatch.of(lists, N).slice(start, stop)
    assert as_lists(part) == [sorted(set(ids)) for ids in lists[start:stop]]
    assert part.offsets[0] == 0


def test_what_is_read_already_is_passed_on():
    batch = TagBatch.of([[1]], N)
    assert TagBatch.of(batch, N) is batch
    items = ItemNumbers(np.array([4, 5, 6]))
    assert TagBatch.of(items, N) is items
    assert items.slice(1, 3).items_B.tolist() == [5, 6] and len(items) == 3


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ([[1], [2], [3, 20]], "example 2 has tag id 20; expected ids from 0 to 19"),
        ([[], [], [-1]], "example 2 has tag id -1"),
        ([[2**40]], f"example 0 has tag id {2**40}"),
        ((np.array([5, 99]), np.array([0, 1, 2])), "example 1 has tag id 99"),
        ([[1.5]], "example 0 is float64"),
        ([[True]], "example 0 is bool"),
        ([["cat"]], "example 0 is <U3"),
        ([[None]], "example 0 is object"),
        ([[[1], [2, 3]]], "example 0 cannot be read"),
        ([1, 2], "example 0 is int64 of shape ()"),
        (np.ones((2, N)), "tags are a ndarray"),
        (torch.ones(2, N), "tags are a Tensor"),
        ({0: [1]}, "tags are a dict"),
        (None, "tags are a NoneType"),
        ((np.array([1, 2]), np.array([0, 1])), "tag offsets"),
        ((np.array([1, 2]), np.array([1, 2])), "tag offsets"),
        ((np.array([1, 2]), np.array([0, 2, 1, 2])), "never falling"),
        ((np.array([1, 2]), np.array([], np.int64)), "tag offsets"),
        ((np.array([[1, 2]]), np.array([0, 2])), "ids is int64 of shape (1, 2)"),
        ((np.array([1, 2]), np.array([0.0, 2.0])), "offsets is float64"),
    ],
)
def test_what_cannot_be_tags_is_refused(tags, told):
    with pytest.raises(DataError) as caught:
        TagBatch.of(tags, N)
    assert told in str(caught.value)
