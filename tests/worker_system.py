"""A small wide head for tests: a matrix, its chunks, worker processes with a router, peers that follow a script."""

import contextlib
import dataclasses
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import zmq

from workers.array_codec import Part, Room
from workers.chunk import Chunk, Reply
from workers.chunk_messages import reply_message
from workers.codec import check_outgoing, decode, encode_into
from workers.config import HeadConfig
from workers.endpoint import make_endpoint, remove_endpoint
from workers.matrix import TagMatrix
from workers.memory import POISON_BYTE
from workers.pool import WorkerPool
from workers.protocol import Message
from workers.ring import Ring, make_ring
from workers.router import Router

NUM_TAGS, DIM, BATCH = 500, 16, 8
LIMIT_S = 300.0  # kernels of changed sources are compiled first, beside other tests
HEAD = HeadConfig(negatives=64)


def make_chunk(number: int = 0, **changes: Any) -> Chunk:
    """A valid chunk; equal numbers give equal chunks."""
    rng = np.random.default_rng(number)
    ids_BP = np.sort([rng.choice(NUM_TAGS, 3, replace=False) for _ in range(BATCH)], axis=1).astype(np.int32)
    offsets = np.arange(0, 3 * BATCH + 1, 3, dtype=np.int32)
    chunk = Chunk(
        step=number,
        chunk=0,
        seed=7,
        features_BD=rng.standard_normal((BATCH, DIM)).astype(np.float32),
        pos_ids=ids_BP.ravel(),
        pos_offsets=offsets,
        pos_weights=None,
        items_B=None,
        true_ids=ids_BP.ravel(),
        true_offsets=offsets,
        num_negatives=HEAD.negatives,
        row_lr=0.01,
        update=True,
    )
    return dataclasses.replace(chunk, **changes)


def make_reply(chunk: Chunk, **changes: Any) -> Reply:
    """A reply of the right shape."""
    reply = Reply(
        loss_B=np.ones(len(chunk.features_BD), np.float32),
        feature_grad_BD=np.zeros_like(chunk.features_BD),
        rows_written=10,
        accidental_hits=1,
        staleness_chunks=2,
        draw_ns=1000,
        kernel_ns=2000,
    )
    return dataclasses.replace(reply, **changes)


@contextlib.contextmanager
def small_matrix() -> Iterator[TagMatrix]:
    """A matrix in shared memory."""
    matrix = TagMatrix.create(NUM_TAGS, DIM, config=HEAD)
    try:
        yield matrix
    finally:
        matrix.close()


@contextlib.contextmanager
def small_ring(transport: str) -> Iterator[Ring | None]:
    """The ring of a transport, for chunks of `make_chunk`, filled with poison as far as the test will look."""
    ring = make_ring(transport, BATCH, DIM)
    try:
        if ring is not None:
            ring.requests_RQ[:4], ring.replies_RP[:4] = POISON_BYTE, POISON_BYTE
        yield ring
    finally:
        if ring is not None:
            ring.close()


@contextlib.contextmanager
def private_endpoint() -> Iterator[str]:
    """An endpoint that is removed afterwards."""
    endpoint = make_endpoint()
    try:
        yield endpoint
    finally:
        remove_endpoint(endpoint)


@dataclasses.dataclass
class WorkerSystem:
    """Real worker processes and their router."""

    matrix: TagMatrix
    pool: WorkerPool
    router: Router

    def scale(self, num_workers: int) -> None:
        """What every owner of both does."""
        for name in self.pool.scale(num_workers):
            self.router.drain(name)

    def serve_until(self, holds: Callable[[], bool]) -> None:
        """Service the router until something holds; fails the test after `LIMIT_S`."""
        until(holds, self.router.service)


@contextlib.contextmanager
def worker_system(
    num_workers: int, transport: str = "ring", endpoint: str = "", **router_options: Any
) -> Iterator[WorkerSystem]:
    """Ready workers, at a private endpoint or another one."""
    with small_matrix() as matrix, small_ring(transport) as ring, private_endpoint() as private:
        endpoint = endpoint or private
        pool = WorkerPool(matrix, endpoint, num_workers, ring=ring)
        try:
            router = Router(endpoint, head=HEAD, matrix=matrix, membership=pool, ring=ring, **router_options)
            try:
                router.wait_ready(num_workers, LIMIT_S)
                yield WorkerSystem(matrix, pool, router)
            finally:
                router.close()
        finally:
            pool.close()


class ScriptedPeer:
    """A worker that does what the test says: a DEALER without a process, with a ring if the trunk has one."""

    def __init__(self, endpoint: str, name: str, index: int = 0, ring: Ring | None = None) -> None:
        self.name, self.index, self.ring = name, index, ring
        self.berths: dict[int, int | None] = {}
        self._requests = None if ring is None else [Part(memory_Q) for memory_Q in ring.requests_RQ]
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IDENTITY, name.encode())
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def say(self, kind: str, **fields: Any) -> None:
        """Send a message without arrays."""
        self.send(Message(kind, fields))

    def send(self, message: Message) -> None:
        """Send a message; a REPLY in the berth that it names."""
        check_outgoing(message)
        berth = message.fields.get("berth")
        room = None if berth is None or self.ring is None else Room(self.ring.replies_RP[berth])
        self.socket.send_multipart(encode_into(room, message))

    def reply(self, flight_id: int, reply: Reply) -> None:
        """Answer a chunk, in its berth if it came in one."""
        self.send(reply_message(flight_id, reply, self.berths.get(flight_id)))

    def hello(self, fingerprint: str, **changes: Any) -> None:
        """Send HELLO."""
        ring = self.ring and self.ring.identity
        fields = {"name": self.name, "index": self.index, "matrix": fingerprint, "ring": ring}
        self.say("HELLO", **{**fields, **changes})

    def received(self) -> Message | None:
        """The next message, if one is there."""
        if not self.socket.poll(0):
            return None
        message = decode(self.socket.recv_multipart(), self._requests)
        if message.kind == "CHUNK":
            self.berths[message.fields["flight_id"]] = message.fields["berth"]
        return message


def until(holds: Callable[[], bool], meanwhile: Callable[[], object]) -> None:
    """Repeat until something holds."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen within the limit"
        meanwhile()
        select.select([], [], [], 0.002)  # yield the core, whatever is waited for


def wait_for_exit(pids: list[int], limit_s: float = 60.0) -> list[int]:
    """Wait until these processes have ended; returns those that have not within the limit."""
    deadline = time.monotonic() + limit_s
    alive = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    alive.append(pid)
            finally:
                os.close(fd)
    return alive
