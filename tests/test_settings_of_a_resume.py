"""A resume's settings become the run's with its first step, and however it ends before that, the run keeps its own."""

import json
import shutil
import signal
from dataclasses import replace

import pytest
from click.testing import CliRunner
from scripted_trunk import LIMIT_S, only_run, processes_of, run_launcher, signal_all, start_launcher, wait_until

import launch.train
from launch.cli import main
from launch.run_settings import launched_config, read_config, write_config
from launch.runs import RunLock
from workers.errors import RunError

NOT_KEPT = "Nothing that was learned with the settings of this resume is kept, so the run's config.toml stays as it was"
RESUME = ("train", "--resume", "last")
GIVEN = (*RESUME, "--workers", "2", "--minutes", "9")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with a run of the launcher that was stopped after some steps, with a checkpoint."""
    folder = tmp_path_factory.mktemp("stopped")
    result = run_launcher(folder, "train", "--workers", "1", "--dim", "8", "--minutes", "3", steps=3)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def run(tmp_path, stopped):
    """A copy of that run in a folder of its own."""
    shutil.copytree(stopped, tmp_path, symlinks=True, dirs_exist_ok=True)
    yield only_run(tmp_path)
    signal_all(tmp_path)


def files_of(run):
    return {path.name for path in run.iterdir()}


def assert_kept(run, settings, files):
    assert (run / "config.toml").read_bytes() == settings
    assert launched_config(run) == read_config(run) and files_of(run) == files


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ({"prepare": "fail"}, 1),
        ({"end": "broken", "prepare": "hang"}, 1),
        ({"end": "refuse", "prepare": "hang"}, 2),
        ({"end": "crash", "steps": 0}, 1),
        ({"end": "kill", "steps": 0}, 1),
    ],
    ids=["no data", "no trunk", "refused", "crash", "killed"],
)
def test_a_failure_before_the_first_step_leaves_the_settings(tmp_path, run, script, status):
    (run / "prepare_hangs").touch()  # it stays where a preparation that hangs is ended
    settings, files = (run / "config.toml").read_bytes(), files_of(run)
    failed = run_launcher(tmp_path, *GIVEN, **script)
    assert failed.returncode == status
    assert NOT_KEPT in failed.stderr
    assert_kept(run, settings, files)
    again = run_launcher(tmp_path, *RESUME, **script)
    assert again.returncode == status and NOT_KEPT not in again.stderr, "nothing was given"


def test_a_stop_before_the_first_step_leaves_the_settings(tmp_path, run):
    settings, files = (run / "config.toml").read_bytes(), files_of(run)
    launcher = start_launcher(tmp_path, *GIVEN, prepare="hang")
    wait_until((run / "prepare_hangs").exists, "the preparation")
    launcher.send_signal(signal.SIGINT)
    _, said = launcher.communicate(timeout=LIMIT_S)
    assert launcher.returncode == 130 and NOT_KEPT in said
    assert_kept(run, settings, files | {"prepare_hangs"})


def test_a_resume_that_has_nothing_to_learn_says_that_its_settings_are_not_kept(tmp_path, run):
    settings, files = (run / "config.toml").read_bytes(), files_of(run)
    result = run_launcher(tmp_path, *GIVEN, steps=0)
    assert result.returncode == 0 and NOT_KEPT in result.stdout
    *_, remark, command = result.stdout.strip().split("\n\n")
    assert remark.startswith("The budget of 9 minutes was spent before this resume") and "more was learned" in remark
    assert command.endswith(f"hybrid train --resume runs/{run.name} --minutes 18"), "where the eye is, to be copied"
    assert_kept(run, settings, files)
    for_programs = run_launcher(tmp_path, *GIVEN, "--json", steps=0)
    assert json.loads(for_programs.stdout)["state"] == "finished" and NOT_KEPT in for_programs.stderr
    assert for_programs.stderr.endswith(f"{command}\n")
    with_less = run_launcher(tmp_path, *RESUME, "--minutes", "1", steps=0)
    assert with_less.stdout.endswith(" --minutes 6\n"), "more than the run had, not only more than was given"


def test_a_fresh_run_that_ends_at_once_is_not_told_of_an_earlier_one(tmp_path):
    result = run_launcher(tmp_path, "train", "--workers", "1", "--dim", "8", steps=0)
    assert result.returncode == 0 and "was spent before" not in result.stdout


def test_a_launcher_killed_before_the_first_step_leaves_settings_that_the_next_resume_goes_by(tmp_path, run):
    settings = (run / "config.toml").read_bytes()
    launcher = start_launcher(tmp_path, *GIVEN, prepare="hang")
    wait_until((run / "prepare_hangs").exists, "the preparation")
    assert launched_config(run).workers == 2
    launcher.kill()
    launcher.communicate(timeout=LIMIT_S)
    wait_until(lambda: not processes_of(tmp_path), "all processes to be gone")
    assert (run / "config.toml").read_bytes() == settings
    result = run_launcher(tmp_path, *RESUME, steps=2)
    assert result.returncode == 0, result.stderr
    assert launched_config(run) == read_config(run)
    assert (read_config(run).workers, read_config(run).train.minutes) == (1, 3.0)


def test_a_resume_goes_by_the_settings_that_the_run_has_when_it_is_its_own(run, monkeypatch):
    """Another resume may hold the run while this one loads what it needs, and end just then."""
    begun_with = []

    class OneAfterAnother(RunLock):
        def __init__(self, directory):
            own = read_config(directory)
            write_config(directory, replace(own, train=replace(own.train, minutes=5.0)))
            super().__init__(directory)

    def begin(directory, config, **how):
        begun_with.append((config.train.minutes, config.workers, launched_config(directory)))
        raise RunError("far enough")

    monkeypatch.setattr(launch.train, "RunLock", OneAfterAnother)
    monkeypatch.setattr(launch.train, "Supervisor", begin)
    result = CliRunner().invoke(main, ["train", "--resume", str(run), "--workers", "2"])
    assert result.output.endswith("Error: far enough\n")
    ((minutes, workers, proposed),) = begun_with
    assert (minutes, workers) == (5.0, 2) == (proposed.train.minutes, proposed.workers)


@pytest.mark.parametrize("end", ["finish", "crash", "kill"])
def test_a_step_keeps_them_however_the_run_ends(tmp_path, run, end):
    result = run_launcher(tmp_path, *GIVEN, steps=1, end=end)
    assert NOT_KEPT not in result.stdout + result.stderr
    assert (read_config(run).workers, read_config(run).train.minutes) == (2, 9.0)
    assert launched_config(run) == read_config(run)


def test_a_launcher_killed_after_a_step_leaves_the_settings_of_the_step(tmp_path, run):
    launcher = start_launcher(tmp_path, *GIVEN)
    wait_until(lambda: read_config(run).workers == 2, "a step")
    launcher.kill()
    launcher.communicate(timeout=LIMIT_S)
    wait_until(lambda: not processes_of(tmp_path), "all processes to be gone")
    assert launched_config(run) == read_config(run) and read_config(run).train.minutes == 9.0
