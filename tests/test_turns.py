"""Which rounds count, in what order contestants work, when another round is played."""

import pytest
from scripted_turns import Scripted

from benchmarks.progress import Progress
from benchmarks.turns import Sample, Together, take_turns


@pytest.fixture
def others_use(monkeypatch):
    """Says how many cores other processes use, instead of the machine that runs the tests."""

    class Meter:
        cores = 0.0

        def start(self):
            pass

        def foreign_cores(self):
            return self.cores

    monkeypatch.setattr("benchmarks.turns.LoadMeter", Meter)
    return Meter


def test_contestants_turn_about_and_the_first_round_warms_up(others_use):
    log, sample = [], Sample(1.0, 1.0, 1.0)
    contestants = {name: Scripted(log, name, [sample] * 9) for name in "ab"}
    turns = take_turns(contestants, rounds=2, round_s=0.01, progress=Progress())
    assert len(turns.rounds) == len(turns.counted) == 2
    assert [line[0] for line in log[::2]] == ["a", "b", "a", "b", "b", "a"]


@pytest.mark.parametrize(
    ("share", "waits", "foreign", "says"),
    [
        (0.5, False, 0.0, "a had 50% of a core"),
        (0.5, True, 0.0, ""),
        (0.96, False, 0.1, ""),
        (1.0, False, 0.5, "others used 0.5 cores"),
        (1.0, True, 0.5, "others used 0.5 cores"),
    ],
)
def test_a_round_counts_only_if_nobody_else_had_the_cores(others_use, share, waits, foreign, says):
    others_use.cores = foreign
    contestant = Scripted([], "a", [Sample(1.0, 1.0, share)] * 9, is_always_busy=not waits)
    turns = take_turns({"a": contestant}, rounds=2, round_s=0.01, progress=Progress())
    assert all(says in round_.disturbance for round_ in turns.rounds)
    assert (len(turns.counted), len(turns.rounds)) == ((0, 6) if says else (2, 2))
    assert says in turns.complaint


def test_the_reason_that_is_told_is_the_commonest_whatever_its_numbers(others_use):
    """Not the last by the alphabet: one contestant lost its core once, others used cores four times."""
    shares = [1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0]  # the first warms up
    contestant = Scripted([], "z", [Sample(1.0, 1.0, share) for share in shares])
    others = iter([0.0, 0.4, 0.0, 0.5, 0.6, 0.7, 0.0])
    others_use.foreign_cores = lambda self: next(others)
    turns = take_turns({"z": contestant}, rounds=2, round_s=0.01, progress=Progress())
    assert [round_.disturbance for round_ in turns.rounds][1] == "busy machine, z had 50% of a core"
    assert turns.complaint == "1 of 2 rounds counted: busy machine, others used 0.7 cores"


def test_a_disturbed_round_is_played_again(others_use):
    shares = [1.0, 0.5, 1.0, 1.0]  # the first warms up
    contestant = Scripted([], "a", [Sample(1.0, 1.0, share) for share in shares])
    turns = take_turns({"a": contestant}, rounds=2, round_s=0.01, progress=Progress())
    assert len(turns.rounds) == 3 and len(turns.counted) == 2 and turns.complaint == ""


def test_a_round_in_which_more_code_was_faster_is_played_again(others_use):
    seconds = [1.0, 0.8, 1.0, 1.0]  # the first warms up
    more = Scripted([], "more", [Sample(s, 1.0, 1.0) for s in seconds])
    less = Scripted([], "less", [Sample(0.9, 1.0, 1.0)] * 4)
    contestants = {"more": more, "less": less}
    turns = take_turns(contestants, rounds=2, round_s=0.01, progress=Progress(), runs_more={"more": "less"})
    assert len(turns.counted) == 3 and turns.complaint == "", "it counts for all ratios but theirs"


def test_those_who_work_together_all_begin_before_one_ends_and_their_rates_add_up():
    log = []
    together = Together([Scripted(log, "a", [Sample(1.0, 10.0, 1.0)]), Scripted(log, "b", [Sample(3.0, 60.0, 0.9)])])
    together.begin(1.0)
    sample = together.end()
    assert log == ["a begins", "b begins", "a ends", "b ends"]
    assert sample.units / sample.seconds == pytest.approx(30.0) and sample.cpu_share == 0.9
