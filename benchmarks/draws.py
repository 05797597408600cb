"""Suite: time to draw a negative, by number of tags."""

import numpy as np

from benchmarks.contestant_process import LocalContestant
from benchmarks.id_streams import zipf_counts
from benchmarks.measurement import Measurement
from benchmarks.progress import Progress
from benchmarks.suite_options import SuiteOptions
from workers.sampler import build_groups, draw_ids, sampling_probabilities

TITLE = "Time to draw a negative, one core"
SIZES = {"10K": 10_000, "1M": 1_000_000, "10M": 10_000_000}
_DRAWS = 256 * 20


def measure(options: SuiteOptions, progress: Progress) -> list[Measurement]:
    """One contestant per size; negatives follow Zipf(0.75) in order of frequency."""
    contestants = {}
    for name, num_tags in SIZES.items():
        progress.stage(f"the sampler of {name} tags")
        contestants[name] = LocalContestant(Drawer(options.tags(num_tags)).step)
    turns = options.take_turns(contestants, progress)
    times = [Measurement.times(f"draw_{name}", turns, name, f"a draw among {name} tags") for name in SIZES]
    what = "a draw among 10M tags: time over that among 10K"
    return [*times, Measurement.ratio("draw_10m_over_10k", turns, over="10M", under="10K", what=what)]


class Drawer:
    """Draws as a worker does for a chunk of 256 examples with 20 private negatives."""

    def __init__(self, num_tags: int) -> None:
        counts_N = zipf_counts(num_tags)
        self._groups_G4, self._members = build_groups(counts_N, sampling_probabilities(counts_N, 1.0))
        self._ids, self._key = np.empty(_DRAWS, np.int32), 0

    def step(self) -> float:
        """One chunk's draws."""
        self._key += 1
        draw_ids(self._groups_G4, self._members, np.uint64(self._key), self._ids)
        return float(_DRAWS)
