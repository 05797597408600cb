"""A real worker process, questioned by a trunk that follows a script."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest
from worker_system import DIM, HEAD, LIMIT_S, NUM_TAGS, make_chunk, private_endpoint, small_matrix, small_ring

from workers.array_codec import Frame, Part
from workers.berths import Berths
from workers.chunk import Chunk
from workers.chunk_messages import chunk_message, error_of, refusal_message, reply_of
from workers.codec import check_outgoing, decode, encode
from workers.config import TRANSPORTS
from workers.engine import WideEngine
from workers.errors import ChunkError, MatrixMismatch, ProtocolError
from workers.lifeline import TERMINATED_STATUS
from workers.lines import TrunkLine
from workers.matrix import TagMatrix
from workers.pool import WorkerPool
from workers.protocol import VERSION, Message
from workers.ring import Ring
from workers.settings import to_plain


class Trunk:
    """A trunk with one worker, one message at a time."""

    def __init__(self, endpoint: str, matrix: TagMatrix, ring: Ring | None) -> None:
        self.matrix, self.line, self.ring, self.berths = matrix, TrunkLine(endpoint), ring, Berths(ring)
        self.pool = WorkerPool(matrix, endpoint, 1, ring=ring)
        self.name = self.pool.workers[0].name

    def hear(self, *, beats: bool = False) -> Message:
        """The next message, heartbeats left out unless they are what is wanted."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for name, frames in self.line.receive():
                message = decode(frames, self.ring and [Part(memory_P) for memory_P in self.ring.replies_RP])
                assert name == self.name
                if beats or message.kind != "HEARTBEAT":
                    return message
            self.line.wait(100)
        raise AssertionError("the worker said nothing")

    def say(self, kind: str, **fields: object) -> None:
        """Send a message without arrays."""
        assert self.line.send(self.name, encode(Message(kind, fields)))

    def welcome(self) -> None:
        """Send WELCOME and wait for READY."""
        self.say("WELCOME", head=to_plain(HEAD), heartbeat_s=0.05)
        assert self.hear().kind == "READY"

    def chunk(self, flight_id: int, chunk: Chunk) -> list[Frame]:
        """The frames of a CHUNK, whose arrays lie in a berth if there is a ring."""
        message = chunk_message(flight_id, chunk)
        check_outgoing(message)
        frames, berth = self.berths.load(message)
        self.berths.lend(berth)
        assert (berth is None) == (self.ring is None)
        return frames

    def ask(self, frames: list[Frame]) -> Message:
        """Send a message, get the answer."""
        assert self.line.send(self.name, frames)
        return self.hear()

    def close(self) -> None:
        """End the worker."""
        self.pool.close()
        self.line.close()


@pytest.fixture(params=TRANSPORTS)
def new_trunk(request: pytest.FixtureRequest) -> Iterator[Trunk]:
    """A trunk whose worker has not been welcomed."""
    with small_matrix() as matrix, small_ring(request.param) as ring, private_endpoint() as endpoint:
        trunk = Trunk(endpoint, matrix, ring)
        yield trunk
        trunk.close()


@pytest.fixture(scope="module", params=TRANSPORTS)
def trunk(request: pytest.FixtureRequest) -> Iterator[Trunk]:
    """A trunk whose worker is ready; tests leave it alive, which is half of what they test."""
    with small_matrix() as matrix, small_ring(request.param) as ring, private_endpoint() as endpoint:
        trunk = Trunk(endpoint, matrix, ring)
        assert trunk.hear().kind == "HELLO"
        trunk.welcome()
        pid = trunk.pool.workers[0].pid
        yield trunk
        assert [worker.pid for worker in trunk.pool.workers] == [pid] and trunk.pool.poll() == []
        trunk.close()


def _assert_serves(trunk: Trunk) -> None:
    chunk = make_chunk(1, update=False)
    message = trunk.ask(trunk.chunk(77, chunk))
    assert message.kind == "REPLY" and message.fields["flight_id"] == 77


