"""SIGTERM for every process of a run at once, as systemd, Slurm and a shutdown send it: the run saves all the same."""

import contextlib
import os
import signal

import pytest
from scripted_trunk import processes_of
from shapes import LIMIT_S, start_hybrid, train_options, write_shapes
from test_end_to_end import NUM_IMAGES, assert_nothing_is_left, last_state, wait_for_step

import hybrid.supervised
from launch.runs import read_record


class Started(Exception):
    pass


def test_the_trunk_leaves_sigterm_to_its_launcher(tmp_path, monkeypatch):
    def supervised(link, lifeline_fd):
        raise Started

    monkeypatch.setattr(hybrid.supervised, "_supervised", supervised)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(Started):
            hybrid.supervised.run_train(tmp_path, "", 0, 0)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_a_signal_for_every_process_stops_the_run_in_order(tmp_path):
    write_shapes(tmp_path / "shapes", NUM_IMAGES)
    launcher = start_hybrid(tmp_path, *train_options(tmp_path / "shapes", epochs=5000))
    try:
        run = wait_for_step(tmp_path, 2)
        for pid in processes_of(tmp_path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        _, errors = launcher.communicate(timeout=LIMIT_S)
        assert launcher.returncode == 0, errors
        assert read_record(run).state == "stopped"
        assert last_state(run)["step"] >= 2
        assert_nothing_is_left(tmp_path)
    finally:
        launcher.kill()
        launcher.communicate()
        for pid in processes_of(tmp_path):
            os.kill(pid, signal.SIGKILL)
