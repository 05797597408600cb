"""Which items train, which validate and which test, by a hash alone."""

import hashlib
import os
from collections.abc import Sequence

import numpy as np


def hash_fraction(key: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the key only: the same on every machine, in every run, for every seed."""
    digest = hashlib.blake2b(os.fsencode(key), digest_size=8, salt=salt.encode()).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53


def split_by_hash(
    keys: Sequence[str], test_fraction: float, valid_fraction: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Item numbers (int64) of training, validation and test; equal keys stay together.

    The test takes the low end of the hash and validation the high end, so a larger test set contains the smaller one
    while validation stays where it is. With three keys or more, neither is left empty; training never is.
    """
    fraction_of = {key: hash_fraction(key) for key in set(keys)}
    ordered = sorted(fraction_of, key=lambda key: fraction_of[key])
    if len(ordered) >= 3:
        lowest, highest = ordered[0], ordered[-1]
        fraction_of[lowest] = min(fraction_of[lowest], np.nextafter(test_fraction, 0))
        fraction_of[highest] = max(fraction_of[highest], 1 - valid_fraction)
    if ordered and not any(test_fraction <= fraction < 1 - valid_fraction for fraction in fraction_of.values()):
        fraction_of[ordered[len(ordered) // 2]] = test_fraction  # of three or more, one that is neither of those
    fractions = np.array([fraction_of[key] for key in keys], dtype=np.float64)
    is_test = fractions < test_fraction
    is_valid = ~is_test & (fractions >= 1 - valid_fraction)
    return np.flatnonzero(~is_test & ~is_valid), np.flatnonzero(is_valid), np.flatnonzero(is_test)


def choose_items(names: Sequence[str], max_items: int) -> np.ndarray:
    """Item numbers (int64, ascending) of at most `max_items` items, chosen by a hash of their names; 0 takes all.

    The hash is salted, so that the choice is independent of the split by the same names.
    """
    if not max_items or max_items >= len(names):
        return np.arange(len(names))
    fractions = np.array([hash_fraction(name, salt="choose") for name in names])
    return np.sort(np.argsort(fractions, kind="stable")[:max_items])
