"""The supervisor: whole runs of the launcher with real workers and a scripted trunk, ended in every way there is."""

import contextlib
import errno
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scripted_trunk import (
    LIMIT_S,
    PROGRAM,
    only_run,
    processes_of,
    run_launcher,
    signal_all,
    start_launcher,
    wait_until,
)

import launch.child
import launch.deep_process
import launch.supervisor
from launch.config import RunConfig, TrunkConfig
from launch.interruption import StoppedBeforeStart
from launch.placement import Placement
from launch.plain import describe_at_length
from launch.run_record import RunRecord, read_record, write_record
from launch.runs import create_run, is_alive
from launch.snapshot import Snapshot
from launch.supervisor import Supervisor
from launch.train import FAILED_STATUS, _supervise
from workers.cores import available_cores
from workers.errors import ConfigError, RunError, WorkerLost

TRAIN = ("train", "--workers", "1", "--dim", "8")
UNNEEDED = "workers die as fast as they are replaced, but none is needed any more"


@pytest.fixture
def started(tmp_path):
    """Starts launchers in tmp_path; whatever is left of them afterwards is ended."""
    launchers = []

    def start(*arguments, **script):
        launchers.append(start_launcher(tmp_path, *arguments, **script))
        return launchers[-1]

    yield start
    for launcher in launchers:
        launcher.kill()
        launcher.communicate()
    signal_all(tmp_path)


def training_run(folder):
    """The run directory, once its trunk makes steps and its launcher answers."""

    def find():
        run = only_run(folder)
        return run if run and (run / "run.json").is_file() and "resume" in log_of(run) else None

    return wait_until(find, "the trunk to start")


def log_of(run, name="trunk.log"):
    path = run / "log" / name
    return path.read_text() if path.is_file() else ""


def heard(run):
    path = run / "heard.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def assert_nothing_is_left(folder, run):
    wait_until(lambda: not processes_of(folder), "all processes to be gone")
    directory = read_record(run).control.removeprefix("ipc://").rpartition("/")[0]
    wait_until(lambda: not Path(directory).exists(), "the private directory to be gone")


def test_all_arrays_go_over_zeromq_if_wanted(tmp_path):
    result = run_launcher(tmp_path, *TRAIN, "--transport", "zmq", steps=2, router=True)
    assert result.returncode == 0, result.stderr
    assert "note: transport zmq: features and gradients go over ZeroMQ" in result.stdout


def test_a_run_from_start_to_report(tmp_path):
    result = run_launcher(tmp_path, *TRAIN, "--trunk-threads", "3", steps=5)
    run = only_run(tmp_path)
    assert result.returncode == 0, result.stderr
    assert "note: the scripted trunk has started" in result.stdout
    assert "note: transport ring: 256 chunks at a time pass through shared memory" in result.stdout
    assert "finished: step 5" in result.stdout
    assert "P@5" in result.stdout and "0.713" in result.stdout and "0.399" in result.stdout
    assert f"runs/{run.name}/gallery.html" in result.stdout
    assert f"hybrid search runs/{run.name} water" in result.stdout
    assert f"hybrid neighbours runs/{run.name} water" in result.stdout
    assert read_record(run).state == "finished"
    assert "threads 3, 3, resume None" in log_of(run)
    assert f"keeps memory up to {launch.child.TRUNK_MEMORY['MALLOC_TRIM_THRESHOLD_']}" in log_of(run)
    assert {path.name for path in (run / "log").iterdir()} == {
        "launcher.log",
        "prepare.log",
        "trunk.log",
        "worker-0.log",
    }
    assert_nothing_is_left(tmp_path, run)


@pytest.mark.slow
def test_with_json_standard_output_is_one_object(tmp_path):
    result = run_launcher(tmp_path, *TRAIN, "--json", steps=2)
    printed = json.loads(result.stdout)
    assert printed["state"] == "finished"
    assert printed["metrics"]["test"]["P@5"] == 0.713
    assert printed["run"] == str(only_run(tmp_path))
    assert "finished: step 2" in result.stderr


