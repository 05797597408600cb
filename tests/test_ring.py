"""The ring: whose berth is whose when workers answer, lie, fall silent, wake up and die."""

import logging
import os
from collections.abc import Iterator

import numpy as np
import pytest
from interrupted_socket import InterruptedSocket
from test_router import Clock, Register, Stage
from worker_system import (
    BATCH,
    DIM,
    HEAD,
    LIMIT_S,
    make_chunk,
    make_reply,
    private_endpoint,
    small_matrix,
    small_ring,
    worker_system,
)

from workers.array_codec import Room
from workers.berths import Berths
from workers.chunk_messages import chunk_message, reply_message
from workers.codec import encode_into
from workers.errors import ChunkError, ConfigError, MatrixMismatch
from workers.peers import Peer
from workers.pool import WorkerPool
from workers.protocol import Message
from workers.ring import Ring, make_ring
from workers.router import Router


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A router with a ring, without workers."""
    clock = Clock()
    monkeypatch.setattr("workers.router.time", clock)
    with small_matrix() as matrix, small_ring("ring") as ring, private_endpoint() as endpoint:
        register = Register()
        stage = Stage(
            Router(endpoint, head=HEAD, matrix=matrix, membership=register, ring=ring), matrix, register, clock
        )
        stage.ring = ring
        yield stage
        for peer in stage.peers:
            peer.socket.close()
        stage.router.close()


def _berths(stage: Stage) -> Berths:
    return stage.router._exchange._berths


def _all_free(stage: Stage) -> bool:
    free = _berths(stage)._free
    return sorted(free) == list(range(stage.ring.num_berths))


def _fields_of_next(stage: Stage, peer) -> dict:
    return stage.hear(peer).fields


def test_arrays_of_chunk_and_reply_pass_through_the_berth(stage: Stage) -> None:
    peer = stage.worker()
    chunk = make_chunk(3)
    ticket = stage.router.submit([chunk])
    message = stage.hear(peer)
    assert np.shares_memory(message.arrays["features_BD"], stage.ring.requests_RQ)
    np.testing.assert_array_equal(message.arrays["features_BD"], chunk.features_BD)
    gradient_BD = np.random.default_rng(0).standard_normal((BATCH, DIM)).astype(np.float32)
    stage.answer(peer, message.fields["flight_id"], chunk, feature_grad_BD=gradient_BD)
    (reply,) = stage.router.collect(ticket, LIMIT_S)
    assert _all_free(stage)
    stage.ring.replies_RP[:] = 0xFF  # the next chunk's: what was collected must not change with it
    np.testing.assert_array_equal(reply.feature_grad_BD, gradient_BD)
    np.testing.assert_array_equal(ticket.feature_grads.reshape(BATCH, DIM), gradient_BD)


def test_berth_used_last_is_used_next(stage: Stage) -> None:
    peer, used = stage.worker(), set()
    for number in range(10):
        ticket = stage.router.submit([make_chunk(number)])
        message = stage.hear(peer)
        used.add(message.fields["berth"])
        stage.answer(peer, message.fields["flight_id"], make_chunk(number))
        stage.router.collect(ticket, LIMIT_S)
    assert len(used) == 1


def test_chunks_in_flight_never_share_a_berth(stage: Stage) -> None:
    first, second = stage.worker(0), stage.worker(1)
    stage.router.submit([make_chunk(n) for n in range(20)])
    berths = [_fields_of_next(stage, peer)["berth"] for _ in range(10) for peer in (first, second)]
    assert len(set(berths)) == 20


def test_berth_of_a_silent_worker_is_nobodys_until_its_death_is_known(stage: Stage) -> None:
    silent, other = stage.worker(0), stage.worker(1)
    ticket = stage.router.submit([make_chunk(0)])
    lent = _fields_of_next(stage, silent)["berth"]
    stage.pass_time(10.0)
    other.say("HEARTBEAT")
    stage.until(lambda: stage.router._peers[other.name].heard_s > stage.clock.now_s - 1)
    stage.pass_time(8.0)
    assert stage.register.killed == [silent.name]
    again = stage.hear(other).fields
    assert again["berth"] != lent
    stage.ring.replies_RP[lent] = 0x55  # it wakes up in the middle of its chunk
    stage.answer(other, again["flight_id"], make_chunk(0), loss_B=np.full(BATCH, 2, np.float32))
    np.testing.assert_array_equal(stage.router.collect(ticket, LIMIT_S)[0].loss_B, 2)
    assert lent not in _berths(stage)._free and not _all_free(stage)
    stage.register.dead.append(silent.name)
    stage.pass_time(1.0)
    assert _all_free(stage)


def test_words_of_a_worker_that_was_given_up_are_not_heard(stage: Stage) -> None:
    silent = stage.worker(0)
    ticket = stage.router.submit([make_chunk(0)])
    flight_id = stage.hear(silent).fields["flight_id"]
    stage.router._expel(stage.router._peers[silent.name], stage.clock.now_s, "was silent")
    ignored = stage.router.counters.messages_ignored
    stage.answer(silent, flight_id, make_chunk(0))
    silent.say("BYE")
    router, heard = stage.router, stage.router.counters
    stage.until(
        lambda: heard.messages_ignored == ignored + 2,
        lambda: [router._take(*m, stage.clock.now_s) for m in router._line.receive()],
    )
    assert not ticket.is_done and not _all_free(stage)


def test_berths_of_a_worker_that_died_or_left_are_free(stage: Stage) -> None:
    dead, rude = stage.worker(0), stage.worker(1)
    stage.router.submit([make_chunk(n) for n in range(6)])
    stage.hear(dead), stage.hear(rude)
    rude.say("BYE")
    stage.until(lambda: stage.state(rude) is None)
    stage.register.dead.append(dead.name)
    stage.pass_time(1.0)
    assert stage.router.num_in_flight == 6 and _all_free(stage)


def test_given_up_chunk_keeps_its_berth_until_its_worker_has_answered(stage: Stage) -> None:
    peer = stage.worker()
    ticket = stage.router.submit([make_chunk(0)])
    lent = stage.hear(peer).fields
    stage.router.give_up(ticket)
    assert lent["berth"] not in _berths(stage)._free
    stage.answer(peer, lent["flight_id"], make_chunk(0))
    stage.until(lambda: stage.router.counters.replies_ignored == 1)
    assert _all_free(stage)


def test_second_answer_to_a_chunk_frees_nothing(stage: Stage) -> None:
    peer = stage.worker()
    first = stage.router.submit([make_chunk(0)])
    flight_id = stage.answer_next(peer)
    stage.router.collect(first, LIMIT_S)
    stage.router.submit([make_chunk(1)])
    lent = stage.hear(peer).fields["berth"]
    stage.answer(peer, flight_id, make_chunk(0))
    stage.until(lambda: stage.router.counters.replies_ignored == 1)
    assert lent not in _berths(stage)._free and len(set(_berths(stage)._free)) == stage.ring.num_berths - 1


@pytest.mark.parametrize("wrong", [1, None])
def test_reply_in_another_berth_ends_its_worker(stage: Stage, wrong: int | None) -> None:
    liar = stage.worker(0)
    ticket = stage.router.submit([make_chunk(0)])
    lent = stage.hear(liar).fields
    berth = wrong if wrong is None else lent["berth"] + 1
    liar.send(reply_message(lent["flight_id"], make_reply(make_chunk(0)), berth))
    stage.until(lambda: stage.register.killed == [liar.name])
    assert not ticket.is_done


def test_reply_beyond_its_part_ends_its_worker(stage: Stage) -> None:
    liar = stage.worker(0)
    ticket = stage.router.submit([make_chunk(0)])
    lent = stage.hear(liar).fields
    liar.ring = Ring.create(BATCH, 100 * DIM)  # larger parts: what it says to lie there is not in ours
    room = Room(liar.ring.replies_RP[0])
    while (place := room.make((BATCH, DIM), np.float32)) is not None:
        last = place
    reply = reply_message(lent["flight_id"], make_reply(make_chunk(0), feature_grad_BD=last), lent["berth"])
    message = Message(reply.kind, reply.fields, {"feature_grad_BD": last, "loss_B": reply.arrays["loss_B"]})
    liar.socket.send_multipart(encode_into(room, message))
    stage.until(lambda: stage.register.killed == [liar.name])
    assert not ticket.is_done
    liar.ring.close()


def test_chunk_too_large_for_a_berth_is_sent_counted_and_said_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    peer = stage.worker()
    many = np.arange(20_000, dtype=np.int32)
    offsets = np.array([0] * BATCH + [len(many)], np.int32)
    large = make_chunk(0, true_ids=many, true_offsets=offsets)
    with caplog.at_level(logging.WARNING, "workers.berths"):
        ticket = stage.router.submit([large, large])
        for _ in range(2):
            message = stage.hear(peer)
            np.testing.assert_array_equal(message.arrays["true_ids"], many)
            assert np.shares_memory(message.arrays["features_BD"], stage.ring.requests_RQ)
            stage.answer(peer, message.fields["flight_id"], large)
    assert len(stage.router.collect(ticket, LIMIT_S)) == 2
    assert stage.router.counters.chunks_in_frames == 2
    assert [r.message for r in caplog.records] == [
        "sent arrays of a chunk as frames: a berth is too small. This is said once, and counted."
    ]


def test_chunks_beyond_the_berths_go_as_frames(stage: Stage) -> None:
    peer = stage.worker()
    del _berths(stage)._free[2:]
    ticket = stage.router.submit([make_chunk(n) for n in range(5)])
    for _ in range(5):
        stage.answer_next(peer)
    assert len(stage.router.collect(ticket, LIMIT_S)) == 5 and stage.router.counters.chunks_in_frames == 3


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("call", [0, 1])
def test_ctrl_c_while_a_chunk_is_sent_leaves_nothing_booked_that_is_not_sent(
    stage: Stage, call: int, is_done: bool
) -> None:
    peer, line = stage.worker(), stage.router._line
    waiting = stage.router._exchange.submit([make_chunk(0)])  # of a ticket that nobody gives up
    socket = line._socket
    line._socket = InterruptedSocket(socket, "send", call, is_done=is_done)
    with pytest.raises(KeyboardInterrupt):
        stage.router.service()
    line._socket = socket
    assert _all_free(stage) == (call == 0) and stage.router.workers()[0].in_flight == call
    if call == 0 and is_done:
        peer.socket.recv_multipart()  # what was spoilt; a worker refuses it
    message = stage.hear(peer)
    stage.answer(peer, message.fields["flight_id"], make_chunk(0))
    assert len(stage.router.collect(waiting, LIMIT_S)) == 1
    assert _all_free(stage) and peer.received() is None, "it was sent once"


def test_ctrl_c_while_a_chunk_is_written_into_its_berth_leaves_that_free(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    stage.worker()
    monkeypatch.setattr("workers.berths.encode_into", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.router.submit([make_chunk(0)])
    assert _all_free(stage) and stage.router.num_in_flight == 0


def test_ctrl_c_while_an_answer_is_counted_gives_a_berth_back_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either its worker still answers for it, or it is free."""
    peer, answered = stage.worker(), Peer.answered

    def interrupt_before(*arguments: object) -> None:
        raise KeyboardInterrupt

    def interrupt_after(*arguments: object) -> None:
        answered(*arguments)
        raise KeyboardInterrupt

    for interrupt, is_free in ((interrupt_after, True), (interrupt_before, False)):
        stage.router.submit([make_chunk(0)])
        stage.answer(peer, _fields_of_next(stage, peer)["flight_id"], make_chunk(0))
        with monkeypatch.context() as pressed, pytest.raises(KeyboardInterrupt):
            pressed.setattr(Peer, "answered", interrupt)
            stage.until(lambda: False)
        assert _all_free(stage) == is_free
    peer.say("BYE")
    stage.until(lambda: stage.state(peer) is None)
    assert _all_free(stage)