def test_reply_is_the_engines(trunk: Trunk) -> None:
    chunk = make_chunk(2, update=False)
    got = reply_of(trunk.ask(trunk.chunk(3, chunk)), chunk)
    expected = WideEngine(trunk.matrix, HEAD, 9).apply(chunk)
    np.testing.assert_array_equal(got.loss_B, expected.loss_B)
    np.testing.assert_array_equal(got.feature_grad_BD, expected.feature_grad_BD)
    assert (got.rows_written, got.accidental_hits) == (
        expected.rows_written,
        expected.accidental_hits,
    ) and got.kernel_ns > 0


def test_rows_are_updated_in_the_shared_matrix(trunk: Trunk) -> None:
    chunk = make_chunk(4)
    before_ND = trunk.matrix.rows_ND.copy()
    reply = reply_of(trunk.ask(trunk.chunk(3, chunk)), chunk)
    changed_N = (trunk.matrix.rows_ND != before_ND).any(axis=1)
    assert changed_N[chunk.pos_ids].all() and changed_N.sum() <= reply.rows_written


def _with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[-1] = value
    return changed


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("pos_ids", lambda c: {"pos_ids": _with_value(c.pos_ids, NUM_TAGS)}),
        ("pos_ids", lambda c: {"pos_ids": _with_value(c.pos_ids, -1)}),
        ("true_ids", lambda c: {"true_ids": _with_value(c.true_ids, 2**31 - 1)}),
        ("pos_offsets", lambda c: {"pos_offsets": _with_value(c.pos_offsets, 2**31 - 1)}),
        ("pos_offsets", lambda c: {"pos_offsets": c.pos_offsets[:-1].copy()}),
        ("features_BD", lambda c: {"features_BD": _with_value(c.features_BD, np.nan)}),
        ("features_BD", lambda c: {"features_BD": _with_value(c.features_BD, -np.inf)}),
        ("features_BD", lambda c: {"features_BD": np.zeros((8, DIM + 4), np.float32)}),
        (
            "features_BD",
            lambda c: {"features_BD": np.zeros((0, DIM), np.float32), "pos_offsets": np.zeros(1, np.int32)},
        ),
        ("items_B", lambda c: {"items_B": np.arange(8), "true_ids": None, "true_offsets": None}),
        ("items_B", lambda c: {"items_B": np.arange(8)}),
        ("num_negatives", lambda c: {"num_negatives": 0}),
        ("num_negatives", lambda c: {"num_negatives": 2**62}),
        ("row_lr", lambda c: {"row_lr": -1.0}),
    ],
)
def test_bad_values_are_refused_by_name(trunk: Trunk, field: str, change: Callable[[Chunk], dict]) -> None:
    before_ND = trunk.matrix.rows_ND.copy()
    message = trunk.ask(trunk.chunk(5, make_chunk(1, **change(make_chunk(1)))))
    error = error_of(message)
    assert message.fields["flight_id"] == 5 and type(error) is ChunkError and str(error).startswith(f"{field}: ")
    np.testing.assert_array_equal(trunk.matrix.rows_ND, before_ND)
    _assert_serves(trunk)


def test_unknown_schema_version_is_refused_by_name(trunk: Trunk) -> None:
    header, *arrays = trunk.chunk(6, make_chunk())
    message = trunk.ask([msgpack.packb([VERSION + 1, *msgpack.unpackb(header)[1:]]), *arrays])
    error = error_of(message)
    assert message.fields["flight_id"] == 6 and type(error) is ProtocolError and str(error).startswith("v: ")
    _assert_serves(trunk)


@pytest.mark.parametrize("frames", [[b""], [b"\xc1"], [b"\x80cposix\nsystem\n"], [b"x" * 100_000], [b"\x81"] * 20])
def test_garbage_is_refused(trunk: Trunk, frames: list[bytes]) -> None:
    message = trunk.ask(list(frames))
    assert message.fields["flight_id"] is None and type(error_of(message)) is ProtocolError
    _assert_serves(trunk)


def test_messages_for_a_trunk_are_refused(trunk: Trunk) -> None:
    error = error_of(trunk.ask(encode(Message("READY"))))
    assert type(error) is ProtocolError and str(error).startswith("kind: ")
    _assert_serves(trunk)


def test_refusals_and_a_second_welcome_are_not_answered(trunk: Trunk) -> None:
    trunk.say("REFUSED", flight_id=None, error="ProtocolError", message="no")
    trunk.say("WELCOME", head={}, heartbeat_s=1e9)
    _assert_serves(trunk)


