"""The forms in which users have tags."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid.tag_batch import ItemNumbers, TagBatch, read_tags
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


@given(LISTS)
def test_sets_are_the_same_as_lists(lists):
    assert as_lists(TagBatch.of([set(ids) for ids in lists], N)) == as_lists(TagBatch.of(lists, N))


def test_a_matrix_of_truth_values_is_the_same_as_lists_by_the_words_of_its_refusal():
    tags = torch.zeros(3, N)
    for b, ids in enumerate(lists := [[1, 2], [], [3, N - 1]]):
        tags[b, ids] = 1
    with pytest.raises(DataError) as caught:
        TagBatch.of(tags, N)
    (words,) = re.findall(r"becomes lists by (\[.*?\]);", str(caught.value))
    assert as_lists(TagBatch.of(eval(words, {"tags": tags}), N)) == lists


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


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("lists", [[[1, 2], [3]], [[4], [], [1, 2, 3], [0, 9], []]], ids=["two", "five"])
def test_a_csr_pair_that_a_data_loader_made_a_list_is_refused(lists, tensors):
    """Read as the tags of two examples it would train wrongly, and silently where the batch has two."""
    pair = (np.array([i for row in lists for i in row]), np.cumsum([0, *map(len, lists)]))
    if tensors:
        pair = torch.utils.data.default_convert(pair)
        assert isinstance(pair, list)
    with pytest.raises(DataError, match=rf"cuts the first into {len(lists)} examples.*tuple\(tags\).*TagBatch"):
        TagBatch.of(list(pair), N)
    assert as_lists(TagBatch.of(tuple(pair), N)) == lists


def test_two_arrays_that_are_no_csr_pair_are_the_tags_of_two_examples():
    for second in ([0, 3, 1], [1, 2, 3], [0, 2], [0, 1, 2], [3]):
        assert as_lists(TagBatch.of([np.array([7, 8, 9]), np.array(second)], N)) == [[7, 8, 9], sorted(second)]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_a_flat_array_is_one_tag_for_each_example(dtype):
    tags = torch.tensor([3, 0, 3, 19], dtype=dtype)
    for form in (tags, tags.numpy()):
        assert as_lists(TagBatch.of(form, N)) == [[3], [0], [3], [19]]
    assert len(TagBatch.of(tags[:0], N)) == 0
    with pytest.raises(DataError, match="example 1 has tag id 20"):
        TagBatch.of(torch.tensor([0, 20]), N)


def test_two_arrays_that_would_be_a_pair_of_other_size_are_the_tags_of_two_examples():
    arrays = [np.array([2, 4, 9, 11]), np.array([0, 1, 2, 4])]
    assert read_tags(arrays, 12, num_examples=2).offsets.tolist() == [0, 4, 8]
    with pytest.raises(DataError, match="became a list"):
        read_tags(arrays, 12, num_examples=3)


def test_csr_that_is_sorted_is_not_sorted_again(monkeypatch):
    ids, offsets = np.array([1, 4, 0, 2, 3]), np.array([0, 2, 2, 5])

    def fail(*arguments):
        raise AssertionError("sorted again")

    monkeypatch.setattr("hybrid.tag_batch._sorted_and_distinct", fail)
    monkeypatch.setattr(np, "unique", fail)
    assert as_lists(TagBatch.of((ids, offsets), N)) == [[1, 4], [], [0, 2, 3]]
    with pytest.raises(AssertionError, match="sorted again"):
        TagBatch.of((ids, np.array([0, 3, 3, 5])), N)


def test_the_number_of_examples_must_fit_and_what_a_data_loader_collates_is_told():
    assert as_lists(read_tags([[1], [2]], N, 2)) == [[1], [2]]
    with pytest.raises(DataError, match=r"tags are given for 2 examples, features for 3\.$"):
        read_tags([[1], [2]], N, 3)
    collated = torch.utils.data.default_collate([[1, 2], [3, 4], [5, 6]])
    with pytest.raises(DataError, match=r"tags are given for 2 examples, images for 3\..*collate_fn"):
        read_tags(collated, N, 3, "images")


@pytest.mark.parametrize(
    ("ids", "offsets", "told"),
    [
        (np.array([1, 2], np.int32), np.array([0, 1, 3]), "do not cut"),
        (np.array([1, 2], np.int32), np.array([1, 2]), "do not cut"),
        (np.array([1, 2], np.int32), np.array([0, 2, 1, 2]), "never falling"),
        (np.array([2, 1], np.int32), np.array([0, 2]), "do not ascend"),
        (np.array([1, 1], np.int32), np.array([0, 2]), "do not ascend"),
        (np.array([1, N], np.int32), np.array([0, 1, 2]), "example 1 has tag id 20"),
        (np.array([-1], np.int32), np.array([0, 1]), "example 0 has tag id -1"),
        (np.array([1, 2]), np.array([0, 2]), "int32 and int64"),
        ([1, 2], [0, 2], "int32 and int64"),
        (np.ones((1, 1), np.int32), np.array([0, 1]), "expected flat"),
    ],
)
def test_a_tag_batch_made_by_hand_is_checked_before_compiled_code_reads_it(ids, offsets, told):
    with pytest.raises(DataError) as caught:
        TagBatch.of(TagBatch(ids, offsets), N)
    assert told in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_tensors_on_a_card_are_copied_at_once(monkeypatch):
    lists = [[3, 1], [], [7]]
    on_card = [torch.tensor(ids, dtype=torch.int64, device="cuda") for ids in lists]
    copied, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copied.append(tensor.device.type) or cpu(tensor))
    assert as_lists(TagBatch.of(on_card, N)) == [[1, 3], [], [7]]
    assert copied.count("cuda") == 1


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


@pytest.mark.parametrize("items", [[0, 1], np.array([0.0, 1.0]), np.array([[0], [1]]), np.array([True])])
def test_what_cannot_be_numbers_of_items_is_refused(items):
    with pytest.raises(DataError, match="expected a flat NumPy array of integers"):
        ItemNumbers(items)


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
        (
            [1, 2],
            "example 0 is one number; expected a list of tag ids for each example. If each has a single",
        ),
        ([np.array([2**63 + 5], np.uint64)], f"example 0 has id {2**63 + 5}, which no tag has"),
        (np.ones((2, N)), "tags are a ndarray of float64 [2, 20]; expected a list of id lists"),
        (torch.ones(2, N), "becomes lists by [row.nonzero().flatten() for row in tags]; one with as many ids in each"),
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
