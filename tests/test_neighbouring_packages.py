"""Packages of others that have the names of ours: it is said which, and what does not need ours works."""

import os
import subprocess
import sys

import pytest
from scripted_trunk import ROOT

COMMAND = "import sys; from hybrid.console import main; sys.argv[1:] = {!r}; main()"


def python(code, *first):
    """Run code with these folders before ours in PYTHONPATH."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*first, ROOT]))}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, cwd=ROOT.parent, capture_output=True, text=True
    )


@pytest.fixture(params=["launch/__init__.py", "launch.py"])
def others(tmp_path, request):
    """A folder with a `launch` of somebody else: a package, as ROS 2 has, or a script."""
    path = tmp_path / request.param
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise SystemExit('the other launch was loaded')\n")
    return tmp_path


def test_the_command_says_which_other_launch_comes_first(others):
    result = python(COMMAND.format(["--version"]), others)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(
        f"Error: hybrid needs the package 'launch' that was installed with it, {ROOT}/launch"
    )
    assert f"Python finds {others}/launch" in result.stderr


def test_the_command_is_the_launcher():
    result = python(COMMAND.format(["--help"]))
    assert result.returncode == 0, result.stderr
    assert "hybrid search last" in result.stdout


@pytest.mark.parametrize("name", ["Trainer", "TrainConfig", "load"])
def test_what_needs_our_launch_says_that_another_comes_first(others, name):
    result = python(f"from hybrid import {name}", others)
    assert "ImportError: hybrid needs the package 'launch'" in result.stderr and str(others) in result.stderr
    assert "the other launch" not in result.stderr


def test_a_head_does_without_our_launch(others):
    result = python("from hybrid import HeadConfig, TagBatch, WideHead; print(HeadConfig().negatives)", others)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 0


def test_another_workers_is_named_before_it_is_loaded(tmp_path):
    (tmp_path / "workers.py").write_text("raise SystemExit('the other workers was loaded')\n")
    result = python("import hybrid", tmp_path)
    assert f"Python finds {tmp_path}/workers.py" in result.stderr


def test_settings_come_from_the_package_that_uses_them():
    from hybrid import HeadConfig, TrainConfig
    from launch import config as launch_config
    from workers import config as workers_config

    assert TrainConfig is launch_config.TrainConfig and HeadConfig is workers_config.HeadConfig
