"""Ragged arrays do what lists of lists do."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybrid.data.ragged import Ragged

lists = st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=6)


def ragged_of(rows: list[list[int]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, rows)])
    return Ragged(offsets.astype(np.int64), np.array([value for row in rows for value in row], dtype=np.int32))


def rows_of(ragged: Ragged) -> list[list[int]]:
    return [ragged.values[a:b].tolist() for a, b in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)]


@given(lists, st.data())
def test_take(rows: list[list[int]], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert rows_of(ragged_of(rows).take(np.array(wanted, dtype=np.int64))) == [rows[i] for i in wanted]


@given(lists)
def test_keep(rows: list[list[int]]) -> None:
    ragged = ragged_of(rows)
    assert rows_of(ragged.keep(ragged.values % 2 == 0)) == [[value for value in row if value % 2 == 0] for row in rows]


@given(st.lists(st.sets(st.sampled_from("abcdef"))))
def test_of_tags(rows: list[set[str]]) -> None:
    number = {tag: i for i, tag in enumerate("fedcba")}
    assert rows_of(Ragged.of_tags(rows, number)) == [sorted(number[tag] for tag in row) for row in rows]


@given(lists)
def test_sorted_rows(rows: list[list[int]]) -> None:
    assert rows_of(ragged_of(rows).sorted_rows()) == [sorted(row) for row in rows]