def test_worker_without_a_ring_is_served_in_frames(stage: Stage) -> None:
    ring, stage.ring = stage.ring, None
    peer = stage.worker()
    ticket = stage.router.submit([make_chunk(0)])
    message = stage.hear(peer)
    assert message.fields["berth"] is None
    stage.answer(peer, message.fields["flight_id"], make_chunk(0))
    assert len(stage.router.collect(ticket, LIMIT_S)) == 1 and stage.router.counters.chunks_in_frames == 0
    stage.ring = ring
    assert _all_free(stage)


def test_worker_of_another_ring_is_refused(stage: Stage) -> None:
    peer = stage.peer("worker-0-1")
    peer.hello(stage.matrix.fingerprint, ring="another")
    message = stage.hear(peer)
    assert message.kind == "REFUSED" and message.fields["error"] == MatrixMismatch.__name__
    assert message.fields["message"].startswith("ring: ") and stage.router.workers() == []


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "inproc://head"])
def test_ring_between_hosts_is_refused(stage: Stage, endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"'ring' at the endpoint .* Use an endpoint ipc:.* or transport = 'zmq'"):
        Router(endpoint, head=HEAD, matrix=stage.matrix, membership=stage.register, ring=stage.ring)
    with pytest.raises(ConfigError, match="transport = 'ring'"):
        WorkerPool(stage.matrix, endpoint, 1, ring=stage.ring)


