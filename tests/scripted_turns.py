"""Turns whose samples are given, for tests."""

from benchmarks.turns import Round, Sample, Turns


def turns_of(slow_s, fast_s, disturbances=None):
    """Rounds in which `slow` and `fast` do a million units each, in these seconds."""
    notes = disturbances or [""] * len(slow_s)
    return Turns(
        [
            Round({"slow": Sample(slow, 1e6, 1.0), "fast": Sample(fast, 1e6, 1.0)}, 0.0, note)
            for slow, fast, note in zip(slow_s, fast_s, notes, strict=True)
        ],
        wanted=len(slow_s),
    )


class Scripted:
    """A contestant whose samples are given."""

    def __init__(self, log, name, samples, is_always_busy=True):
        self.log, self.name, self.samples, self.is_always_busy = log, name, iter(samples), is_always_busy

    def begin(self, seconds):
        self.log.append(f"{self.name} begins")

    def end(self):
        self.log.append(f"{self.name} ends")
        return next(self.samples)
