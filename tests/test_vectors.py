"""Words of vector code that rows alone do not speak, compiled and in plain Python."""

import numpy as np
import pytest

from workers import vectors, vectors_uncompiled
from workers.jit import kernel

FORMS = {"compiled": vectors, "plain": vectors_uncompiled}


@pytest.fixture(params=[2, 4, 8, 16])
def width(request):
    return request.param


def totals_of(width):
    @kernel
    def run(values_XW, totals):
        like = vectors.zeros(width)
        a, b = vectors.load(values_XW[0], 0, like), vectors.load(values_XW[1], 0, like)
        c, d = vectors.load(values_XW[2], 0, like), vectors.load(values_XW[3], 0, like)
        vectors.put_totals(totals, 1, a, b, c, d)

    return run


def test_totals_of_four_vectors_stand_in_their_order(width):
    values_XW, totals = np.random.default_rng(width).integers(-99, 99, (4, width)).astype(np.float32), np.ones(6, "f4")
    totals_of(width)(values_XW, totals)
    np.testing.assert_array_equal(totals, [1, *values_XW.sum(axis=1), 1])


@pytest.mark.parametrize("count", [-1, 0, 1, 3, 40])
def test_front_of_a_vector_leaves_the_rest_alone(width, count):
    values = np.arange(1, width + 1, dtype=np.float32)
    read, written = np.ones(width, np.float32), np.full(width, -5, np.float32)

    @kernel
    def run(values, count, read, written):
        like = vectors.zeros(width)
        vectors.store(read, 0, vectors.load_front(values, 0, count, like))
        vectors.store_front(written, 0, count, vectors.load(values, 0, like))

    run(values, count, read, written)
    is_front, plain = np.arange(width) < count, np.full(width, -5, np.float32)
    np.testing.assert_array_equal(read, np.where(is_front, values, 0))
    np.testing.assert_array_equal(written, np.where(is_front, values, -5))
    vectors_uncompiled.store_front(plain, 0, count, values)
    np.testing.assert_array_equal(plain, written)
    np.testing.assert_array_equal(vectors_uncompiled.load_front(values, 0, count, values), read)


def test_value_alone(width):
    out = np.ones(width, np.float32)

    @kernel
    def run(value, out):
        vectors.store(out, 0, vectors.alone(value, vectors.zeros(width)))

    run(np.float32(7), out)
    assert out.tolist() == vectors_uncompiled.alone(np.float32(7), out).tolist() == [7] + [0] * (width - 1)


def test_values_from_a_place_are_the_arrays_own():
    def write(words):
        @kernel
        def run(ids, rows_XS):
            tail, row = words.values_from(ids, 2), words.values_from(rows_XS, 1)
            tail[1], row[2] = tail[0], np.float32(5)

        return run

    outcomes = []
    for words in FORMS.values():
        ids, rows_XS = np.arange(5, dtype=np.int32), np.zeros((3, 4), np.float32)
        run = write(words)
        (run if words is vectors else getattr(run, "py_func", run))(ids, rows_XS)
        outcomes.append((ids.tolist(), rows_XS.tolist()))
    assert outcomes[0] == outcomes[1] == ([0, 1, 2, 2, 4], [[0] * 4, [0, 0, 5, 0], [0] * 4])
