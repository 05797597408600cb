"""The trunk's number of threads: the fastest of real steps, tried again when the machine changes."""

import itertools
import os
import subprocess
import sys

import pytest
import torch

from hybrid.head import WideHead
from hybrid.thread_tuner import ThreadTuner, thread_candidates
from hybrid.trainer import Trainer
from launch.config import TrainConfig


@pytest.fixture(autouse=True)
def threads_are_restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Machine:
    """A clock that steps move on, by seconds that depend on the number of threads."""

    def __init__(self, monkeypatch, seconds):
        self.now_s, self.seconds, self.used, self.told = 0.0, seconds, [], []
        monkeypatch.setattr("hybrid.thread_tuner.time.perf_counter", lambda: self.now_s)

    def step(self, tuner, *, load_s=0.0, is_full=True):
        tuner.begin_step()
        self.used.append(torch.get_num_threads())
        self.now_s += self.seconds[torch.get_num_threads()]
        tuner.end_step(load_s=load_s, is_full=is_full)

    def step_until(self, tuner, threads, at_most):
        for _ in range(at_most):
            self.step(tuner)
            if self.used[-3:] == [threads] * 3:  # a trial uses each candidate twice in a row
                return
        raise AssertionError(f"{threads} threads were not chosen: {self.used}")


def test_the_candidate_with_the_shortest_steps_is_kept(monkeypatch):
    machine = Machine(monkeypatch, {1: 5.0, 2: 1.0, 3: 9.0})
    tuner = ThreadTuner([1, 2, 3], machine.told.append)
    for _ in range(30):
        machine.step(tuner)
    assert set(machine.used[:18]) == {1, 2, 3} and set(machine.used[18:]) == {2} and tuner.threads == 2
    assert machine.told == ["trunk threads: 2, the fastest by step (1: 5000 ms, 2: 1000 ms, 3: 9000 ms)"]


def test_the_first_step_after_a_change_of_threads_is_not_judged(monkeypatch):
    machine = Machine(monkeypatch, {1: 2.0, 2: 1.0})
    tuner = ThreadTuner([1, 2], machine.told.append)
    last = None
    for _ in range(12):
        tuner.begin_step()
        threads = torch.get_num_threads()
        machine.now_s += machine.seconds[threads] + (50.0 if threads == 2 != last else 0.0)  # a team of threads starts
        last = threads
        tuner.end_step(load_s=0.0, is_full=True)
    assert tuner.threads == 2


def test_the_wait_for_batches_counts_against_the_threads_that_cause_it(monkeypatch):
    machine = Machine(monkeypatch, {1: 1.2, 2: 1.0})
    tuner = ThreadTuner([1, 2], machine.told.append)
    for threads in itertools.islice(itertools.cycle([1, 1, 2, 2]), 12):
        machine.step(tuner, load_s=0.5 if threads == 2 else 0.0)
    assert tuner.threads == 1


def test_steps_on_smaller_batches_say_nothing(monkeypatch):
    machine = Machine(monkeypatch, {1: 1.0, 2: 3.0})
    tuner = ThreadTuner([1, 2], machine.told.append)
    for _ in range(20):
        machine.step(tuner, is_full=False)
    assert not machine.told
    for _ in range(12):
        machine.step(tuner)
    assert tuner.threads == 1 and machine.told


def test_a_trial_that_meets_no_more_full_batches_is_given_up(monkeypatch):
    """Where batches vary in size, the first one may be the largest of all."""
    machine = Machine(monkeypatch, {1: 9.0, 2: 1.0})
    tuner = ThreadTuner([1, 2], machine.told.append)
    machine.step(tuner)
    for _ in range(200):
        machine.step(tuner, is_full=False)
    assert machine.used.count(1) <= 41 and set(machine.used[41:]) == {2}
    assert tuner.threads == 2 and not machine.told, "nothing was measured"
    while not machine.told and len(machine.used) < 10_000:  # a later trial, after a rest, meets enough of them
        machine.step(tuner)
    assert tuner.threads == 2 and machine.told


@pytest.mark.parametrize("every", [2, 5, 10])
def test_the_fastest_is_found_where_a_few_batches_are_full(monkeypatch, every):
    machine = Machine(monkeypatch, {1: 0.1, 2: 0.2, 3: 0.3} if every < 10 else {1: 0.1, 2: 0.2})
    tuner = ThreadTuner(list(machine.seconds), machine.told.append)
    for i in range(3000):
        machine.step(tuner, is_full=i % every == 0)
    assert tuner.threads == 1 and machine.told
    assert set(machine.used[100:200]) == {1}, "a trial ends"


