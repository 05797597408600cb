"""What the suite of cut batches shows."""

import time
from types import SimpleNamespace

import pytest

from benchmarks.cut_batches import NAME, Steps, measurements
from benchmarks.turns import Round, Sample, Turns


def test_whole_batches_are_ahead_by_the_time_that_halves_take_longer():
    samples = {"whole": Sample(2.0, 20, 1.0), "halves": Sample(2.2, 20, 1.0)}
    turns = Turns([Round(samples, 0.0, "")] * 9, wanted=9)
    ratio, whole, halves = measurements(turns, {"whole": [3.0, 4.0, 9.0], "halves": [0.0]}, {"workers": 2})
    assert ratio.name == NAME and ratio.values == pytest.approx([1.1] * 9) and ratio.samples["facts"] == {"workers": 2}
    assert (whole.values[0], halves.values[0]) == pytest.approx((100, 110))
    assert "waited 4.0 ms" in whole.what and "waited 0.0 ms" in halves.what


def test_a_round_counts_the_steps_that_were_made_in_it():
    def step(images, items):
        time.sleep(0.001)
        return SimpleNamespace(wait_s=0.002)

    trainer = SimpleNamespace(threads="tuned", budget=SimpleNamespace(start=lambda: None), step=step)
    steps = Steps(trainer, batch_size=4, side=8)
    steps.step()
    steps.begin(0.02)
    sample = steps.end()
    assert sample.units == len(steps.wait_ms) - 1 and sample.seconds >= 0.02 and steps.wait_ms[0] == 2.0
    assert trainer.threads is None  # or its trials would be timed
