"""Computing the next elements of an iteration in a thread while the present one is in use."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.1


class _End:
    """The iteration ended, in order or by an error."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetched(elements: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The same elements in the same order; up to `depth` of them are computed ahead.

    An error of the source is raised where its element would have come. Closing the iterator ends the thread.

    Example:
        >>> list(prefetched(range(3)))
        [0, 1, 2]
    """
    ready: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def offer(element: "T | _End") -> bool:
        while not closed.is_set():
            try:
                ready.put(element, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        error: BaseException | None = None
        try:
            for element in elements:
                if not offer(element):
                    return
        except BaseException as e:  # noqa: BLE001 - raised again in the thread that consumes
            error = e
        offer(_End(error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(element := ready.get(), _End):
            yield element
        if element.error is not None:
            raise element.error
    finally:
        closed.set()
        thread.join()
