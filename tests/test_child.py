"""What is told of a process that failed: its own error, not the warnings that came before."""

import errno
import os
import subprocess
import sys

import pytest

import launch.child
from launch.child import TRUNK_COMMAND, Child
from workers.environment import child_environment
from workers.errors import ConfigError, RunError

WARNINGS = (
    "2026-01-02 03:04:05,678 WARNING hybrid.data.prepare: left out: a.png\n2026-01-02 03:04:05,679 INFO x: news\n"
)


@pytest.fixture
def ended(tmp_path):
    """A process that wrote to its log, without the process."""

    def make(text):
        child = Child.__new__(Child)
        child.log, child._log_start = tmp_path / "trunk.log", 0
        child.log.write_text(text)
        return child

    return make


def test_an_error_is_told_without_what_came_before(ended):
    told = ended(f"{WARNINGS}Error: trunk.factory = 'vgg' is unknown.\nIt has two lines.\n").failure(1)
    assert told == "trunk.factory = 'vgg' is unknown.\nIt has two lines."


@pytest.mark.parametrize(("status", "after"), [(1, "Traceback (most recent call last):\nValueError\n"), (-9, "")])
def test_an_error_that_was_not_the_end_is_told_with_how_the_process_ended(ended, status, after):
    told = ended(f"Error: a library's.\n{after}").failure(status)
    assert told.startswith("trunk ") and f"\n\nError: a library's.\n{after}" in told and "The whole log: " in told


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (2, "Error: trunk.factory = 'vgg' is unknown.\n", ConfigError),
        (1, "Error: the disk is full.\n", RunError),
        (2, "python: can't open file\n", RunError),
    ],
)
def test_a_process_that_refused_a_setting_is_told_from_one_that_failed(ended, status, text, kind):
    error = ended(text).error(status)
    assert type(error) is kind and text.strip().removeprefix("Error: ") in str(error)
    assert "Error: " not in str(error), "whoever shows it says that it is one"


def test_without_an_error_the_last_lines_are_told_but_no_news(ended):
    told = ended(f"{WARNINGS}Traceback: dreadful\n").failure(1)
    assert "left out" in told and "dreadful" in told and "news" not in told


def test_a_process_that_was_killed_said_nothing_of_it(ended):
    assert ended(WARNINGS).failure(-15).startswith("trunk was killed by SIGTERM.\n\nThe end of its log:\n\n")
    assert ended("").failure(-15).startswith("trunk was killed by SIGTERM.\nThe whole log: ")


@pytest.mark.parametrize("free", [4096, 1 << 30, None])
def test_a_process_whose_log_has_no_room_may_have_ended_for_want_of_it(ended, monkeypatch, free):
    monkeypatch.setattr(launch.child, "free_bytes", lambda path: free)
    told = ended("").failure(1)
    assert told.startswith("trunk ended with exit status 1.\nThe whole log: ")
    assert ("is full (4.1 kB free)" in told and told.endswith(": make room there.")) is (free == 4096)
    assert ended("Error: no such tag.\n").failure(1) == "no such tag.", "what was said needs no guess"


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_sigkill_that_was_not_ours_may_be_the_kernels(ended, is_ours):
    child = ended("")
    child._is_killed = is_ours
    told = child.failure(-9)
    assert told.startswith("trunk was killed by SIGKILL") and ("out-of-memory killer" in told) is not is_ours


def test_a_process_that_has_to_be_killed_is_known_to_have_been(tmp_path, monkeypatch):
    monkeypatch.setattr(launch.child, "TRUNK_COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    child = Child([], log=tmp_path / "x.log", pass_fds=(), environment=child_environment())
    child.close(terminate_s=0.0)
    assert child.exit_code() == -9 and "out-of-memory" not in child.failure(-9)


def test_a_log_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "log").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*/log/train\.log"):
        Child(["train"], log=tmp_path / "log" / "train.log", pass_fds=(), environment={})


def test_a_process_that_cannot_be_started_is_a_run_error(tmp_path, monkeypatch):
    def fork(*arguments, **options):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(subprocess, "Popen", fork)
    with pytest.raises(RunError, match=r"^train cannot be started: Cannot allocate memory\.$"):
        Child(["train"], log=tmp_path / "train.log", pass_fds=(), environment={})


def test_nothing_in_the_working_directory_is_taken_for_a_module_of_ours_or_pythons(tmp_path, monkeypatch):
    (tmp_path / "hybrid").mkdir()
    for path in ("queue.py", "hybrid/__init__.py"):
        (tmp_path / path).write_text("raise SystemExit('the one in the working directory')\n")
    monkeypatch.chdir(tmp_path)
    command = [*TRUNK_COMMAND[:2], "-c", "import hybrid, queue; print(hybrid.__file__, queue.__file__)"]
    result = subprocess.run(command, env=child_environment(), capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert str(tmp_path) not in result.stdout
