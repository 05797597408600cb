"""Rounds, ratios, verdicts: the pure parts of the benchmarks, and contestants that run, fail and die."""

import os
import signal
import subprocess
import sys

import pytest
from scripted_trunk import ROOT
from worker_system import wait_for_exit

from benchmarks.contestant_process import ContestantLost, LocalContestant, ProcessContestant
from benchmarks.gates import GATES, HIGHER, LOWER, gates_of
from benchmarks.machine_load import machine_busy_s
from benchmarks.measurement import MIN_ROUNDS, NO_GATE, NOT_MEASURED, OK, SHORT, Floor, Measurement, judge
from benchmarks.process_memory import process_tree
from benchmarks.progress import Progress
from benchmarks.spread import spread_of
from benchmarks.turns import Round, Sample, Together, Turns, take_turns

AT_LEAST_1_5 = GATES["two_workers"]
AT_MOST_1_1 = GATES["step_over_kernel"]
MODULE = "tests.counting_contestant"


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


@pytest.mark.parametrize(
    ("gate", "values", "verdict", "says"),
    [
        (AT_LEAST_1_5, [1.6] * 9, OK, ""),
        (AT_LEAST_1_5, [1.9] * 9, OK, "ambition"),
        (AT_LEAST_1_5, [1.5] * 9, OK, ""),
        (AT_LEAST_1_5, [1.4] * 9, SHORT, "93%"),
        (AT_MOST_1_1, [0.99] * 3 + [1.05] * 6, NOT_MEASURED, "which cannot be"),
        (AT_MOST_1_1, [0.99] * 2 + [1.05] * 7, OK, ""),
        (AT_MOST_1_1, [1.05] * 9, OK, ""),
        (AT_MOST_1_1, [1.02] * 9, OK, "ambition"),
        (AT_MOST_1_1, [1.2] * 9, SHORT, "92%"),
        (AT_LEAST_1_5, [9.0] * 8, NOT_MEASURED, "8 rounds"),
        (AT_LEAST_1_5, [], NOT_MEASURED, "no round"),
        (AT_LEAST_1_5, [1.0] * 5 + [2.0] * 4, NOT_MEASURED, "straddle"),
        (AT_LEAST_1_5, [1.47, 1.48, 1.49, 1.5, 1.51, 1.52, 1.53, 1.54, 1.55], OK, ""),
        (None, [3.0] * 9, NO_GATE, ""),
    ],
)
def test_a_verdict_follows_from_direction_median_rounds_and_spread(gate, values, verdict, says):
    assert judge(gate, values, "")[0] == verdict
    assert says in judge(gate, values, "")[1]


def test_a_miss_says_where_the_machine_itself_is_short_of_the_gate_and_stays_a_miss():
    slow, ours = [1.4] * 9, [1.0] * 9
    turns = turns_of(slow, ours)
    for floor_s, is_out_of_reach in ((0.95, True), (0.5, False)):
        for round_ in turns.rounds:
            round_.samples["bare"] = Sample(floor_s, 1e6, 1.0)
        measured = Measurement.ratio("two_workers", turns, over="slow", under="fast", floor=Floor("bare", "bare work"))
        verdict, why = measured.verdict()
        assert verdict == SHORT and why.startswith("93% of the way")
        assert ("out of reach here: bare work alone would give 1.47x" in why) == is_out_of_reach
        assert measured.as_json()["limit"]["value"] == pytest.approx(1.4 / floor_s)
    assert Measurement.ratio("two_workers", turns, over="slow", under="fast").as_json()["limit"] is None
    with pytest.raises(AssertionError):
        Measurement.ratio("step_over_kernel", turns, over="slow", under="fast", floor=Floor("bare", "bare work"))


def test_a_complaint_is_never_a_miss():
    assert judge(AT_LEAST_1_5, [0.1] * 9, "busy machine") == (NOT_MEASURED, "busy machine")


def test_a_ratio_is_taken_within_each_round_and_its_median_is_judged():
    slow, fast = [2.0, 30.0, 2.0], [1.0, 10.0, 0.5]
    measured = Measurement.ratio("anything", turns_of(slow, fast), over="slow", under="fast", what="slow over fast")
    assert measured.values == [2.0, 3.0, 4.0] and measured.as_json()["value"] == 3.0
    assert [round_["samples"]["slow"]["seconds"] for round_ in measured.samples["rounds"]] == slow


def test_disturbed_rounds_stay_in_the_samples_and_out_of_the_values():
    turns = turns_of([2.0, 9.0], [1.0, 1.0], ["", "busy machine"])
    measured = Measurement.ratio("two_workers", turns, over="slow", under="fast")
    assert measured.values == [2.0] and len(measured.samples["rounds"]) == 2
    verdict, why = measured.verdict()
    assert verdict == NOT_MEASURED and "1 of 2 rounds counted: busy machine" in why


def test_rounds_after_several_starts_are_judged_together_and_those_missing_after_one_are_missed():
    whole, disturbed = turns_of([3.0] * 5, [1.0] * 5), turns_of([2.0] * 4, [1.0] * 4, ["busy"] + [""] * 3)
    joined = Turns.joined([whole, turns_of([2.0] * 4, [1.0] * 4)])
    measured = Measurement.ratio("two_workers", joined, over="slow", under="fast")
    assert measured.values == [3.0] * 5 + [2.0] * 4 and measured.verdict()[0] == OK
    measured = Measurement.ratio("two_workers", Turns.joined([whole, disturbed]), over="slow", under="fast")
    assert measured.verdict() == (NOT_MEASURED, "8 of 9 rounds counted: busy")


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


