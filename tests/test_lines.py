"""The trunk's end of the wire when Ctrl-C comes in the middle of a message and the trunk goes on."""

import contextlib
from collections.abc import Iterator

import pytest
from interrupted_socket import InterruptedSocket
from worker_system import LIMIT_S, private_endpoint, until

from workers.lines import TrunkLine, WorkerLine


class Ends:
    """A trunk's line, and two workers' that it knows."""

    def __init__(self, endpoint: str) -> None:
        self.trunk = TrunkLine(endpoint)
        self.workers = {name: WorkerLine(endpoint, name) for name in ("first", "second")}
        for name, worker in self.workers.items():
            assert worker.send([b"hello"])
            assert self.heard(1) == [(name, [b"hello"])]

    def heard(self, num_messages: int) -> list[tuple[str, list[bytes]]]:
        """So many messages that the trunk receives."""
        heard: list[tuple[str, list[bytes]]] = []
        until(
            lambda: len(heard) >= num_messages,
            lambda: heard.extend((name, list(map(bytes, frames))) for name, frames in self.trunk.receive()),
        )
        return heard

    def got(self, name: str) -> list[bytes]:
        """The next message that this worker receives."""
        frames = self.workers[name].receive(LIMIT_S)
        assert frames is not None
        return list(map(bytes, frames))

    @contextlib.contextmanager
    def interrupted(self, method: str, call: int, is_done: bool) -> Iterator[None]:
        """Ctrl-C comes at this call, and nothing after it."""
        socket = self.trunk._socket
        self.trunk._socket = InterruptedSocket(socket, method, call, is_done=is_done)  # type: ignore[assignment]
        try:
            with pytest.raises(KeyboardInterrupt):
                yield
        finally:
            self.trunk._socket = socket


@pytest.fixture
def ends() -> Iterator[Ends]:
    with private_endpoint() as endpoint:
        ends = Ends(endpoint)
        yield ends
        for worker in ends.workers.values():
            worker.close(hand_over=False)
        ends.trunk.close()


_CALLS = [(frames, call) for frames in ([b"alone"], [b"header", b"array", b"last"]) for call in range(len(frames) + 1)]


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize(("frames", "call"), _CALLS)
def test_an_interrupted_send_is_whole_or_refused_and_the_next_one_begins_anew(
    ends: Ends, frames: list[bytes], call: int, is_done: bool
) -> None:
    num_taken = ends.trunk.num_taken
    with ends.interrupted("send", call, is_done):
        ends.trunk.send("first", frames)
    was_taken = ends.trunk.num_taken > num_taken
    assert was_taken == (call == len(frames)), "the call for the last frame, the name being another one"
    assert ends.trunk.send("second", [b"next"]) and ends.trunk.send("first", [b"end"])
    assert ends.got("second") == [b"next"]
    messages = list(iter(lambda: ends.got("first"), [b"end"]))
    if was_taken:
        assert messages == [frames]
    else:
        assert all(message[-1] == b"\0" for message in messages) and len(messages) <= 1


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("call", [0, 1, 2, 3])
def test_an_interrupted_message_is_received_later_and_the_next_one_is_itself(
    ends: Ends, call: int, is_done: bool
) -> None:
    frames = [b"header", b"array", b"last"]
    assert ends.workers["first"].send(frames)
    until(lambda: bool(ends.trunk._socket.poll(0)), lambda: None)
    with ends.interrupted("recv", call, is_done):
        list(ends.trunk.receive())
    assert ends.workers["second"].send([b"next"])
    what_is_left = frames[: call - 1] + frames[call:] if is_done else frames
    messages = [] if is_done and call == 0 else [("first", what_is_left)]
    assert ends.heard(len(messages) + 1) == [*messages, ("second", [b"next"])]


def test_a_message_whose_only_frame_is_lost_is_dropped(ends: Ends) -> None:
    """There is nothing to read: its worker falls silent, as far as the trunk sees."""
    assert ends.workers["first"].send([b"alone"])
    until(lambda: bool(ends.trunk._socket.poll(0)), lambda: None)
    with ends.interrupted("recv", 1, True):
        list(ends.trunk.receive())
    assert ends.workers["second"].send([b"next"])
    assert ends.heard(1) == [("second", [b"next"])]


def test_a_message_to_nobody_is_not_taken(ends: Ends) -> None:
    num_taken = ends.trunk.num_taken
    assert not ends.trunk.send("nobody", [b"alone"]) and ends.trunk.num_taken == num_taken
    assert ends.trunk.send("first", [b"alone"]) and ends.trunk.num_taken == num_taken + 1
