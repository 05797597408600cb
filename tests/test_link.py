"""The link: what it carries, what it refuses, what it does when nobody listens."""

import logging
import os
import threading

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import ProtocolError
from workers.link import MESSAGES, Link, decode, validate

LIMIT_S = 60.0


def step(**changes):
    numbers = ("step", "in_flight", "negatives", "chunks_resent")
    fractions = (
        "epoch", "examples_per_s", "loss", "lr", "row_lr", "wait_fraction", "fraction", "eta_s", "staleness_chunks",
    )  # fmt: skip
    return {**dict.fromkeys(numbers, 1), **dict.fromkeys(fractions, 0.5), "workers": [], **changes}


@pytest.fixture
def pair(tmp_path):
    endpoint = f"ipc://{tmp_path}/link"
    launcher, trunk = Link.bind(endpoint), Link.connect(endpoint)
    yield launcher, trunk
    trunk.close(0.0)
    launcher.close(0.0)


def receive_some(link, number=1):
    messages = []
    while len(messages) < number:
        arrived = link.receive(LIMIT_S)
        assert arrived, f"got only {messages}"
        messages += arrived
    return messages


def test_messages_arrive_in_order_both_ways(pair):
    launcher, trunk = pair
    trunk.send("note", text="one")
    trunk.send("metrics", table={"P@5": 0.5})
    launcher.send("lost", worker="worker-0-0")
    launcher.send("stop")
    assert receive_some(launcher, 2) == [{"kind": "note", "text": "one"}, {"kind": "metrics", "table": {"P@5": 0.5}}]
    assert [m["kind"] for m in receive_some(trunk, 2)] == ["lost", "stop"]


def test_what_waited_for_a_peer_leaves_once_its_first_message_is_there(tmp_path):
    """Also if the peer connects while we wait already, and nothing is sent after that."""
    endpoint = f"ipc://{tmp_path}/link"
    launcher = Link.bind(endpoint)
    assert not launcher.send("stop")
    connected = []

    def greet():
        connected.append(Link.connect(endpoint))
        connected[0].send("note", text="here")

    greeting = threading.Timer(0.3, greet)
    greeting.start()
    assert receive_some(launcher) == [{"kind": "note", "text": "here"}]
    greeting.join()
    (trunk,) = connected
    assert receive_some(trunk) == [{"kind": "stop"}]
    trunk.close(0.0)
    launcher.close(0.0)


def test_numpy_scalars_become_numbers(pair):
    launcher, trunk = pair
    workers = [{"name": "w", "state": "ready", "rows_per_s": np.float64(3), "in_flight": np.int64(2)}]
    trunk.send("step", **step(loss=np.float32(0.25), step=np.int64(7), workers=workers))
    (message,) = receive_some(launcher)
    assert message["loss"] == 0.25
    assert message["step"] == 7
    assert message["workers"][0]["in_flight"] == 2


def test_text_that_is_not_unicode_arrives_with_escapes(pair):
    """As the name of a folder may be that was made under another encoding."""
    launcher, trunk = pair
    trunk.send("note", text=os.fsdecode(b"photos-\xff"))
    assert receive_some(launcher) == [{"kind": "note", "text": "photos-\\udcff"}]


def test_what_cannot_be_packed_is_refused_and_blocks_nothing(pair):
    launcher, trunk = pair
    with pytest.raises(ProtocolError, match="metrics cannot be packed"):
        trunk.send("metrics", table={"P@5": 1 << 80})
    trunk.send("note", text="next")
    assert receive_some(launcher) == [{"kind": "note", "text": "next"}]


def test_receive_returns_at_once_when_nothing_came(pair):
    assert pair[0].receive() == []


