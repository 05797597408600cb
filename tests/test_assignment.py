"""What a waiting trunk is told, across a socket pair."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from workers.assignment import Assignment, make_connection
from workers.errors import ProtocolError


@pytest.fixture
def descriptors():
    ends = [os.memfd_create("matrix"), os.memfd_create("ring")]
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.mark.parametrize("has_ring", [True, False])
def test_what_is_sent_arrives_with_descriptors_of_the_receivers_own(descriptors, has_ring):
    matrix_fd, ring_fd = descriptors
    resume = Path("runs/naïve \udce9/checkpoints/step-1")  # a name that is not UTF-8
    sent = Assignment(
        matrix_fd=matrix_fd,
        ring_fd=ring_fd if has_ring else None,
        endpoint="ipc:///tmp/x",
        threads=3,
        are_threads_fixed=has_ring,
        cores="0-1",
        resume=resume,
        trace="5:9",
    )
    ours, theirs = make_connection()
    with ours:
        sent.send(ours)
    received = Assignment.receive(theirs.detach())
    assert received is not None
    pairs = [(matrix_fd, received.matrix_fd)] + ([(ring_fd, received.ring_fd)] if has_ring else [])
    for fd, own_fd in pairs:
        assert own_fd != fd and os.fstat(own_fd).st_ino == os.fstat(fd).st_ino
        assert not os.get_inheritable(own_fd), "processes that decode pictures must not keep the matrix"
        os.close(own_fd)
    assert replace(received, matrix_fd=sent.matrix_fd, ring_fd=sent.ring_fd) == sent


def test_none_comes_when_the_sender_gives_up():
    ours, theirs = make_connection()
    ours.close()
    assert Assignment.receive(theirs.detach()) is None


def test_a_receiver_that_has_ended_is_an_error_for_the_sender(descriptors):
    ours, theirs = make_connection()
    theirs.close()
    with ours, pytest.raises(OSError, match="Broken pipe"):
        Assignment(matrix_fd=descriptors[0], ring_fd=None, endpoint="ipc:///tmp/x", threads=1).send(ours)


def test_descriptors_that_are_lost_on_the_way_are_missed(descriptors, monkeypatch):
    """As the kernel drops those for which the receiver has no room left."""
    matrix_fd, ring_fd = descriptors
    send_fds = socket.send_fds
    monkeypatch.setattr(socket, "send_fds", lambda connection, data, fds: send_fds(connection, data, fds[:1]))
    ours, theirs = make_connection()
    with ours:
        Assignment(matrix_fd=matrix_fd, ring_fd=ring_fd, endpoint="ipc:///tmp/x", threads=1).send(ours)
    with pytest.raises(ProtocolError, match=r"got 1 of 2 descriptors .* \(`ulimit -n`\)"):
        Assignment.receive(theirs.detach())
