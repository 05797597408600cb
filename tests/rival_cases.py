"""A tiny data set and setting on which rivals are compared with plain torch."""

import numpy as np
import torch

from benchmarks.rival_head import Setting
from benchmarks.true_tags import TrueTags
from workers.config import HeadConfig

D, N, NUM_ITEMS, P = 8, 50, 20, 3
ITEMS = np.array([3, 17, 3, 0, 9, 12, 5], np.int64)  # one of them twice, item 0 without tags
CONFIG = HeadConfig(negatives=30, negative_weight=5.0, chunk_size=4, row_lr=0.1, init_scale=1.0)


def make_truth():
    """Offsets and true tags of `NUM_ITEMS` items."""
    rng = np.random.default_rng(3)
    lists = [np.sort(rng.choice(N, 0 if i == 0 else rng.integers(1, 12), replace=False)) for i in range(NUM_ITEMS)]
    return np.cumsum([0] + [len(tags) for tags in lists]), np.concatenate(lists).astype(np.int32)


def make_setting(truth):
    counts = np.bincount(truth[1], minlength=N)
    return Setting(
        config=CONFIG,
        counts_N=counts,
        marginal_N=counts / counts.sum(),
        num_train_items=NUM_ITEMS,
        dim=D,
        positives=P,
        seed=7,
        device=torch.device("cpu"),
        precision=torch.float32,
        true_tags=TrueTags(*truth, torch.device("cpu")),
    )


def features_of(num_examples):
    return torch.randn(num_examples, D, generator=torch.Generator().manual_seed(1))


def dense_targets(truth):
    """0 or 1 for each of `ITEMS` and each tag."""
    offsets, tags = truth
    targets = torch.zeros(len(ITEMS), N)
    for b, item in enumerate(ITEMS):
        targets[b, tags[offsets[item] : offsets[item + 1]].astype(int)] = 1
    return targets
