"""Vector code for rows against the equations in float64, for both forms of rows and dims of all widths."""

import numpy as np
import pytest

from workers import feature_blocks, row_blocks, vectors_uncompiled
from workers.jit import JIT_ENABLED, kernel
from workers.rounding import rounding_noise
from workers.rows import BFLOAT16, FLOAT32, pack, unpack
from workers.vectors import row_of, zeros
from workers.widths import vector_widths

BIASES = (np.float32(0.5), np.float32(-2), np.float32(0), np.float32(3))
GRADS, MOVES, KEEP, STARTS = (
    np.float32([0.5, -1, 2, 0.1]),
    np.float32([-0.25, 0.5, 1, 0]),
    np.float32(0.75),
    (3, 70, 9, 1),
)


def compiled(dim):
    """All functions on the first rows of a matrix, by name, as kernels call them."""
    half, (wide, narrow) = dim // 2, vector_widths(dim)

    @kernel
    def dots(rows, f, g, noise, scores):
        likes = zeros(wide), zeros(narrow)
        row_blocks.dot_four((rows[0], rows[1], rows[2], rows[3]), f, half, likes, BIASES, scores, 0)
        scores[4] = row_blocks.dot(rows[4], f, half, likes, BIASES[1])

    @kernel
    def updates(rows, f, g, noise, scores):
        likes = zeros(wide), zeros(narrow)
        four = (rows[0], rows[1], rows[2], rows[3])
        row_blocks.update_four(four, f, g, half, likes, GRADS, MOVES, 0, KEEP, noise, STARTS)
        row_blocks.update(rows[4], f, g, half, likes, GRADS[2], MOVES[1], KEEP, noise, 5)
        row_blocks.add(rows[5], g, half, likes, GRADS[1])
        row_blocks.add_four((rows[5], rows[6], rows[7], rows[8]), g, half, likes, GRADS, 0)
        row_blocks.write(rows[6], f, half, likes, MOVES[0], KEEP, noise, 2)
        row_blocks.bound(rows[7], half, likes, np.float32(0.5), noise, 4)
        row_blocks.bound(rows[8], half, likes, np.float32(1e6), noise, 4)

    @kernel
    def sums(rows, f, g, scores, copy, scaled):
        likes = zeros(wide), zeros(narrow)
        row_blocks.copy(rows[3], copy, half, likes)
        row_blocks.copy(rows[3], g, half, likes)
        scores[0] = feature_blocks.mean_square_of(g, 2 * half, likes)
        feature_blocks.scale(g, MOVES[0], 2 * half, likes)
        for j in range(2 * half):
            scaled[j] = g[j]
        scores[1] = feature_blocks.nothing_in(g, 2 * half, likes)
        scores[2] = feature_blocks.clear(f, g, 2 * half, likes)

    return dots, updates, sums


@pytest.fixture(params=[*((FLOAT32, dim) for dim in (4, 24, 300)), *((BFLOAT16, dim) for dim in (8, 128))])
def case(request):
    """Halves of narrow vectors alone, of one wide one and a rest, of several, with and without a rest."""
    row_dtype, dim = request.param
    rng = np.random.default_rng(dim)
    rows_XS = pack(rng.normal(size=(9, dim)).astype(np.float32), row_dtype).copy()
    f, g = rng.normal(size=(2, dim)).astype(np.float32)
    return rows_XS, f, g, rounding_noise(dim), np.zeros(5, np.float32)


def test_dots(case):
    rows_XS, f, _, _, scores = case
    compiled(len(f))[0](*case)
    expected = unpack(rows_XS)[:5].astype(np.float64) @ f + [*BIASES, BIASES[1]]
    np.testing.assert_allclose(scores, expected, atol=1e-5 * len(f) ** 0.5)


def test_updates(case):
    rows_XS, f, g, _, _ = case
    before, grad = unpack(rows_XS).astype(np.float64), g.astype(np.float64)
    compiled(len(f))[1](*case)
    after = unpack(rows_XS)
    expected = before.copy()
    for i, (g_i, m_i) in enumerate([*zip(GRADS, MOVES, strict=True), (GRADS[2], MOVES[1])]):
        grad += g_i * before[i]
        expected[i] = KEEP * before[i] + m_i * f
    grad += GRADS[1] * before[5] + GRADS @ before[5:9]
    expected[6] = KEEP * before[6] + MOVES[0] * f
    expected[7] *= 0.5 / np.linalg.norm(before[7])
    np.testing.assert_allclose(g, grad, atol=1e-5)
    tolerance = 1e-6 if rows_XS.dtype == np.float32 else 2.0**-7
    np.testing.assert_allclose(after, expected, rtol=tolerance, atol=1e-6)
    np.testing.assert_array_equal(after[[5, 8]], before[[5, 8]].astype(np.float32))


def test_sums_and_copies(case):
    rows_XS, f, g, _, scores = case
    row, copy, scaled = unpack(rows_XS)[3].copy(), np.zeros_like(f), np.zeros_like(f)
    compiled(len(f))[2](rows_XS, f, g, scores, copy, scaled)
    np.testing.assert_array_equal(copy, row)
    np.testing.assert_array_equal(scaled, MOVES[0] * row)
    np.testing.assert_allclose(scores[:3], [np.mean(np.square(row)), 0, f @ f], rtol=1e-5)
    assert not g.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found_wherever_it_is(value):
    """In a row of dim 44: of two whole vectors and a rest."""
    (wide, narrow), v = vector_widths(44), np.ones(44, np.float32)

    @kernel
    def nothing(v):
        return feature_blocks.nothing_in(v, 44, (zeros(wide), zeros(narrow)))

    assert nothing(v) == 0
    for i in range(44):
        v[i] = value
        assert np.isnan(nothing(v)), i
        v[i] = 1


@pytest.mark.skipif(not JIT_ENABLED, reason="compares compiled code with this very code")
def test_compiled_words_are_their_uncompiled_twins(case):
    """Bit for bit, rounding included; numbers that a fused multiplication cannot round otherwise."""
    rows_XS, f, _, noise, _ = case
    dim = len(f)
    half = dim // 2
    width = next(width for width in vector_widths(dim) if half % width == 0)

    @kernel
    def put_all(rows, copies, values, noise):
        for j in range(0, half, width):
            like = zeros(width)
            row, copy = row_of(rows, copies, 1, rows.shape[1]), row_of(rows, copies, -3, rows.shape[1])
            row_blocks.put(row, j, half, row_blocks.load(values, j, like), like, noise, 7 + j)
            row_blocks.put(copy, j, half, like, row_blocks.load(values, j, like), noise, 9 + j)

    copies, twin_rows, twin_copies = rows_XS[:4].copy(), rows_XS.copy(), rows_XS[:4].copy()
    put_all(rows_XS, copies, f, noise)
    like = vectors_uncompiled.zeros(width)
    for j in range(0, half, width):
        values = vectors_uncompiled.load(f, j, like)
        row = vectors_uncompiled.row_of(twin_rows, twin_copies, 1, twin_rows.shape[1])
        vectors_uncompiled.put(row, j, half, values, like, noise, 7 + j)
        row = vectors_uncompiled.row_of(twin_rows, twin_copies, -3, twin_rows.shape[1])
        vectors_uncompiled.put(row, j, half, like, values, noise, 9 + j)
    np.testing.assert_array_equal(rows_XS, twin_rows)
    np.testing.assert_array_equal(copies, twin_copies)
    assert (copies[2] == twin_copies[2]).all() and (copies[[0, 1, 3]] == rows_XS[[0, 1, 3]])[[0, 2]].all()
