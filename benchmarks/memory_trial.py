"""One step of a contender under an address-space limit: `python -m benchmarks.memory_trial SETTINGS`."""

# Shapes: B examples, D dim, N tags.

import json
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.contender import RIVALS
from benchmarks.memory_model import StepShape
from benchmarks.rival_head import Setting
from benchmarks.true_tags import TrueTags
from hybrid.head import WideHead
from workers.config import HeadConfig
from workers.errors import HybridError
from workers.settings import from_plain

FITS, FULL = "fits", "full"
_WARM_UP_TAGS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSettings:
    """One contender of one size."""

    kind: str
    num_tags: int
    shape: StepShape
    limit_bytes: int
    """Of address space beyond what the process has after a step of a tiny layer."""


def run_trial(settings: TrialSettings) -> str:
    """`FITS`, or `FULL` if an allocation fails; some libraries end the process instead of saying so."""
    _step(settings, _WARM_UP_TAGS)
    limit = _address_space_bytes() + settings.limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        _step(settings, settings.num_tags)
    except (MemoryError, RuntimeError, HybridError) as e:
        if not is_of_memory(e):
            raise
        return FULL
    return FITS


def is_of_memory(error: BaseException) -> bool:
    """Whether memory was short: all other errors are defects. Torch names its allocator, threads lack their stacks."""
    if isinstance(error, RuntimeError) and any(words in str(error) for words in ("alloc", "can't start new thread")):
        return True
    return isinstance(error, MemoryError) or (error.__cause__ is not None and is_of_memory(error.__cause__))


def _step(settings: TrialSettings, num_tags: int) -> None:
    """Make the contender and let it learn from one batch."""
    shape = settings.shape
    B, T = shape.batch_size, min(shape.tags_per_example, num_tags)
    counts_N = np.ones(num_tags, np.int64)
    rng = np.random.default_rng(0)
    item_tags = np.sort(rng.integers(0, num_tags // T, (B, T)) + np.arange(T) * (num_tags // T)).astype(np.int32)
    features_BD = torch.randn(B, shape.dim)
    if settings.kind == "hybrid":
        with WideHead(num_tags, shape.dim, workers=1, tag_counts=counts_N, positives=shape.positives) as head:
            head(features_BD, (item_tags.ravel(), np.arange(B + 1) * T))
        return
    setting = Setting(
        config=HeadConfig(),
        counts_N=counts_N,
        marginal_N=np.full(num_tags, 1 / num_tags),
        num_train_items=B,
        dim=shape.dim,
        positives=shape.positives,
        seed=0,
        device=torch.device("cpu"),
        precision=torch.float32,
        true_tags=TrueTags(np.arange(B + 1) * T, item_tags.ravel(), torch.device("cpu")),
    )
    RIVALS[settings.kind](setting).learn(features_BD, np.arange(B))


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    print(run_trial(from_plain(TrialSettings, json.loads(sys.argv[1]))))
