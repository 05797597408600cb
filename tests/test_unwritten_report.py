"""How a run ended is known where its report cannot be written, or not all of it is there to be read."""

import os

import pytest
from rich.console import Console
from scripted_trunk import only_run, start_launcher

import launch.train
from launch.child import WRONG_SETTING_STATUS
from launch.config import RunConfig
from launch.report import shown_path, status_command
from launch.runs import create_run
from launch.snapshot import Snapshot
from launch.train import FAILED_STATUS, _report, train
from workers.errors import RunError

TRAIN = ("train", "--workers", "1", "--dim", "8")


@pytest.fixture
def outputs():
    """Descriptors of what takes nothing: a file on a full disk, a terminal that was closed."""
    far_end, terminal = os.openpty()
    os.close(far_end)
    descriptors = {"disk": os.open("/dev/full", os.O_WRONLY), "terminal": terminal}
    yield descriptors
    for descriptor in descriptors.values():
        os.close(descriptor)


@pytest.mark.parametrize(("output", "why"), [("disk", "No space left on device"), ("terminal", "Input/output error")])
def test_the_exit_status_is_the_runs_where_the_report_cannot_be_written(tmp_path, outputs, output, why):
    launcher = start_launcher(tmp_path, *TRAIN, stdout=outputs[output], steps=1)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 0, errors
    assert f"The report of the run cannot be written: {why}. To see how it ended:" in errors
    assert errors.endswith(f"hybrid status runs/{only_run(tmp_path).name}\n") and "Traceback" not in errors


def test_the_exit_status_is_the_runs_where_its_error_cannot_be_written(tmp_path, outputs):
    launcher = start_launcher(tmp_path, *TRAIN, stderr=outputs["disk"], end="refuse", prepare="hang")
    launcher.communicate(timeout=60)
    assert launcher.returncode == WRONG_SETTING_STATUS


def test_a_finished_run_whose_last_words_were_lost_says_where_its_measures_are(tmp_path, capsys):
    snapshot = Snapshot(run="run", source="emoji", state="finished")
    _report(Console(), snapshot, tmp_path, RunConfig())
    assert f"did not arrive. To see its measures:\n\n  {status_command(tmp_path)}\n" in capsys.readouterr().out
    snapshot.outputs = {"gallery": str(tmp_path / "gallery.html")}
    _report(Console(), snapshot, tmp_path, RunConfig())
    assert "did not arrive" not in capsys.readouterr().out


def test_why_a_resume_ended_is_told_where_its_settings_have_gone(tmp_path, monkeypatch, capsys):
    class Lost:
        def __init__(self, directory, config, *, resume, view, snapshot):
            self.directory, self.snapshot = directory, snapshot

        def run(self):
            (self.directory / "config.toml").unlink()
            raise RunError("the trunk was lost.")

    monkeypatch.setattr(launch.train, "Supervisor", Lost)
    directory = create_run(RunConfig(), tmp_path / "run")
    assert train(directory, RunConfig(), resume=RunConfig, json_output=False) == FAILED_STATUS
    said = capsys.readouterr().err
    assert said.startswith("\nError: the trunk was lost.") and "config.toml cannot be read: No such file" in said
    assert "the trunk was lost." in (directory / "log" / "launcher.log").read_text()


def test_a_path_is_shown_where_the_working_directory_has_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert shown_path(tmp_path / "run") == str(tmp_path / "run")
