"""What a launcher says of its own start, and the options that ask to see or to place a run."""

import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import launch.start_up
import launch.train
from launch.cli import main
from launch.start_up import StartUp, process_age_s
from launch.verb_train import PROFILE_STEPS


def test_each_stage_is_what_it_added(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(launch.start_up, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(launch.start_up, "process_age_s", lambda: 0.5)
    start_up = StartUp()
    for stage, seconds in (("data", 1.0), ("tag matrix", 2.5)):
        now[0] += seconds
        start_up.reach(stage)
    assert start_up.report == "first step after 4.0 s (data 1.5, tag matrix 2.5)"


def test_the_age_of_a_process_grows_with_the_clock():
    before_s, age_s = time.monotonic(), process_age_s()
    later_age_s, after_s = process_age_s(), time.monotonic()
    assert 0 < age_s <= later_age_s <= age_s + (after_s - before_s) + 0.05


@pytest.mark.parametrize(
    ("arguments", "steps", "pin"),
    [
        ([], 0, False),
        (["--profile"], PROFILE_STEPS, False),
        (["--profile-steps", "7"], 7, False),
        (["--profile", "--profile-steps", "7", "--pin"], 7, True),
        (["--profile", "--set", "profile_steps=9", "--pin", "--no-pin"], 9, False),
    ],
)
def test_options_become_settings(tmp_path, monkeypatch, arguments, steps, pin):
    asked = []

    def record(directory, config, **how):
        asked.append(config)
        return 0

    monkeypatch.setattr(launch.train, "train", record)
    result = CliRunner().invoke(main, ["train", "--run-dir", str(tmp_path / "run"), *arguments])
    assert result.exit_code == 0, result.output
    assert [(config.profile_steps, config.pin) for config in asked] == [(steps, pin)]
