"""Arithmetic of a float32 and of a vector: both are NumPy's, for ordinary numbers and for those at the edges."""

import numpy as np
import pytest

from workers.arithmetic import exp_of_negative, floor, greater, log1p_of_unit, magnitude, power_of_two
from workers.jit import kernel
from workers.vectors import load, store, zeros

F = np.float32
HALF = F(0.5)
WIDTHS = (4, 8, 16)


def operators(a, b):
    return (a + HALF * b) / (HALF - a * b) - -b


def words(a, b):
    return greater(a, b, floor(a), magnitude(b))


def powers(a, b):
    return power_of_two(floor(greater(a, b, b, a)))


FORMULAS = {
    operators: lambda a, b: (a + HALF * b) / (HALF - a * b) + b,
    words: lambda a, b: np.where(a > b, np.floor(a), np.abs(b)),
    powers: lambda a, b: np.exp2(np.floor(np.minimum(a, b))),
}


def compiled(formula, width):
    inner = kernel(formula)

    @kernel
    def by_vectors(a, b, out):
        like = zeros(width)
        for i in range(0, len(a), width):
            store(out, i, inner(load(a, i, like), load(b, i, like)))

    @kernel
    def one_by_one(a, b, out):
        for i in range(len(a)):
            out[i] = inner(a[i], b[i])

    return by_vectors, one_by_one


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("formula", FORMULAS)
def test_vectors_and_numbers_agree_with_numpy(formula, width):
    rng = np.random.default_rng(width)
    a, b = rng.uniform(-120, 120, size=(2, 4 * max(WIDTHS))).astype(F)
    expected = FORMULAS[formula](a, b)
    for function in compiled(formula, width):
        out = np.empty_like(a)
        function(a, b, out)
        np.testing.assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_with_nan_or_between_equals_chooses_the_second(width):
    edges = np.array([np.nan, 0, -0.0, np.inf, -np.inf, 1, 1e38, -1e-45], F)
    a, b = (side.ravel().copy() for side in np.meshgrid(edges, edges))
    for function in compiled(words, width):
        out = np.empty_like(a)
        function(a, b, out)
        np.testing.assert_array_equal(out, np.where(a > b, np.floor(a), np.abs(b)))


@kernel
def exp_all(xs):
    for i in range(len(xs)):
        xs[i] = exp_of_negative(xs[i])


@kernel
def log1p_all(xs):
    for i in range(len(xs)):
        xs[i] = log1p_of_unit(xs[i])


def test_exponential_is_exact_to_5e_7():
    xs = -np.concatenate([np.linspace(0, 87, 4001), 10.0 ** np.linspace(-9, 0, 100)]).astype(F)
    expected = np.exp(xs.astype(np.float64))
    exp_all(xs)
    np.testing.assert_allclose(xs, expected, rtol=5e-7)


def test_exponential_is_zero_far_out():
    xs = np.array([-87.01, -1000, -1e30, -np.inf], F)
    exp_all(xs)
    assert xs.tolist() == [0, 0, 0, 0]


def test_log1p_is_exact_to_3e_7():
    xs = np.concatenate([np.linspace(0, 1, 4001), 10.0 ** np.linspace(-30, 0, 200)]).astype(F)
    expected = np.log1p(xs.astype(np.float64))
    log1p_all(xs)
    np.testing.assert_allclose(xs, expected, rtol=3e-7)
