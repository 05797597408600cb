"""A run that is stopped and resumed computes what it would have computed in one go."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scripted_trunk import wait_until
from shapes import hybrid, start_hybrid, train_options, write_shapes

from hybrid.checkpoint import OPTIMIZER, TRUNK, latest_checkpoint
from workers.matrix_io import open_rows

EPOCHS, LIMIT_S = 30, 120.0
NUM_IMAGES = 90


def options(folder, run_dir):
    """Of a run that repeats bit for bit."""
    repeats = {"workers": 1, "trunk_threads": 1, "epochs": EPOCHS}
    return train_options(folder / "shapes", run_dir=run_dir, **repeats)


def step_of(folder):
    result = hybrid(folder, "status", "last", "--json")
    return json.loads(result.stdout).get("step", 0) if result.returncode == 0 else 0


@pytest.mark.slow
def test_a_stopped_and_resumed_run_ends_as_one_that_was_not_stopped(tmp_path):
    write_shapes(tmp_path / "shapes", NUM_IMAGES)
    whole, stopped = tmp_path / "runs" / "whole", tmp_path / "runs" / "stopped"
    result = hybrid(tmp_path, *options(tmp_path, whole))
    assert result.returncode == 0, result.stderr

    launcher = start_hybrid(tmp_path, *options(tmp_path, stopped))
    try:
        wait_until(lambda: (stopped / "run.json").is_file() and step_of(tmp_path) >= 3, "some steps", LIMIT_S)
        assert hybrid(tmp_path, "stop", "last").returncode == 0
        launcher.communicate(timeout=LIMIT_S)
    finally:
        launcher.kill()
    before = latest_checkpoint(stopped / "checkpoints")
    result = hybrid(tmp_path, "train", "--resume", "last")
    assert result.returncode == 0, result.stderr

    ours, theirs = latest_checkpoint(stopped / "checkpoints"), latest_checkpoint(whole / "checkpoints")
    assert 0 < before.step < ours.step == theirs.step
    for name in (TRUNK, OPTIMIZER):
        resumed, straight = load_file(ours.path / name), load_file(theirs.path / name)
        assert resumed.keys() == straight.keys()
        different = [key for key in straight if not torch.equal(resumed[key], straight[key])]
        assert not different, name
    resumed, straight = open_rows(ours.matrix_folder), open_rows(theirs.matrix_folder)
    np.testing.assert_array_equal(resumed.rows(0, resumed.num_tags), straight.rows(0, straight.num_tags))
    np.testing.assert_array_equal(resumed.bias_N, straight.bias_N)