def test_without_a_peer_newer_steps_replace_older_ones_but_notes_stay(tmp_path):
    endpoint = f"ipc://{tmp_path}/link"
    launcher = Link.bind(endpoint)
    for number in range(50):
        assert not launcher.send("step", **step(step=number))
        launcher.send("note", text=str(number))
    trunk = Link.connect(endpoint)
    launcher.socket.poll(int(LIMIT_S * 1000), zmq.POLLOUT)
    assert launcher.flush()
    messages = receive_some(trunk, 51)
    assert [m["step"] for m in messages if m["kind"] == "step"] == [49]
    assert [m["text"] for m in messages if m["kind"] == "note"] == [str(n) for n in range(50)]
    trunk.close(0.0)
    launcher.close(0.0)


def test_an_outbox_that_nobody_empties_is_bounded(tmp_path):
    launcher = Link.bind(f"ipc://{tmp_path}/link")
    with pytest.raises(ProtocolError, match="peer takes none"):
        for number in range(5000):
            launcher.send("note", text=str(number))
    launcher.close(0.0)


def test_what_is_sent_before_close_arrives(tmp_path):
    endpoint = f"ipc://{tmp_path}/link"
    trunk = Link.connect(endpoint)
    trunk.send("done", outputs={"gallery": "g.html"})
    launcher = Link.bind(endpoint)
    trunk.close(LIMIT_S)
    trunk.close()
    assert receive_some(launcher) == [{"kind": "done", "outputs": {"gallery": "g.html"}}]
    launcher.close(0.0)


def test_all_that_a_peer_said_before_it_ended_is_received_however_many_wait(pair):
    launcher, trunk = pair
    for number in range(600):
        trunk.send("note", text=str(number))
    trunk.send("done", outputs={})
    trunk.close()
    *notes, last = launcher.receive_rest()
    assert [message["text"] for message in notes] == [str(number) for number in range(600)]
    assert last["kind"] == "done"
    assert launcher.receive_rest() == []


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"kind": "dance"}, "kind = 'dance'"),
        ({"kind": ["stop"]}, "kind"),
        ({}, "kind = None"),
        ([1, 2], "list"),
        ({1: 2}, "text keys"),
        ({"kind": "note"}, "note.text"),
        ({"kind": "note", "text": 3}, "note.text = 3"),
        ({"kind": "progress", "phase": "p", "text": "", "done": True, "total": 1}, "progress.done = True"),
        ({"kind": "step", **step(loss="low")}, "step.loss"),
        ({"kind": "step", **step(workers=[3])}, "step.workers"),
        ({"kind": "step", **step(workers=[{"name": "w"}])}, "step.workers.state"),
    ],
)
def test_broken_messages_are_refused_by_field(message, named):
    with pytest.raises(ProtocolError, match=named.replace("[", r"\[")):
        validate(message)


def test_a_broken_message_is_not_sent(pair):
    with pytest.raises(ProtocolError, match=r"kill\.worker"):
        pair[1].send("kill")


def test_a_broken_frame_is_dropped_with_a_warning_but_its_neighbours_arrive(pair, caplog):
    launcher, trunk = pair
    trunk.send("note", text="before")
    trunk.socket.send(b"\xc1 never msgpack")
    trunk.send("note", text="after")
    with caplog.at_level(logging.WARNING):
        messages = receive_some(launcher, 2)
    assert [m["text"] for m in messages] == ["before", "after"]
    assert "not msgpack" in caplog.text


def test_an_endpoint_that_cannot_be_bound_is_named():
    with pytest.raises(ProtocolError, match="/nowhere/at/all"):
        Link.bind("ipc:///nowhere/at/all/link")


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_give_a_message_or_a_protocol_error(frame):
    try:
        message = decode(frame)
    except ProtocolError:
        return
    assert message["kind"] in MESSAGES


@given(
    st.dictionaries(st.text(max_size=8) | st.just("kind"), st.sampled_from(list(MESSAGES)) | st.booleans() | st.none())
)
def test_any_map_gives_a_message_or_a_protocol_error(values):
    try:
        message = decode(msgpack.packb(values))
    except ProtocolError:
        return
    assert all(name in message for name in MESSAGES[message["kind"]])
