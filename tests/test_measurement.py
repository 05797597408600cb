"""Rounds, ratios, verdicts: the pure parts of the benchmarks, and contestants that run, fail and die."""

import os
import signal
import subprocess
import sys

import pytest
from scripted_trunk import ROOT, wait_until
from scripted_turns import turns_of
from worker_system import wait_for_exit

from benchmarks.contestant_process import ContestantLost, LocalContestant, ProcessContestant
from benchmarks.gates import GATES, HIGHER, LOWER, gates_of
from benchmarks.machine_load import cpu_s, machine_busy_s
from benchmarks.measurement import MIN_ROUNDS, NO_GATE, NOT_MEASURED, OK, SHORT, Floor, Measurement, judge
from benchmarks.pipeline_rig import Waiting
from benchmarks.pipeline_scaling import Stepping
from benchmarks.process_memory import process_tree
from benchmarks.spread import spread_of
from benchmarks.turns import Sample, Turns
from benchmarks.verdicts import judged_again
from benchmarks.wire import Wire

AT_LEAST_1_5 = GATES["two_workers"]
AT_MOST_1_1 = GATES["step_over_kernel"]
MODULE = "tests.counting_contestant"


@pytest.mark.parametrize(
    ("gate", "values", "verdict", "says"),
    [
        (AT_LEAST_1_5, [1.6] * 9, OK, ""),
        (AT_LEAST_1_5, [1.9] * 9, OK, "ambition"),
        (AT_LEAST_1_5, [1.5] * 9, OK, ""),
        (AT_LEAST_1_5, [1.4] * 9, SHORT, "93%"),
        (AT_MOST_1_1, [1.05] * 9, OK, ""),
        (AT_MOST_1_1, [1.02] * 9, OK, "ambition"),
        (AT_MOST_1_1, [1.2] * 9, SHORT, "92%"),
        (AT_LEAST_1_5, [9.0] * 8, NOT_MEASURED, "8 rounds"),
        (AT_LEAST_1_5, [], NOT_MEASURED, "no round"),
        (AT_LEAST_1_5, [1.0] * 5 + [2.0] * 4, NOT_MEASURED, "straddle"),
        (AT_LEAST_1_5, [1.47, 1.48, 1.49, 1.5, 1.51, 1.52, 1.53, 1.54, 1.55], OK, "on the edge"),
        (AT_LEAST_1_5, [1.45, 1.46, 1.47, 1.48, 1.49, 1.5, 1.51, 1.52, 1.53], SHORT, "99% of the way; on the edge"),
        (None, [3.0] * 9, NO_GATE, ""),
    ],
)
def test_a_verdict_follows_from_direction_median_rounds_and_spread(gate, values, verdict, says):
    assert judge(gate, values, "")[0] == verdict
    assert says in judge(gate, values, "")[1]
    assert ("on the edge" in says) == ("on the edge" in judge(gate, values, "")[1])


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


@pytest.mark.parametrize(
    ("impossible", "rounds", "verdict", "says"),
    [
        (4, 9, OK, "4 rounds left out: below 1, which cannot be"),
        (5, 9, NOT_MEASURED, "5 rounds left out"),
        (9, 9, NOT_MEASURED, "no round counted; 9 rounds left out"),
        (3, 8, NOT_MEASURED, "3 rounds left out"),
        (3, 12, OK, "3 rounds left out"),
    ],
)
def test_what_cannot_be_counts_as_disturbed_for_its_own_ratio_alone(impossible, rounds, verdict, says):
    slow_s = [0.9] * impossible + [1.09] * (rounds - impossible)
    turns = turns_of(slow_s, [1.0] * rounds)
    measured = Measurement.ratio("step_over_kernel", turns, over="slow", under="fast")
    assert measured.values == [1.09] * (rounds - impossible), "a median of all would be another"
    assert (measured.verdict()[0], says in measured.verdict()[1]) == (verdict, True)
    assert measured.as_json()["left_out"] == impossible and len(measured.samples["rounds"]) == rounds
    other = Measurement.ratio("adagrad_over_sgd", turns, over="slow", under="fast")
    assert other.left_out == 0 and len(other.values) == rounds


def test_a_record_that_still_holds_what_cannot_be_is_judged_without_it():
    kept = Measurement.ratio("step_over_kernel", turns_of([1.09] * 9, [1.0] * 9), over="slow", under="fast").as_json()
    old = {**kept, "values": [0.9] * 4 + [1.2] * 5, "value": 1.2}
    del old["left_out"]
    again = judged_again(old)
    assert again["verdict"] == SHORT and again["spread"]["smallest"] == again["value"] == 1.2
    assert "4 rounds left out" in again["reason"] and again["rounds"] == 5
    assert judged_again(kept) == kept


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


@pytest.mark.parametrize(
    ("mode", "threads", "child_s"), [("child computes", 1, 0.1), ("child computes", 2, 0.1), ("child waits", 1, 0.0)]
)
def test_what_a_contestants_processes_compute_is_its_share_of_the_cores(mode, threads, child_s):
    """A rival that computes in processes of its own is held to its cores as ours is.

    On a busy machine they get less than a core, so the share is held to what they got, by a look within the round and
    by one around it.
    """
    with ProcessContestant(MODULE, {"mode": mode, "units": 1}, busy_threads=threads) as contestant:
        itself, child = process_tree(contestant.process.pid)
        before_s = cpu_s(itself) + cpu_s(child)
        contestant.begin(0.3)
        begun_s = cpu_s(child)
        wait_until(lambda: cpu_s(child) >= begun_s + child_s, "the child to compute")
        at_least_s = cpu_s(child) - begun_s
        sample = contestant.end()
        at_most_s = cpu_s(itself) + cpu_s(child) - before_s
    assert at_least_s <= sample.cpu_share * sample.seconds * threads <= at_most_s


def test_only_what_waits_by_nature_is_exempt_from_its_share_of_the_cores():
    classes = (LocalContestant, ProcessContestant, Wire, Waiting, Stepping)
    assert [made.__name__ for made in classes if not made.is_always_busy] == ["Wire", "Waiting", "Stepping"]


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
    benchmark.wait(60)
    assert wait_for_exit([pid]) == []
    benchmark.stdout.close()


def test_what_does_not_vary_is_judged_by_one_value():
    assert Measurement.value("bfloat16_memory", 0.5, "x").verdict()[0] == OK
    assert Measurement.value("bfloat16_memory", 0.6, "x").verdict()[0] == SHORT


def test_a_contestant_that_cannot_be_prepared_leaves_no_process():
    before = set(process_tree(os.getpid()))
    with pytest.raises(ContestantLost, match="no such library here"):
        ProcessContestant(MODULE, {"mode": "refuse"})
    assert set(process_tree(os.getpid())) <= before
    with ProcessContestant(MODULE, {"mode": "count", "units": 1}) as contestant:
        assert set(process_tree(os.getpid())) - before == {contestant.process.pid}, "one that is there is seen"


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
