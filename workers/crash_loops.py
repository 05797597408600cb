"""Workers that die without having served a chunk: when there is no hope, and how long a place waits for its next one.

If no worker of the pool serves anything, or is ready to, while one after the other dies, the pool gives up. If others
work on, or could, only the place that they die in is at fault: its successors start after longer and longer pauses,
since what kills them (files of two versions, memory that is short) may be mended meanwhile.
"""

from collections import Counter, deque

import numpy as np

WINDOW_S = 60.0
_DEATHS = 4  # of the pool; and one more per worker
_DEATHS_WITHOUT_PAUSE = 5  # in one place, in a row
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class CrashLoops:
    """Deaths within the last minute, of all places; and how many there were in a row in each."""

    def __init__(self, num_places: int) -> None:
        self._seen_W = np.zeros(num_places, np.int64)
        self._num_served = 0
        self._deaths_s: deque[float] = deque()
        self._in_a_row: Counter[int] = Counter()

    def note_death(self, index: int, served_W: np.ndarray, now_s: float) -> None:
        """Count a death.

        Args:
            index: of the place where it was.
            served_W: int64 [places], how many chunks each place has served by now.
            now_s: by any clock that goes on.
        """
        served = int(served_W.sum())
        if served > self._num_served:
            self._deaths_s.clear()
            self._num_served = served
        self._deaths_s.append(now_s)
        while now_s - self._deaths_s[0] > WINDOW_S:
            self._deaths_s.popleft()
        has_served = served_W[index] > self._seen_W[index]
        self._seen_W[index] = served_W[index]
        self._in_a_row[index] = 1 if has_served else self._in_a_row[index] + 1

    def num_hopeless(self, num_workers: int) -> int:
        """How many died within the window, if they are too many for a pool of so many others; else 0.

        Others that are ready serve nothing while they are asked nothing: there is hope as long as one of them lives.
        """
        num_deaths = len(self._deaths_s)
        return num_deaths if num_deaths > _DEATHS + num_workers + 1 else 0

    def pause_s(self, index: int) -> float:
        """Seconds to wait before the next worker is started in this place."""
        excess = self._in_a_row[index] - _DEATHS_WITHOUT_PAUSE
        return 0.0 if excess <= 0 else min(_FIRST_PAUSE_S * 2.0 ** (excess - 1), _LONGEST_PAUSE_S)