def test_a_trial_that_is_given_up_keeps_what_an_earlier_one_found(monkeypatch):
    machine = Machine(monkeypatch, {1: 1.0, 2: 3.0})
    tuner = ThreadTuner([1, 2], machine.told.append)
    for _ in range(20):
        machine.step(tuner)
    while machine.used[-1] == 1 and len(machine.used) < 10_000:  # until the next trial has come to two threads
        machine.step(tuner)
    assert machine.used[-1] == 2
    for _ in range(200):
        machine.step(tuner, is_full=False)
    assert set(machine.used[-150:]) == {1} and len(machine.told) == 1
    machine.seconds[1] = 100.0
    machine.step_until(tuner, threads=2, at_most=100)


def test_a_machine_that_becomes_busy_is_measured_again_and_so_is_one_that_becomes_free(monkeypatch):
    machine = Machine(monkeypatch, {1: 2.0, 2: 1.0})
    tuner = ThreadTuner([1, 2], machine.told.append)
    machine.step_until(tuner, threads=2, at_most=20)
    for _ in range(30):
        machine.step(tuner)
    machine.seconds[2] = 30.0  # somebody else takes a core, and the threads wait for each other
    machine.step_until(tuner, threads=1, at_most=30)
    machine.seconds[2] = 1.0  # nothing that one thread would notice
    machine.step_until(tuner, threads=2, at_most=1500)
    assert len(machine.told) == 3


def test_one_step_that_is_far_slower_is_enough_and_no_candidate_repeats_it(monkeypatch):
    """Beside a second run, spinning threads make steps of ten seconds: they must not be waited for nine times."""
    machine = Machine(monkeypatch, {1: 0.15, 2: 0.1})
    tuner = ThreadTuner([1, 2], machine.told.append)
    for _ in range(200):  # a trial, and a rest of ten times its length
        machine.step(tuner)
    busy_s, machine.seconds = machine.now_s, {1: 0.2, 2: 10.0}
    while machine.used[-6:] != [1] * 6:
        machine.step(tuner)
    assert machine.now_s - busy_s < 3 * 10.0 + 2, "one that tells, and the candidate's untimed and timed turn"
    free_s, machine.seconds = machine.now_s, {1: 0.15, 2: 0.1}
    machine.step_until(tuner, threads=2, at_most=10_000)
    assert machine.now_s - free_s < 10 * 21, "a pause of ten times the trial's length, which was of those slow steps"


def test_a_candidate_that_cannot_win_has_no_more_turns_after_the_step_that_tells(monkeypatch):
    machine = Machine(monkeypatch, {1: 2.0, 2: 7.0})
    tuner = ThreadTuner([1, 2], machine.told.append)
    while not machine.told:
        machine.step(tuner)
    assert machine.used.count(2) == 2 and tuner.threads == 1, "the first step ever on two threads says nothing"


def test_what_was_a_close_second_and_is_far_slower_now_costs_one_step_of_a_later_trial(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.15, 2: 0.1})
    tuner = ThreadTuner([1, 2], machine.told.append)
    machine.step_until(tuner, threads=2, at_most=20)
    num_steps, machine.seconds[1] = len(machine.used), 7.0
    for _ in range(600):  # the next trial, and a rest of ten times its length
        machine.step(tuner)
    assert machine.used[num_steps:].count(1) == 1


def test_a_candidate_that_lost_by_far_is_tried_again_by_single_steps(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.9, 2: 0.15})
    tuner = ThreadTuner([1, 2], machine.told.append)
    machine.step_until(tuner, threads=2, at_most=20)
    num_steps, settled_s = len(machine.used), machine.now_s
    while machine.now_s - settled_s < 1000:
        machine.step(tuner)
    later = machine.used[num_steps:]
    assert 4 <= later.count(1) <= 6 and (1, 1) not in itertools.pairwise(later), "after 30 s, 60 s, 120 s, ..."


def test_a_candidate_that_lost_by_far_has_all_its_turns_again_once_a_step_of_it_is_short(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.9, 2: 0.15})
    tuner = ThreadTuner([1, 2], machine.told.append)
    machine.step_until(tuner, threads=2, at_most=20)
    machine.seconds[1] = 0.16
    num_steps = len(machine.used)
    while machine.used[-1] == 2:
        machine.step(tuner)
    for _ in range(20):
        machine.step(tuner)
    assert machine.used[num_steps:].count(1) == 6 and tuner.threads == 2
    machine.seconds[1] = 0.1
    machine.step_until(tuner, threads=1, at_most=2000)


def test_what_lost_by_far_wins_when_the_present_number_becomes_slower_still(monkeypatch):
    """Held to how long steps take now, not to what they took when it lost."""
    machine = Machine(monkeypatch, {1: 0.4, 2: 0.1})
    tuner = ThreadTuner([1, 2], machine.told.append)
    for _ in range(400):
        machine.step(tuner)
    busy_s, machine.seconds[2] = machine.now_s, 10.0
    machine.step_until(tuner, threads=1, at_most=20)
    assert machine.now_s - busy_s < 3 * 10.0 + 6 * 0.4