def test_idle_worker_says_that_it_lives(trunk: Trunk) -> None:
    assert [trunk.hear(beats=True).kind for _ in range(3)] == ["HEARTBEAT"] * 3


def test_worker_has_one_thread_of_everything(trunk: Trunk) -> None:
    entries = Path(f"/proc/{trunk.pool.workers[0].pid}/environ").read_bytes().split(b"\0")
    environment = dict(entry.split(b"=", 1) for entry in entries if entry)
    for name in (b"OPENBLAS_NUM_THREADS", b"OMP_NUM_THREADS", b"MKL_NUM_THREADS", b"NUMBA_NUM_THREADS"):
        assert environment[name] == b"1"


def test_drained_worker_answers_what_it_has_and_leaves(new_trunk: Trunk) -> None:
    assert new_trunk.hear().kind == "HELLO"
    new_trunk.welcome()
    (worker,) = new_trunk.pool.workers
    for flight_id in range(5):
        assert new_trunk.line.send(new_trunk.name, new_trunk.chunk(flight_id, make_chunk(flight_id)))
    new_trunk.say("DRAIN")
    messages = [new_trunk.hear() for _ in range(6)]
    assert [m.kind for m in messages] == ["REPLY"] * 5 + ["BYE"]
    assert [m.fields["flight_id"] for m in messages[:5]] == list(range(5))
    assert worker.process.wait(LIMIT_S) == 0


def test_worker_drained_instead_of_welcomed_leaves(new_trunk: Trunk) -> None:
    hello = new_trunk.hear()
    (worker,) = new_trunk.pool.workers
    assert hello.fields == {
        "name": worker.name,
        "index": 0,
        "matrix": new_trunk.matrix.fingerprint,
        "ring": new_trunk.ring and new_trunk.ring.identity,
    }
    new_trunk.say("DRAIN")
    assert new_trunk.hear().kind == "BYE"
    assert worker.process.wait(LIMIT_S) == 0


def test_signals_that_a_batch_system_sends_to_a_whole_job_are_not_the_workers(new_trunk: Trunk) -> None:
    assert new_trunk.hear().kind == "HELLO"
    (worker,) = new_trunk.pool.workers
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(worker.pid, number)
    os.kill(worker.pid, signal.SIGTERM)
    assert new_trunk.hear().kind == "BYE", "it lived on, and then left in order"


def test_worker_that_is_terminated_before_it_was_welcomed_says_bye(new_trunk: Trunk) -> None:
    assert new_trunk.hear().kind == "HELLO"
    (worker,) = new_trunk.pool.workers
    os.kill(worker.pid, signal.SIGTERM)
    assert new_trunk.hear().kind == "BYE"
    assert worker.process.wait(LIMIT_S) == 0


def test_worker_that_is_terminated_while_it_serves_does_not_pass_for_one_that_left_in_order(new_trunk: Trunk) -> None:
    assert new_trunk.hear().kind == "HELLO"
    new_trunk.welcome()
    (worker,) = new_trunk.pool.workers
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.process.wait(LIMIT_S) == TERMINATED_STATUS != 0


@pytest.mark.parametrize(
    ("welcome", "last_words"),
    [
        (refusal_message(None, MatrixMismatch("matrix: another one")), "MatrixMismatch: matrix: another one"),
        (refusal_message(None, ProtocolError("version: 4")), "ProtocolError: version: 4"),
        ([msgpack.packb([99, "WELCOME", [], []])], "ProtocolError: "),
        (Message("WELCOME", {"head": {"negativs": 3}, "heartbeat_s": 1.0}), "unknown setting 'head.negativs'"),
        (Message("WELCOME", {"head": {"negatives": 0}, "heartbeat_s": 1.0}), "head.negatives = 0"),
    ],
)
def test_worker_that_cannot_serve_ends_and_says_why(
    new_trunk: Trunk, welcome: Message | list[bytes], last_words: str
) -> None:
    assert new_trunk.hear().kind == "HELLO"
    (worker,) = new_trunk.pool.workers
    assert new_trunk.line.send(new_trunk.name, encode(welcome) if isinstance(welcome, Message) else welcome)
    assert worker.process.wait(LIMIT_S) == 1
    assert last_words in worker.log.last_words()
