"""Pearson's chi-square test."""

import numpy as np
import torch


def p_value(observed, expected=None):
    """The chance of counts as far from what was expected, or farther; without expectation all are expected equal."""
    observed = np.asarray(observed, np.float64)
    expected = np.full(len(observed), observed.mean()) if expected is None else np.asarray(expected, np.float64)
    np.testing.assert_allclose(observed.sum(), expected.sum(), rtol=1e-8)
    statistic, freedom = np.sum((observed - expected) ** 2 / expected), len(observed) - 1
    return float(torch.special.gammaincc(torch.tensor(freedom / 2).double(), torch.tensor(statistic / 2).double()))
