"""Signals that ask a run to stop, raised in this process."""

import signal

import pytest

from launch.stop_signals import StopSignals

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def handlers():
    """None of them is ignored, wherever the tests run, and whatever a test sets is undone."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_asks_to_stop_and_the_handler_before_comes_back(number):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        signal.raise_signal(number)
        assert signals.asked and not signals.impatient
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_that_is_ignored_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)  # as nohup leaves SIGHUP, a script the SIGINT of what it puts behind
    with StopSignals() as signals:
        signal.raise_signal(number)
        assert not signals.asked
        other = next(other for other in STOPPING if other is not number)
        signal.raise_signal(other)
        assert signals.asked
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_second_ctrl_c_is_impatient_and_the_first_is_not_whoever_asked_before():
    with StopSignals() as signals:
        signals.asked = True  # as `hybrid stop` does
        for number in (*STOPPING[1:], signal.SIGINT):
            signal.raise_signal(number)
            assert not signals.impatient
        signal.raise_signal(signal.SIGINT)
        assert signals.impatient
