"""Chunks over TCP, as they would pass between hosts: the same protocol, the same bits."""

import os
import signal
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from worker_system import LIMIT_S, WorkerSystem, make_chunk, worker_system


@pytest.fixture
def free_endpoint() -> Iterator[str]:
    """A port that nobody else gets: it stays bound by a socket that lets another one share it, and does not listen."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as ZeroMQ does
        holder.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{holder.getsockname()[1]}"


@pytest.fixture
def over_tcp(free_endpoint: str) -> Iterator[WorkerSystem]:
    with worker_system(1, "zmq", free_endpoint, heartbeat_s=0.2, silence_s=60.0) as system:
        yield system


def _served(system: WorkerSystem) -> list[tuple[bytes, bytes]]:
    replies = [system.router.collect(system.router.submit([make_chunk(n)]), LIMIT_S)[0] for n in range(5)]
    return [(reply.loss_B.tobytes(), reply.feature_grad_BD.tobytes()) for reply in replies]


def test_one_worker_computes_the_same_bits_as_through_shared_memory(over_tcp: WorkerSystem) -> None:
    got = _served(over_tcp)
    with worker_system(1, "ring") as through_memory:
        assert got == _served(through_memory)
        np.testing.assert_array_equal(over_tcp.matrix.rows_ND, through_memory.matrix.rows_ND)


def test_a_killed_worker_is_replaced_and_its_chunks_are_sent_again(over_tcp: WorkerSystem) -> None:
    (victim,) = over_tcp.pool.workers
    os.kill(victim.pid, signal.SIGSTOP)  # so that it dies with chunks in hand
    ticket = over_tcp.router.submit([make_chunk(n) for n in range(6)])
    os.kill(victim.pid, signal.SIGKILL)
    replies = over_tcp.router.collect(ticket, LIMIT_S)
    assert len(replies) == 6 and all(np.isfinite(reply.loss_B).all() for reply in replies)
    assert over_tcp.router.counters.workers_lost == 1 and over_tcp.router.counters.chunks_resent > 0
    assert [worker.name for worker in over_tcp.pool.workers] != [victim.name]
