"""Elements computed ahead: their order, how many, and waits that end."""

import queue
import threading
from collections.abc import Iterator

import pytest

import hybrid.prefetch
from hybrid.prefetch import prefetched
from workers.errors import DataError

LIMIT_S = 30.0


class Source:
    """Numbers from 0; each is told when it is begun, and waits to be released."""

    def __init__(self) -> None:
        self.begun: queue.Queue[int] = queue.Queue()
        self.released = threading.Semaphore(0)

    def __iter__(self) -> Iterator[int]:
        number = 0
        while True:
            self.begun.put(number)
            self.released.acquire(timeout=LIMIT_S)
            yield number
            number += 1


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """Gives nothing, while waits are as short as can be."""
    source = Source()
    for name, seconds in (("_POLL_S", 0.01), ("_LIMIT_S", 0.05), ("_JOIN_S", 0.01)):
        monkeypatch.setattr(hybrid.prefetch, name, seconds)
    yield source
    source.released.release(100)


def test_an_error_comes_where_its_element_would_have_come() -> None:
    def source() -> Iterator[int]:
        yield from range(4)
        raise DataError("the fifth")

    numbers = prefetched(source())
    assert [next(numbers) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(DataError, match="the fifth"):
        next(numbers)


def test_so_many_lie_ready_and_the_next_one_is_computed() -> None:
    source = Source()
    source.released.release(100)
    numbers = prefetched(source, depth=2)
    assert next(numbers) == 0
    assert [source.begun.get(timeout=LIMIT_S) for _ in range(4)] == [0, 1, 2, 3]
    numbers.close()
    assert source.begun.empty()


def test_an_element_that_never_comes_is_an_error_not_a_hang(stuck: Source, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"waited .* minutes for the next batch .* in vain"):
        next(prefetched(stuck))
    assert "is still being read" in caplog.text


def test_a_source_that_is_stuck_does_not_keep_the_iterator_from_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid.prefetch, "_JOIN_S", 0.01)
    source = Source()
    numbers = prefetched(source)
    source.released.release()
    assert next(numbers) == 0
    numbers.close()
    source.released.release(100)


def test_a_thread_that_ended_without_a_word_is_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "run", lambda thread: None)
    with pytest.raises(DataError, match="ended without giving it"):
        next(prefetched(range(3)))