@pytest.mark.parametrize(
    ("end", "told"), [("crash", "ValueError: the trunk broke at its last step"), ("kill", "SIGKILL")]
)
def test_a_trunk_that_dies_ends_the_run_with_its_words_and_the_command_to_resume(tmp_path, end, told):
    result = run_launcher(tmp_path, *TRAIN, steps=3, end=end)
    run = only_run(tmp_path)
    assert result.returncode == 1
    assert told in result.stderr and "only news" not in result.stderr
    assert f"hybrid train --resume runs/{run.name}\n" in result.stderr
    assert read_record(run).state == "failed" and read_record(run).reason.startswith("trunk ")
    assert ("out-of-memory killer" in result.stderr) == (end == "kill")
    assert f"The reason: {read_record(run).reason}" in run_launcher(tmp_path, "status", "last").stdout.replace(
        "\n", " "
    )
    assert_nothing_is_left(tmp_path, run)


def test_a_trunk_that_cannot_even_load_ends_the_run_before_the_data_are_there(tmp_path):
    result = run_launcher(tmp_path, *TRAIN, end="broken", prepare="hang")
    assert result.returncode == 1
    assert "trunk ended with exit status 1" in result.stderr and "ImportError: torch is broken" in result.stderr
    assert_nothing_is_left(tmp_path, only_run(tmp_path))


def test_a_setting_that_the_trunk_refuses_ends_with_the_status_of_a_wrong_setting(tmp_path):
    result = run_launcher(tmp_path, *TRAIN, end="refuse", prepare="hang")
    assert result.returncode == 2
    assert result.stderr.startswith(
        "\nError: trunk.device = 'cuda', but torch finds no CUDA device.\n\nNothing was saved"
    )
    assert_nothing_is_left(tmp_path, only_run(tmp_path))


def test_a_trunk_that_cannot_be_told_to_begin_ends_the_run(tmp_path, monkeypatch):
    def refuse(assignment, connection):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    supervisor = make_supervisor(tmp_path, monkeypatch)
    monkeypatch.setattr(launch.deep_process.Assignment, "send", refuse)
    with pytest.raises(RunError, match="the trunk cannot be told to begin: Cannot allocate memory"):
        supervisor.run()
    assert read_record(supervisor.directory).state == "failed"
    assert_nothing_is_left_but_this(tmp_path)


def test_a_launcher_killed_while_data_are_prepared_leaves_nothing_behind(tmp_path, started):
    launcher = started(*TRAIN, prepare="hang")
    run = wait_until(lambda: only_run(tmp_path), "the run directory")
    wait_until((run / "prepare_hangs").exists, "the preparation to hang")
    assert sum(" train " in command for command in processes_of(tmp_path).values()) == 2  # launcher and waiting trunk
    launcher.kill()
    launcher.communicate()
    wait_until(lambda: not processes_of(tmp_path), "both processes to end")
    directory = Path(read_record(run).control.removeprefix("ipc://")).parent
    wait_until(lambda: not directory.exists(), "the private directory to be gone")
    assert read_record(run).state != "finished" and not is_alive(run)


