"""A run that ends early, by whatever hand, and is resumed computes what it would have computed in one go."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scripted_trunk import processes_of, wait_until
from shapes import hybrid, start_hybrid, train_options, write_shapes

from hybrid.checkpoint import OPTIMIZER, TRUNK, newest_whole_checkpoint
from workers.matrix_io import open_rows

NUM_IMAGES, EPOCHS, LIMIT_S = 90, 35, 300.0
TRUNK_PROCESS, LAUNCHER = " -m hybrid train ", " -m launch train "
"""Parts of their command lines."""
QUICK_PASSES, PAUSE_S = 10, 1.0
DAWDLING = f"""
import itertools, pathlib, time
from hybrid.trunks import cnn_small

def dawdling(dim, image_size):
    trunk, passes = cnn_small(dim, image_size), itertools.count()
    trunk.register_forward_pre_hook(lambda *_: dawdle(next(passes)))
    return trunk

def dawdle(number):
    if number >= {QUICK_PASSES} and pathlib.Path("dawdle").exists():
        time.sleep({PAUSE_S})
"""
"""Where there is a file `dawdle` its pauses add up to more than all waits, so that no run ends before it is ended."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    write_shapes(folder / "shapes", NUM_IMAGES)
    (folder / "my_trunks.py").write_text(DAWDLING)
    return folder


def options(folder, run_dir):
    """Of a run that repeats bit for bit, and saves several times a second."""
    repeats = {"workers": 1, "trunk_threads": 1, "epochs": EPOCHS, "trunk": "my_trunks:dawdling"}
    return train_options(folder / "shapes", run_dir=run_dir, set="train.checkpoint_minutes=0.005", **repeats)


@pytest.fixture(scope="module")
def straight(folder):
    """The last checkpoint of a run that nobody disturbs."""
    run = folder / "runs" / "straight"
    result = hybrid(folder, *options(folder, run))
    assert result.returncode == 0, result.stderr
    return newest_whole_checkpoint(run / "checkpoints")


def step_of(folder, run):
    result = hybrid(folder, "status", str(run), "--json")
    return json.loads(result.stdout).get("step", 0) if result.returncode == 0 else 0


def end_early(folder, run, victim):
    """Start a run; some steps later stop it, or kill one of its processes; returns when nothing of it is left."""
    (folder / "dawdle").touch()
    launcher = start_hybrid(folder, *options(folder, run))
    try:
        wait_until(lambda: (run / "run.json").is_file() and step_of(folder, run) >= 3, "some steps", LIMIT_S)
        wait_until(lambda: newest_whole_checkpoint(run / "checkpoints"), "a checkpoint", LIMIT_S)
        if victim is None:
            assert hybrid(folder, "stop", str(run)).returncode == 0
        else:
            (pid,) = (pid for pid, command in processes_of(folder).items() if victim in command)
            os.kill(pid, signal.SIGKILL)
        launcher.communicate(timeout=LIMIT_S)
        wait_until(lambda: not processes_of(folder), "all its processes to be gone", LIMIT_S)
    finally:
        (folder / "dawdle").unlink()
        launcher.kill()
        launcher.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [None, TRUNK_PROCESS, LAUNCHER], ids=["stopped", "trunk killed", "launcher killed"])
def test_a_run_that_was_resumed_ends_bit_for_bit_as_one_in_one_go(folder, straight, victim):
    run = folder / "runs" / f"victim-{victim}".replace(" ", "-")
    end_early(folder, run, victim)
    before = newest_whole_checkpoint(run / "checkpoints")
    result = hybrid(folder, "train", "--resume", str(run))
    assert result.returncode == 0, result.stderr

    after = newest_whole_checkpoint(run / "checkpoints")
    assert 0 < before.step < after.step == straight.step
    for name in (TRUNK, OPTIMIZER):
        resumed, undisturbed = load_file(after.path / name), load_file(straight.path / name)
        assert resumed.keys() == undisturbed.keys()
        assert not [key for key in resumed if not torch.equal(resumed[key], undisturbed[key])], name
    resumed, undisturbed = open_rows(after.matrix_folder), open_rows(straight.matrix_folder)
    np.testing.assert_array_equal(resumed.rows(0, resumed.num_tags), undisturbed.rows(0, undisturbed.num_tags))
    for name in ("bias_N", "log_q_N", "counts_N"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(undisturbed, name))
    np.testing.assert_array_equal(resumed.checked("tag_state.npy"), undisturbed.checked("tag_state.npy"))
