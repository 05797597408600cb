"""Counter-based random numbers: known values, independence of their parts."""

import functools

import numpy as np
import pytest
from naive import splitmix64

from workers.counters import NEGATIVES, POSITIVES, below, below_32, random_bits, stream_key
from workers.jit import kernel


def test_splitmix64_gives_the_published_sequence():
    """The first outputs for seed 1234567, as in the reference implementation's test vectors."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [int(random_bits(np.uint64(1234567), np.uint64(i))) for i in range(5)] == expected
    assert [splitmix64(1234567, i) for i in range(5)] == expected


@kernel
def below_all(bits_X, limit, out_X, out_32_X):
    for x in range(len(bits_X)):
        out_X[x] = below(bits_X[x], limit)
        out_32_X[x] = below_32(bits_X[x], limit)


@pytest.mark.parametrize("limit", [1, 2, 3, 1000, 737_000, 2**31 - 1, 2**32 - 1, 2**64 - 1])
def test_below_is_the_high_half_of_the_product(limit):
    rng = np.random.default_rng(0)
    edges = np.array([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1], np.uint64)
    bits_X = np.concatenate([edges, rng.integers(0, 2**64 - 1, 200, np.uint64)])
    below_all(bits_X, np.uint64(limit), out_X := np.empty_like(bits_X), out_32_X := np.empty_like(bits_X))
    expected = [bits * limit >> 64 for bits in bits_X.tolist()]
    assert out_X.tolist() == expected
    assert out_32_X.tolist() == expected or limit >= 2**32


@pytest.mark.parametrize("parts", [(0, 0, 0, 1), (5, 6, 7, 2), (2**63, 2**40, 0, 3), (2**64 - 1, 1, 2, 4)])
def test_a_key_mixes_one_part_after_the_other(parts):
    assert int(stream_key(*parts)) == functools.reduce(lambda key, part: splitmix64(key ^ part, 0), parts, 0)


def test_every_part_of_a_key_counts():
    base = (5, 6, 7, NEGATIVES)
    others = [
        (4, 6, 7, NEGATIVES),
        (5, 7, 6, NEGATIVES),
        (6, 5, 7, NEGATIVES),
        (5, 6, 8, NEGATIVES),
        (5, 6, 7, POSITIVES),
    ]
    keys = {int(stream_key(*parts)) for parts in [base, *others]}
    assert len(keys) == 6
    assert stream_key(*base) == stream_key(*base)
    assert stream_key(*base).dtype == np.uint64


def test_keys_take_any_seed():
    assert stream_key(2**63 - 1, 2**40, 2**20, NEGATIVES) != stream_key(0, 0, 0, NEGATIVES)
