"""Computing the next elements of an iteration in a thread while the present one is in use."""

import logging
import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

from workers.errors import DataError

T = TypeVar("T")

_POLL_S = 0.1
_LIMIT_S = 600.0
"""A batch takes a fraction of a second; one that takes so long will never come."""
_JOIN_S = 30.0

logger = logging.getLogger(__name__)


class _End:
    """The iteration ended, in order or by an error."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetched(elements: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The same elements in the same order; up to `depth` of them lie ready, and the one after them is computed.

    An error of the source is raised where its element would have come. Closing the iterator ends the thread, as soon as
    the element that it computes is there; one that is stuck is left behind after half a minute.

    Raises:
        DataError: the next element does not come within ten minutes.

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
        while not isinstance(element := _next(ready, thread), _End):
            yield element
        if element.error is not None:
            raise element.error
    finally:
        closed.set()
        thread.join(_JOIN_S)
        if thread.is_alive():
            logger.warning("a batch that nobody wants any more is still being read after %g s", _JOIN_S)


def _next(ready: "queue.Queue[T | _End]", thread: threading.Thread) -> "T | _End":
    """Wait for what the thread computes; turns are counted, so a process that was stopped for long is no failure."""
    for _ in range(max(1, round(_LIMIT_S / _POLL_S))):
        is_last_look = not thread.is_alive()  # asked first: what it put before it ended is found then
        try:
            return ready.get(timeout=_POLL_S)
        except queue.Empty:
            if is_last_look:
                raise DataError("the thread that reads the next batch ended without giving it.") from None
    raise DataError(
        f"waited {_LIMIT_S / 60:g} minutes for the next batch of a training in vain. Is the disk that holds it stuck?"
    )
