"""The number of CPU threads with which the steps of a trunk on the CPU are shortest."""

import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence

import torch

from workers.cores import available_cores

_ROUNDS = 3
"""Timed steps of each candidate in a trial; they take turns, so that a drift of the machine hits all alike."""
_MOST_UNJUDGED = 40
"""Steps on smaller batches after which a trial ends with what it has timed: where batches vary in size, the largest may
come once, and a candidate would stay for good without being judged."""
_GAIN = 0.95
"""Another number of threads than the present one is taken if its median step is so much shorter: less is noise."""
_WATCHED_STEPS = 9
_SLOWER = 1.5
"""A median step that is longer than the trial found by this factor calls for another trial."""
_FAR_SLOWER, _LONG_S = 3.0, 1.0
"""So many times longer, and so many seconds, is no noise: one such step calls for a trial, and ends a candidate's turns
in it. The threads of a convolution spin until the last one arrives; where other programs take a core from one of them,
each barrier lasts as long as a scheduler lets those run: seconds a step instead of 0.1."""
_LOST = 2.5
"""A candidate whose median was so many times the best's has lost: in later trials, until one of its steps takes less
than that, it has a single one in each."""
_REST_S = 20.0
"""Seconds after a trial before the next, at least, unless a step is far slower."""
_LEAST_REST = 10.0
"""A trial is followed by a pause of at least so many times its length, unless steps slow down: trials cost little."""
_FIRST_PERIOD_S, _LAST_PERIOD_S = 30.0, 300.0
"""Seconds after a trial before the next, at most; they double: a trial while everything starts is the least sure."""