def test_batches_that_are_late_now_and_then_do_not_keep_trials_going(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.2, 2: 0.1})
    tuner = ThreadTuner([1, 2], machine.told.append)
    for i in range(2000):
        machine.step(tuner, load_s=3.0 if i % 10 == 9 else 0.0)
    assert machine.used.count(1) < 2000 / 10


def test_a_hiccup_of_a_short_step_calls_for_no_trial(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.2, 2: 0.1})
    tuner = ThreadTuner([1, 2], machine.told.append)
    for _ in range(60):  # a trial, and some rest
        machine.step(tuner)
    machine.seconds[2] = 0.9
    machine.step(tuner)
    machine.seconds[2] = 0.1
    num_steps = len(machine.used)
    for _ in range(50):
        machine.step(tuner)
    assert set(machine.used[num_steps:]) == {2}


def test_a_steady_machine_is_asked_ever_more_rarely(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.2, 2: 0.1})
    tuner = ThreadTuner([1, 2], machine.told.append)
    while machine.now_s < 3000:
        machine.step(tuner)
    trials_s = trial_starts_s(machine)
    pauses_s = [later - sooner for sooner, later in itertools.pairwise(trials_s)]
    trial_s = 3 * 2 * (0.2 + 0.1)
    assert [round(pause_s - trial_s) for pause_s in pauses_s[:5]] == pytest.approx([30, 60, 120, 240, 300], abs=1)
    assert max(pauses_s) < 300 + trial_s + 3
    assert len(machine.told) == 1, "what did not change is not told again"


def trial_starts_s(machine):
    """When one thread, which is never the fastest here, was used after a while in which it was not."""
    found, now_s, last_s = [], 0.0, -100.0
    for threads in machine.used:
        if threads == 1:
            if now_s - last_s > 20:
                found.append(now_s)
            last_s = now_s
        now_s += machine.seconds[threads]
    return found


def test_a_first_trial_that_was_disturbed_is_soon_made_good(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.2, 2: 0.9})
    tuner = ThreadTuner([1, 2], machine.told.append)
    machine.step_until(tuner, threads=1, at_most=20)
    settled_s, machine.seconds[2] = machine.now_s, 0.1
    machine.step_until(tuner, threads=2, at_most=1000)
    assert machine.now_s - settled_s < 90


def test_a_gain_within_noise_changes_nothing(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.2, 2: 0.1})
    tuner = ThreadTuner([1, 2], machine.told.append)
    machine.step_until(tuner, threads=2, at_most=20)
    machine.seconds = {1: 0.097, 2: 0.1}
    for _ in range(2000):
        machine.step(tuner)
    assert tuner.threads == 2 and len(machine.told) == 1
    machine.seconds = {1: 0.09, 2: 0.1}
    machine.step_until(tuner, threads=1, at_most=4000)


def test_trials_of_a_slow_trunk_are_far_apart(monkeypatch):
    machine = Machine(monkeypatch, {1: 30.0, 2: 20.0})
    tuner = ThreadTuner([1, 2], machine.told.append)
    for _ in range(1000):
        machine.step(tuner)
    assert machine.used.count(1) < 60, "at most a trial in ten times its length"


def test_a_single_candidate_needs_no_trial(monkeypatch):
    machine = Machine(monkeypatch, {1: 1.0, 3: 1.0})
    tuner = ThreadTuner([3], machine.told.append)
    for _ in range(400):
        machine.step(tuner)
    assert set(machine.used) == {3} and not machine.told


@pytest.mark.parametrize(
    ("cores", "planned", "candidates"),
    [(1, 1, [1]), (1, 4, [1]), (2, 1, [1, 2]), (2, 2, [1, 2]), (16, 8, [4, 8, 16]), (64, 48, [24, 48, 64])],
)
def test_candidates_reach_from_half_of_what_workers_leave_to_all_cores(cores, planned, candidates):
    assert thread_candidates(cores, planned) == candidates


def test_a_trainer_tries_threads_on_its_own_steps():
    told = []
    trunk = torch.nn.Linear(6, 8)
    batch = (torch.randn(4, 6), [[1], [2, 3], [0], [9]])
    with WideHead(num_tags=10, dim=8, workers=1, negatives=4) as head:
        threads = ThreadTuner([1, 2], told.append)
        config = TrainConfig(batch_size=4, epochs=100)
        trainer = Trainer(trunk, head, config, num_items=4, device="cpu", threads=threads)
        for _ in range(12):
            trainer.step(*batch)
    assert len(told) == 1 and threads.threads in (1, 2)
    assert trainer.progress.step == 12, "trials are steps of the training"


def test_a_pinned_trunk_tries_no_more_threads_than_it_has_cores():
    program = (
        "import os\n"
        "from hybrid.thread_tuner import make_thread_tuner\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "tuner = make_thread_tuner(print)\n"
        "tuner.begin_step()\n"
        "print(tuner.threads)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