def test_unknown_transport_is_refused() -> None:
    with pytest.raises(ConfigError, match="transport = 'rung'"):
        make_ring("rung", 8, 8)


def test_ring_takes_only_the_pages_that_are_used() -> None:
    ring = Ring.create(256, 256)
    try:
        assert os.fstat(ring.fd).st_blocks * 512 <= 1 << 16
        berth, frames = 0, Berths(ring)
        message = chunk_message(0, make_chunk())
        _, berth = frames.load(message)
        assert berth == 0 and os.fstat(ring.fd).st_blocks * 512 <= 1 << 17 < os.fstat(ring.fd).st_size
    finally:
        ring.close()
        ring.close()


@pytest.mark.parametrize(("chunk_size", "dim"), [(1, 4), (32, 128), (256, 256), (4096, 4096)])
def test_every_legal_chunk_and_its_reply_fit_a_berth(chunk_size: int, dim: int) -> None:
    ring = Ring.create(chunk_size, dim)
    try:
        room = Room(ring.replies_RP[0])
        assert room.make((chunk_size,), np.float32) is not None
        assert room.make((chunk_size, dim), np.float32) is not None
        assert Room(ring.requests_RQ[-1]).make((chunk_size, dim), np.float32) is not None
        assert 4 <= ring.num_berths <= 256
    finally:
        ring.close()