def thread_candidates(cores: int, planned: int) -> list[int]:
    """All cores; what was planned beside workers; half of that, for a trunk too small to use more.

    Example:
        >>> thread_candidates(cores=2, planned=1), thread_candidates(cores=16, planned=12)
        ([1, 2], [6, 12, 16])
    """
    return sorted({cores, min(planned, cores), max(1, min(planned, cores) // 2)})


def loader_threads(cores: int) -> int:
    """CPU threads that prepare batches beside a trunk on the CPU: more would spin on the trunk's cores.

    Example:
        >>> loader_threads(cores=2), loader_threads(cores=16)
        (1, 4)
    """
    return max(1, cores // 4)


class ThreadTuner:
    """Sets torch's number of threads as steps go by: tries every candidate on real steps, keeps the fastest.

    The threads of a convolution spin at barriers until the last one arrives, so that a worker which takes a core from
    one of them stalls all. But workers with few negatives beside a trunk on the CPU rest most of the time, and then
    cores that are left to them lie idle. How often they collide is known by measurement only, and it changes with the
    number of workers, of negatives, and with other programs: a trial is repeated when steps have become much longer,
    half a minute after that or after the start, and then ever more rarely, down to every five minutes. It costs no
    step, only the difference between candidates: one has no more turns in a trial once a step of it took far longer,
    and a single step in later trials if it had lost by far. Full batches alone are timed; a trial that meets too few
    of them ends early, and changes nothing if a candidate was not timed.

    Args:
        candidates: numbers of threads, from `thread_candidates`.
        tell: takes remarks for people.

    Example:
        >>> tuner = ThreadTuner([1], print)
        >>> tuner.begin_step()
        >>> tuner.end_step(load_s=0.001, is_full=True)
        >>> tuner.threads
        1
    """

    def __init__(self, candidates: Sequence[int], tell: Callable[[str], None]) -> None:
        self._candidates, self._tell = list(candidates), tell
        self.threads = candidates[-1]
        """What the latest trial found; before the first one, the last candidate."""
        self._told: int | None = None
        self._trial: deque[tuple[int, bool]] = deque()
        self._num_unjudged = 0
        self._step_s: dict[int, list[float]] = {}
        self._losers: set[int] = set()
        self._watched: deque[float] = deque(maxlen=_WATCHED_STEPS)
        self._expected_s, self._period_s = math.inf, _FIRST_PERIOD_S
        self._trial_start_s = self._settled_s = self._start_s = time.perf_counter()
        if len(self._candidates) > 1:
            self._try_all()

    def begin_step(self) -> None:
        """The trunk starts a step."""
        torch.set_num_threads(self._trial[0][0] if self._trial else self.threads)
        self._start_s = time.perf_counter()

    def end_step(self, *, load_s: float, is_full: bool) -> None:
        """Take in a step.

        Args:
            load_s: seconds that the trunk waited for its batch: its threads may keep those that prepare it from cores.
            is_full: whether the batch had its full size; others say nothing.
        """
        now_s = time.perf_counter()
        if len(self._candidates) == 1:
            return
        if not is_full:
            self._pass_over(now_s)
            return
        step_s = now_s - self._start_s + load_s
        if not self._trial:
            self._watch(step_s, now_s)
            return
        threads, is_timed = self._trial.popleft()
        is_first_trial = self._told is None  # in which a candidate's first step may take long for good
        if is_timed or (not is_first_trial and self._is_hopeless(threads, step_s)):
            self._step_s[threads].append(step_s)
            self._leave_out_hopeless()
        if not self._trial:
            self._settle(now_s)

    def _pass_over(self, now_s: float) -> None:
        self._num_unjudged += 1
        if self._trial and self._num_unjudged >= _MOST_UNJUDGED:
            self._trial.clear()
            self._settle(now_s)

    def _try_all(self) -> None:
        self._num_unjudged = 0
        self._step_s = {threads: [] for threads in self._candidates}
        self._trial_start_s = time.perf_counter()
        present_first = sorted(self._candidates, key=lambda threads: threads != self._told)  # others are held to it
        for _, threads in itertools.product(range(_ROUNDS), present_first):
            self._trial += [(threads, False), (threads, True)]  # in the first, threads start and kernels are chosen

    def _leave_out_hopeless(self) -> None:
        """Candidates that took far longer than the best have no more turns; nor has the only one that is left."""
        hopeful = [t for t, step_s in self._step_s.items() if not self._is_hopeless(t, max(step_s, default=0.0))]
        self._trial = deque(turn for turn in self._trial if turn[0] in hopeful and len(hopeful) > 1)

    def _is_hopeless(self, threads: int, step_s: float) -> bool:
        """Whether a step took too long for its candidate to win, by the best of this trial so far."""
        best_s = min((min(timed_s) for timed_s in self._step_s.values() if timed_s), default=math.inf)
        return _is_far_slower(step_s, best_s) or (threads in self._losers and step_s > _LOST * best_s)

    def _settle(self, now_s: float) -> None:
        self._settled_s = now_s
        self._watched.clear()
        if not all(self._step_s.values()):  # a candidate without a timed step may be the fastest: all stays as it was
            return
        median_s = {threads: statistics.median(step_s) for threads, step_s in self._step_s.items()}
        fastest = min(median_s, key=lambda threads: median_s[threads])
        if self._told is None or median_s[fastest] < _GAIN * median_s[self.threads]:
            self.threads = fastest
        self._losers = {threads for threads, s in median_s.items() if s > _LOST * median_s[fastest]}
        self._expected_s = median_s[self.threads]
        if self.threads != self._told:
            self._told = self.threads
            figures = ", ".join(f"{threads}: {1000 * s:.0f} ms" for threads, s in median_s.items())
            self._tell(f"trunk threads: {self.threads}, the fastest by step ({figures})")

    def _watch(self, step_s: float, now_s: float) -> None:
        self._watched.append(step_s)
        rested_s, trial_s = now_s - self._settled_s, self._settled_s - self._trial_start_s
        is_full = len(self._watched) == _WATCHED_STEPS
        has_slowed = is_full and statistics.median(self._watched) > _SLOWER * self._expected_s
        is_stuck = _is_far_slower(step_s, self._expected_s)  # or its batch was late: no trial each time
        if (has_slowed and rested_s > max(_REST_S, trial_s)) or (is_stuck and rested_s > _LEAST_REST * trial_s):
            self._period_s = _FIRST_PERIOD_S
            self._try_all()
        elif rested_s > max(self._period_s, _LEAST_REST * trial_s):
            self._period_s = min(2 * self._period_s, _LAST_PERIOD_S)
            self._try_all()


def _is_far_slower(step_s: float, than_s: float) -> bool:
    return step_s > max(_FAR_SLOWER * than_s, _LONG_S)


def make_thread_tuner(tell: Callable[[str], None]) -> ThreadTuner:
    """For a trunk on the CPU of this machine; torch's present number of threads is what was planned for it."""
    return ThreadTuner(thread_candidates(available_cores(), torch.get_num_threads()), tell)
