"""The lifeline: who learns that the owner is gone, and when."""

import os
import threading

import pytest

from workers.lifeline import Lifeline, watch_owner


def test_watcher_learns_that_the_owner_let_go() -> None:
    lifeline, told = Lifeline(), threading.Event()
    fd = os.dup(lifeline.read_fd)
    thread = watch_owner(fd, told.set, os.getppid())
    assert not told.is_set() and thread.is_alive()
    lifeline.close()
    assert told.wait(60)
    thread.join(60)
    lifeline.close()
    os.close(fd)


def test_watcher_learns_of_another_parent_though_somebody_holds_the_pipe() -> None:
    lifeline, told = Lifeline(), threading.Event()
    watch_owner(lifeline.read_fd, told.set, os.getppid() + 1)
    assert told.wait(60)
    lifeline.close()


def test_descriptors_are_not_inherited_by_accident() -> None:
    lifeline = Lifeline()
    assert not os.get_inheritable(lifeline.read_fd) and not os.get_inheritable(lifeline._write_fd)
    lifeline.close()


def test_closed_descriptor_is_an_error_at_once() -> None:
    lifeline = Lifeline()
    fd = lifeline.read_fd
    lifeline.close()
    with pytest.raises(OSError):
        watch_owner(fd, lambda: None)