def test_other_shared_memory_is_no_ring(stage: Stage) -> None:
    with pytest.raises(MatrixMismatch, match=r"^ring: "):
        Ring.attach(stage.matrix.fd)


def _numbers(transport: str) -> list[np.ndarray]:
    """Everything that one real worker computes from a stream of chunks, refusals included."""
    numbers = []
    with worker_system(1, transport) as system:
        for step in range(6):
            chunks = [make_chunk(step, chunk=n, features_BD=_features(step, n)) for n in range(4)]
            replies = system.router.collect(system.router.submit(chunks), LIMIT_S)
            numbers += [a.copy() for reply in replies for a in (reply.loss_B, reply.feature_grad_BD)]
            with pytest.raises(ChunkError):
                bad = make_chunk(step, features_BD=np.full((BATCH, DIM), np.inf, np.float32))
                system.router.collect(system.router.submit([bad]), LIMIT_S)
        numbers += [system.matrix.rows_ND.copy(), system.matrix.tag_state_N4.copy()]
        assert system.router.counters.chunks_in_frames == 0
    return numbers


def _features(step: int, number: int) -> np.ndarray:
    return np.random.default_rng((step, number)).standard_normal((BATCH, DIM)).astype(np.float32)


def test_both_transports_give_the_same_numbers_bit_for_bit() -> None:
    over_zmq, over_ring = _numbers("zmq"), _numbers("ring")
    assert len(over_zmq) == len(over_ring) == 6 * 4 * 2 + 2
    for zmq, ring in zip(over_zmq, over_ring, strict=True):
        np.testing.assert_array_equal(zmq.view(np.uint32), ring.view(np.uint32))
