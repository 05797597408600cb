"""A signal for every process of a run at once, as systemd, Slurm and a shutdown send it: the run saves all the same."""

import signal

import pytest
from scripted_trunk import signal_all
from shapes import LIMIT_S, start_hybrid, train_options, write_shapes
from test_end_to_end import NUM_IMAGES, assert_nothing_is_left, last_state, wait_for_step

import hybrid.supervised
import launch.stop_signals
from launch.run_record import read_record


class Started(Exception):
    pass


def test_the_trunk_leaves_what_asks_to_stop_to_its_launcher(tmp_path, monkeypatch):
    def supervised(link, lifeline_fd):
        raise Started

    monkeypatch.setattr(hybrid.supervised, "_supervised", supervised)
    assert {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2} < set(launch.stop_signals._SIGNALS)
    before = {number: signal.signal(number, signal.default_int_handler) for number in launch.stop_signals._SIGNALS}
    try:
        with pytest.raises(Started):
            hybrid.supervised.run_train(tmp_path, "", 0, 0)
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_for_every_process_stops_the_run_in_order(tmp_path, number):
    write_shapes(tmp_path / "shapes", NUM_IMAGES)
    launcher = start_hybrid(tmp_path, *train_options(tmp_path / "shapes", epochs=5000))
    try:
        run = wait_for_step(tmp_path, 2)
        signal_all(tmp_path, number)
        _, errors = launcher.communicate(timeout=LIMIT_S)
        assert launcher.returncode == 0, errors
        assert read_record(run).state == "stopped"
        assert last_state(run)["step"] >= 2
        assert_nothing_is_left(tmp_path)
    finally:
        launcher.kill()
        launcher.communicate()
        signal_all(tmp_path)