def test_an_exported_number_of_threads_is_the_trunks(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    result = run_launcher(tmp_path, *TRAIN, steps=2)
    assert result.returncode == 0, result.stderr
    assert "note: trunk threads: 5, as OMP_NUM_THREADS says" in result.stdout
    assert "threads 5, 5, resume None" in log_of(only_run(tmp_path))


def test_the_trunk_gets_the_threads_that_are_left_when_workers_were_scaled_before_it_began(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch, steps=2)
    prepare = supervisor._prepare

    def prepare_and_scale(endpoints):
        prepare(endpoints)
        supervisor._answer_scale({"workers": 2})

    monkeypatch.setattr(supervisor, "_prepare", prepare_and_scale)
    monkeypatch.setattr(launch.supervisor, "place_run", lambda config, topology: Placement(threads=config.workers + 2))
    supervisor.run()
    assert "threads 3, 4, resume None" in log_of(supervisor.directory)


def slow_matrix(monkeypatch, on_serve):
    """Makes the matrix only when `on_serve(supervisor)`, called whenever the launcher serves meanwhile, says True."""
    make, serve, may_go = launch.supervisor.make_matrix, Supervisor._serve, threading.Event()

    def make_late(*arguments):
        assert may_go.wait(LIMIT_S), "nobody was served while the matrix was made"
        return make(*arguments)

    def serve_and_look(supervisor):
        serve(supervisor)
        if supervisor.snapshot.phase == "matrix" and on_serve(supervisor):
            may_go.set()

    monkeypatch.setattr(launch.supervisor, "make_matrix", make_late)
    monkeypatch.setattr(Supervisor, "_serve", serve_and_look)


def test_people_are_answered_while_the_matrix_is_made(tmp_path, monkeypatch):
    def scale(supervisor):
        return supervisor._answer_scale({"workers": 2})["workers"] == 2

    supervisor = make_supervisor(tmp_path, monkeypatch, steps=2)
    slow_matrix(monkeypatch, scale)
    monkeypatch.setattr(launch.supervisor, "place_run", lambda config, topology: Placement(threads=config.workers + 2))
    supervisor.run()
    assert "threads 3, 4, resume None" in log_of(supervisor.directory)
    assert_nothing_is_left_but_this(tmp_path)


def test_a_wish_to_stop_ends_a_run_whose_matrix_is_being_made(tmp_path, monkeypatch):
    def stop(supervisor):
        supervisor._answer_stop({})
        return False

    supervisor = make_supervisor(tmp_path, monkeypatch)
    slow_matrix(monkeypatch, stop)
    with pytest.raises(StoppedBeforeStart):
        supervisor.run()
    assert read_record(supervisor.directory).state == "stopped"
    assert_nothing_is_left_but_this(tmp_path)


def test_a_failed_preparation_is_told_in_its_own_words(tmp_path):
    result = run_launcher(tmp_path, *TRAIN, prepare="fail")
    assert result.returncode == 1
    assert "the registry cannot be reached; try again later" in result.stderr
    assert "Nothing was saved yet. To start again, with other options" in result.stderr
    assert_nothing_is_left(tmp_path, only_run(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_one_signal_finishes_the_step_saves_and_exits_in_order(tmp_path, started, number):
    launcher = started(*TRAIN)
    run = training_run(tmp_path)
    os.kill(launcher.pid, number)
    output, errors = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0, errors
    assert f"hybrid train --resume runs/{run.name}" in output and f"  hybrid evaluate runs/{run.name}\n" in output
    assert [message["kind"] for message in heard(run)] == ["stop"]
    assert read_record(run).state == "stopped"
    assert_nothing_is_left(tmp_path, run)


def test_a_second_ctrl_c_ends_everything_at_once(tmp_path, started):
    launcher = started(*TRAIN, end="hang")
    run = training_run(tmp_path)
    os.kill(launcher.pid, signal.SIGINT)
    wait_until(lambda: heard(run), "the trunk to hear the first")
    os.kill(launcher.pid, signal.SIGINT)
    _, errors = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 130
    assert "interrupted twice" in errors and "interrupted twice" in (run / "log" / "launcher.log").read_text()
    assert read_record(run).state == "failed"  # nothing was saved
    assert_nothing_is_left(tmp_path, run)


def test_ctrl_c_while_data_are_prepared_ends_the_run(tmp_path, started):
    launcher = started(*TRAIN, prepare="hang")
    run = wait_until(lambda: only_run(tmp_path), "the run directory")
    wait_until((run / "prepare_hangs").exists, "the preparation to hang")
    os.kill(launcher.pid, signal.SIGINT)
    _, errors = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 130
    assert "stopped before the first step" in errors
    assert read_record(run).state == "stopped"
    assert_nothing_is_left(tmp_path, run)


def test_stop_waits_until_the_run_has_saved_and_the_run_goes_on_from_there(tmp_path, started):
    launcher = started(*TRAIN)
    run = training_run(tmp_path)
    refused = run_launcher(tmp_path, "train", "--resume", "last")
    assert refused.returncode == 1
    assert "is alive" in refused.stderr
    assert json.loads(run_launcher(tmp_path, "stop", "last", "--json").stdout) == {"state": "stopped"}
    launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 0
    (first,) = (run / "checkpoints").iterdir()

    result = run_launcher(tmp_path, "train", "--resume", "last", steps=0)
    assert result.returncode == 0, result.stderr
    assert f"resume {first}" in log_of(run)
    saved, again = (np.load(run / "checkpoints" / n / "matrix/rows-00000.npy") for n in (first.name, "step-000000000"))
    assert saved[0, 0] == int(first.name.removeprefix("step-")) > 0
    np.testing.assert_array_equal(saved, again)
    assert "goes on" not in result.stderr
    assert read_record(run).state == "finished"


def test_a_resume_that_is_refused_leaves_state_start_and_settings_as_they_were(tmp_path, started):
    launcher = started(*TRAIN)
    run = training_run(tmp_path)
    assert run_launcher(tmp_path, "stop", "last").returncode == 0
    launcher.communicate(timeout=LIMIT_S)
    before, settings = read_record(run), (run / "config.toml").read_bytes()

    refused = run_launcher(tmp_path, "train", "--resume", "last", "--workers", "2", end="refuse", prepare="hang")
    assert refused.returncode == 2 and (run / "config.toml").read_bytes() == settings
    assert run_launcher(tmp_path, "train", "--resume", "last", prepare="fail").returncode == 1
    after = read_record(run)
    assert (after.state, after.started) == ("stopped", before.started)
    told = run_launcher(tmp_path, "status", "last").stdout
    assert "is not running: stopped. An attempt to go on with it failed, and left it as it was: prepare ended" in told
    known = json.loads(run_launcher(tmp_path, "status", "last", "--json").stdout)
    assert (known["state"], known["reason"]) == ("stopped", after.reason)


@pytest.mark.slow
def test_scaling_and_the_loss_of_a_worker_leave_the_run_alone(tmp_path, started):
    launcher = started(*TRAIN, router=True)
    run = training_run(tmp_path)

    def status():
        return json.loads(run_launcher(tmp_path, "status", "last", "--json").stdout)

    def names(*states):
        return sorted(w["name"] for w in status().get("workers", []) if w["state"] in states)

    def wait_for(*expected, states=("ready", "starting")):
        wait_until(lambda: names(*states) == list(expected), f"workers {expected}")

    wait_for("worker-0-1", states=("ready",))
    scaled = json.loads(run_launcher(tmp_path, "scale", "last", "3", "--json").stdout)
    assert (scaled["before"], scaled["workers"]) == (1, 3)
    wait_for("worker-0-1", "worker-1-1", "worker-2-1", states=("ready",))
    (victim,) = (pid for pid, command in processes_of(tmp_path).items() if "--name worker-1-1 " in command)
    os.kill(victim, signal.SIGKILL)
    wait_for("worker-0-1", "worker-1-2", "worker-2-1")
    before = status()["step"]
    assert run_launcher(tmp_path, "scale", "last", "1").returncode == 0
    wait_for("worker-0-1")
    kinds = [(message["kind"], message.get("worker")) for message in heard(run)]
    assert kinds == [("lost", "worker-1-1"), ("drain", "worker-1-2"), ("drain", "worker-2-1")]
    assert status()["step"] > before
    assert status()["workers_lost"] == 1
    os.kill(launcher.pid, signal.SIGINT)
    assert launcher.wait(LIMIT_S) == 0


def test_a_launcher_killed_outright_leaves_nothing_behind(tmp_path, started):
    launcher = started(*TRAIN)
    run = training_run(tmp_path)
    assert len(processes_of(tmp_path)) == 3
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.communicate(timeout=LIMIT_S)
    assert_nothing_is_left(tmp_path, run)
    assert not is_alive(run)
    assert "died while it was training" in run_launcher(tmp_path, "status", "last").stdout


@pytest.mark.parametrize(("end", "status"), [("finish", 0), ("crash", 1)])
def test_the_exit_status_is_the_runs_also_where_the_reader_of_its_output_has_left(tmp_path, started, end, status):
    launcher = started(*TRAIN, steps=1, end=end)
    launcher.stdout.close()
    launcher.stdout = None
    _, errors = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == status
    assert "BrokenPipe" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["", "1"])
def test_a_run_outlives_the_reader_of_its_output(tmp_path, started, monkeypatch, colour):
    monkeypatch.setenv("FORCE_COLOR", colour)  # as CI sets it; a pipe is no terminal for all that
    launcher = started(*TRAIN)
    run = training_run(tmp_path)
    launcher.stdout.close()
    launcher.stdout = None
    scaled = run_launcher(tmp_path, "scale", "last", str(available_cores() + 1))  # its remark finds the pipe closed
    assert scaled.returncode == 0 and f"more than the {available_cores()} cores here" in scaled.stdout
    os.kill(launcher.pid, signal.SIGTERM)
    launcher.communicate(timeout=LIMIT_S)
    assert read_record(run).state == "stopped"
    assert_nothing_is_left(tmp_path, run)


@pytest.fixture
def full_pipe():
    """The writing end of a pipe that takes no more, and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(1 << 16))
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("streams", "steps", "state"),
    [
        (("stdout",), 2, "finished"),
        pytest.param(("stdout", "stderr"), 10**9, "stopped", marks=pytest.mark.slow),
    ],
)
def test_a_reader_that_takes_nothing_holds_nothing_up(tmp_path, started, full_pipe, streams, steps, state):
    launcher = started(*TRAIN, steps=steps, view_stop_s=0.1, **dict.fromkeys(streams, full_pipe))
    if state == "stopped":
        training_run(tmp_path)
        os.kill(launcher.pid, signal.SIGTERM)
    assert launcher.wait(LIMIT_S) == 0
    run = only_run(tmp_path)
    assert read_record(run).state == state
    assert_nothing_is_left(tmp_path, run)


class SilentView:
    def start(self):
        pass

    def update(self, snapshot, *, force=False):
        pass

    def note(self, text):
        pass

    def stop(self, snapshot):
        pass


def make_supervisor(folder, monkeypatch, **script):
    """A supervisor in this process."""
    monkeypatch.setattr(launch.child, "TRUNK_COMMAND", (sys.executable, str(PROGRAM)))
    monkeypatch.setenv("SCRIPT", json.dumps(script))
    monkeypatch.setenv("MARKER", str(folder))
    config = RunConfig(trunk=TrunkConfig(dim=8), workers=1)
    directory = create_run(config, folder / "run")
    return Supervisor(directory, config, resume=False, view=SilentView(), snapshot=Snapshot(run="run", source="emoji"))


def fail_pool(monkeypatch, when):
    """From when `when()` holds, workers have died again and again."""

    def poll(pool):
        if when():
            raise WorkerLost("5 workers died")
        return []

    monkeypatch.setattr(launch.supervisor.WorkerPool, "poll", poll)


def kinds_heard(supervisor):
    return [message["kind"] for message in heard(supervisor.directory)]


def test_workers_that_die_again_and_again_end_the_run(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch)
    fail_pool(monkeypatch, lambda: True)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(WorkerLost, match="5 workers died"):
        supervisor.run()
    assert signal.getsignal(signal.SIGINT) is before
    assert read_record(supervisor.directory).state == "failed"
    assert_nothing_is_left_but_this(tmp_path)


def test_the_trunk_saves_what_it_learned_before_a_failure_of_the_workers_ends_the_run(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch)
    fail_pool(monkeypatch, lambda: supervisor.snapshot.step)
    status, told = _supervise(supervisor)
    (saved,) = (supervisor.directory / "checkpoints").iterdir()
    assert kinds_heard(supervisor) == ["no_workers"]
    assert status == FAILED_STATUS and read_record(supervisor.directory).state == "failed"
    assert told.startswith("\nError: 5 workers died\nAlso: what the trunk had learned by then is saved.\n\n")
    assert f"To go on from {saved.name}:" in told and "train --resume" in told
    assert_nothing_is_left_but_this(tmp_path)


@pytest.mark.parametrize(("end", "words"), [("crash", "ValueError: the trunk broke"), ("kill", "by SIGKILL")])
def test_a_trunk_that_cannot_save_once_the_workers_have_failed_is_told_beside_them(tmp_path, monkeypatch, end, words):
    supervisor = make_supervisor(tmp_path, monkeypatch, end=end)
    fail_pool(monkeypatch, lambda: supervisor.snapshot.step)
    status, told = _supervise(supervisor)
    assert status == FAILED_STATUS
    assert told.startswith("\nError: 5 workers died\nAlso: trunk ") and words in told
    assert "is saved" not in told


def test_a_trunk_that_falls_silent_once_the_workers_have_failed_is_ended(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch, end="hang")
    monkeypatch.setattr(launch.supervisor, "_SILENCE_S", 2.0)
    fail_pool(monkeypatch, lambda: supervisor.snapshot.step)
    with pytest.raises(WorkerLost, match="5 workers died") as failure:
        supervisor.run()
    assert failure.value.__notes__ == ["trunk said nothing for 2 s after it was asked to stop, and was killed."]
    assert_nothing_is_left_but_this(tmp_path)


def test_a_failure_of_the_workers_while_the_trunk_saves_at_last_does_not_end_the_run(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch, steps=1, end="forsaken")
    fail_pool(monkeypatch, lambda: supervisor.snapshot.step)
    supervisor.run()
    assert kinds_heard(supervisor) == ["no_workers"]
    assert read_record(supervisor.directory).state == "finished" and supervisor.snapshot.metrics
    assert "nothing was left to learn: the run goes on without workers" in supervisor.snapshot.notes


def test_a_failure_of_the_workers_while_the_trunk_measures_does_not_end_the_run(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch, steps=1)
    is_measuring, release = [], launch.supervisor.LostWorkers.release

    def release_and_note(lost_workers):
        release(lost_workers)
        is_measuring.append(True)

    monkeypatch.setattr(launch.supervisor.LostWorkers, "release", release_and_note)
    fail_pool(monkeypatch, lambda: is_measuring)
    supervisor.run()
    assert kinds_heard(supervisor) == []
    assert read_record(supervisor.directory).state == "finished" and supervisor.snapshot.metrics
    assert supervisor.snapshot.notes.count(UNNEEDED) == 1


def test_a_run_that_its_user_stops_ends_in_order_though_workers_fail_meanwhile(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch)
    take = supervisor._take

    def ask_at_the_first_step(message):
        take(message)
        supervisor._signals.asked |= message["kind"] == "step"

    monkeypatch.setattr(supervisor, "_take", ask_at_the_first_step)
    fail_pool(monkeypatch, lambda: supervisor._is_stop_sent)
    supervisor.run()
    assert kinds_heard(supervisor)[:1] == ["stop"]
    assert read_record(supervisor.directory).state == "stopped"


def test_a_number_of_workers_that_is_refused_is_not_shown_as_wanted(tmp_path, monkeypatch):
    def refuse(num_workers):
        raise ConfigError("too many")

    supervisor = make_supervisor(tmp_path, monkeypatch)
    supervisor.snapshot.workers_wanted = 2
    supervisor._pool = SimpleNamespace(scale=refuse)
    with pytest.raises(ConfigError, match="too many"):
        supervisor._answer_scale({"workers": 9})
    assert supervisor.snapshot.workers_wanted == 2


def test_a_stopping_trunk_that_falls_silent_is_ended(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch, end="hang", steps=1)
    monkeypatch.setattr(launch.supervisor, "_SILENCE_S", 2.0)
    take = supervisor._take

    def ask_at_the_first_step(message):
        take(message)
        supervisor._signals.asked |= message["kind"] == "step"

    monkeypatch.setattr(supervisor, "_take", ask_at_the_first_step)
    with pytest.raises(RunError, match="said nothing for 2 s after it was asked to stop"):
        supervisor.run()
    assert supervisor.snapshot.step, "the trunk was at work when it fell silent"
    assert_nothing_is_left_but_this(tmp_path)


def test_a_trunk_that_falls_silent_is_told_once_and_its_figures_are_called_old(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch, end="hang", steps=1)
    monkeypatch.setattr(launch.supervisor, "_SILENCE_S", 1.0)
    judge, answers = supervisor._judge_silence, []

    def judge_and_ask(name):
        if supervisor.snapshot.step:  # from here on it hangs
            judge(name)
            answers.append(supervisor._answer_status({})["status"])
            supervisor._signals.asked = len(answers) >= 3

    monkeypatch.setattr(supervisor, "_judge_silence", judge_and_ask)
    with pytest.raises(RunError, match="said nothing for 1 s after"):
        supervisor.run()
    assert [note for note in supervisor.snapshot.notes if note.startswith("trunk said")] == [
        "trunk said nothing for 1 s: it may hang. Ctrl-C twice ends the run, and --resume takes it up again"
    ]
    assert all(answer["silent_s"] >= 1.0 for answer in answers)
    assert "; heard last 0:12 ago\n" in describe_at_length({**answers[0], "silent_s": 12.0})


def test_a_launcher_that_was_stopped_while_its_trunk_ended_hears_all_that_it_said(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch, steps=1, notes=400)
    assign = launch.deep_process.TrunkProcess.assign

    def assign_and_be_stopped(trunk, assignment):
        assign(trunk, assignment)
        assert trunk.child._process.wait(60.0) == 0

    monkeypatch.setattr(launch.deep_process.TrunkProcess, "assign", assign_and_be_stopped)
    supervisor.run()
    assert supervisor.snapshot.notes[-1] == "note 399"
    assert supervisor.snapshot.metrics and supervisor.snapshot.outputs


def test_a_trunk_that_saved_and_ended_while_its_launcher_was_stopped_was_not_silent(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch)
    obey = supervisor._obey_stop

    def obey_and_be_stopped(process, *, can_finish):
        supervisor._signals.asked |= bool(supervisor.snapshot.step)
        obey(process, can_finish=can_finish)
        if supervisor._is_stop_sent and process.child.exit_code() is None:
            process.child._process.wait(60.0)
            while process.link.receive(0.1):
                pass
            supervisor.snapshot.heard_s -= 2 * launch.supervisor._SILENCE_S

    monkeypatch.setattr(supervisor, "_obey_stop", obey_and_be_stopped)
    supervisor.run()
    assert read_record(supervisor.directory).state == "stopped"


def test_a_run_whose_directory_was_made_anew_for_another_ends_and_writes_no_more_there(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch, steps=200)
    another = RunRecord(pid=456, control="ipc://another", started=1.0, state="preparing")
    take = supervisor._take

    def take_and_make_anew(message):
        take(message)
        if message["kind"] == "step":
            write_record(supervisor.directory, another)

    monkeypatch.setattr(supervisor, "_take", take_and_make_anew)
    status, told = _supervise(supervisor)
    assert status == FAILED_STATUS and told.startswith(f"\nError: {supervisor.directory} is another run's now")
    assert read_record(supervisor.directory) == another and "--resume" not in told
    assert not (supervisor.directory / "checkpoints").exists()
    assert_nothing_is_left_but_this(tmp_path)


def test_a_wish_to_stop_that_comes_when_all_is_done_does_not_make_a_run_stopped(tmp_path, monkeypatch):
    supervisor = make_supervisor(tmp_path, monkeypatch)
    assert not supervisor._was_stopped()
    supervisor._is_stop_sent = True
    assert supervisor._was_stopped()
    supervisor.snapshot.take({"kind": "done", "outputs": {"metrics": "metrics.jsonl"}})
    assert not supervisor._was_stopped()


def assert_nothing_is_left_but_this(folder):
    wait_until(lambda: not set(processes_of(folder)) - {os.getpid()}, "all processes to be gone")