def test_a_disturbed_round_is_played_again(others_use):
    shares = [1.0, 0.5, 1.0, 1.0]  # the first warms up
    contestant = Scripted([], "a", [Sample(1.0, 1.0, share) for share in shares])
    turns = take_turns({"a": contestant}, rounds=2, round_s=0.01, progress=Progress())
    assert len(turns.rounds) == 3 and len(turns.counted) == 2 and turns.complaint == ""


def test_those_who_work_together_all_begin_before_one_ends_and_their_rates_add_up():
    log = []
    together = Together([Scripted(log, "a", [Sample(1.0, 10.0, 1.0)]), Scripted(log, "b", [Sample(3.0, 60.0, 0.9)])])
    together.begin(1.0)
    sample = together.end()
    assert log == ["a begins", "b begins", "a ends", "b ends"]
    assert sample.units / sample.seconds == pytest.approx(30.0) and sample.cpu_share == 0.9


def test_a_local_contestant_works_until_its_time_is_over():
    calls = []
    contestant = LocalContestant(lambda: calls.append(1) or 5.0)
    contestant.begin(0.02)
    sample = contestant.end()
    assert sample.units == 5.0 * len(calls) and sample.seconds >= 0.02


def test_a_process_persists_over_rounds_and_its_chatter_does_not_spoil_lines(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    with ProcessContestant(MODULE, {"mode": "noise", "units": 2}) as contestant:
        assert contestant.facts == {"blas": None, "threads": "1"}
        for _ in range(2):
            contestant.begin(0.01)
            assert contestant.end().units % 2 == 0
        assert contestant.process.poll() is None
    assert contestant.process.returncode == 0


@pytest.mark.parametrize(("mode", "says"), [("fail", "no such row"), ("die", "ended")])
def test_a_contestant_that_fails_or_dies_is_lost_at_once(mode, says):
    with ProcessContestant(MODULE, {"mode": mode, "units": 1}) as contestant:
        contestant.begin(0.01)
        with pytest.raises(ContestantLost, match=says):
            contestant.end()
    assert contestant.process.returncode is not None


def test_a_contestant_that_hangs_is_given_up_and_killed(monkeypatch):
    monkeypatch.setattr("benchmarks.contestant_process._ROUND_EXTRA_S", 0.1)
    monkeypatch.setattr("benchmarks.contestant_process._EXIT_LIMIT_S", 0.1)
    with ProcessContestant(MODULE, {"mode": "hang", "units": 1}) as contestant:
        contestant.begin(0.01)
        with pytest.raises(ContestantLost, match="no answer"):
            contestant.end()
    assert contestant.process.returncode == -signal.SIGKILL


def test_a_killed_benchmark_leaves_no_contestant_behind():
    script = (
        "from benchmarks.contestant_process import ProcessContestant\n"
        f"hung = ProcessContestant({MODULE!r}, {{'mode': 'hang', 'units': 1}})\n"
        "hung.begin(0.01)\n"
        "print(hung.process.pid, flush=True)\n"
        "hung.end()\n"
    )
    benchmark = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pid = int(benchmark.stdout.readline())
    benchmark.kill()
    benchmark.wait(20)
    assert wait_for_exit([pid]) == []
    benchmark.stdout.close()


def test_what_does_not_vary_is_judged_by_one_value():
    assert Measurement.value("bfloat16_memory", 0.5, "x").verdict()[0] == OK
    assert Measurement.value("bfloat16_memory", 0.6, "x").verdict()[0] == SHORT


def test_a_contestant_that_cannot_be_prepared_leaves_no_process():
    before = set(process_tree(os.getpid()))
    with pytest.raises(ContestantLost, match="no such library here"):
        ProcessContestant(MODULE, {"mode": "refuse"})
    assert set(process_tree(os.getpid())) == before
    with ProcessContestant(MODULE, {"mode": "count", "units": 1}) as contestant:
        assert set(process_tree(os.getpid())) == before | {contestant.process.pid}, "one that is there is seen"


def test_stolen_and_foreign_time_is_busy_and_waiting_is_not():
    ticks = os.sysconf("SC_CLK_TCK")
    stat = f"cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 {ticks} 0 {ticks} 500 500 0 0 {ticks} 77 0\ncpu1 {ticks} 0 0 0 0 0 0 0 0 0\n"
    assert machine_busy_s(stat, {"cpu0"}) == 3.0
    assert machine_busy_s(stat, {"cpu0", "cpu1"}) == 4.0


def test_spread_of_one_value_and_of_many():
    assert set(spread_of([2.0])) == {2.0}
    assert spread_of([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, 2.0, 4.0, 1.0, 5.0)


def test_gates_are_consistent():
    for gate in GATES.values():
        assert gate.direction in (HIGHER, LOWER)
        assert gate.holds(gate.ambition) and gate.holds(gate.gate)
    assert [gate.name for gate in gates_of("scaling", quick=True)] == ["two_workers", "two_workers_hot"]
    assert {gate.name for gate in gates_of("scaling", quick=False)} > {"two_workers", "two_workers_hot"}
    assert MIN_ROUNDS == 9
