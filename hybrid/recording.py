"""What is queued on a card, recorded as a CUDA graph instead."""

import gc
import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from workers.errors import ConfigError, HybridError

_free_streams: defaultdict[torch.device, list[torch.cuda.Stream]] = defaultdict(list)
"""To record on, by device; each owner of graphs that lives has one of its own. For each stream on which it multiplies
cuBLAS keeps a workspace, in the memory of the graph that is recorded there first: no other graph may need it when that
is gone."""


class NoRoom(HybridError):
    """The card has too little memory left for a graph; the message says so to people."""


class Recorder:
    """Records graphs for one owner, on a stream and in memory of their own.

    Args:
        owner: of the graphs; when it is gone, others may record on the stream.
        device: the card.
    """

    def __init__(self, owner: object, device: torch.device) -> None:
        self.device = device
        self._stream = _take_stream(device)
        weakref.finalize(owner, _free_streams[device].append, self._stream)
        self._pool: Any = torch.cuda.graph_pool_handle()

    @contextmanager
    def session(self) -> Iterator[None]:
        """Python collects no garbage inside: a graph that lay in it would be destroyed, which ends a recording."""
        gc.collect()
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_enabled:
                gc.enable()

    @contextmanager
    def recorded(self, graph: torch.cuda.CUDAGraph) -> Iterator[None]:
        """Record what is queued inside; other threads may queue work on the card meanwhile."""
        with (
            torch.cuda.stream(self._stream),  # whatever happens inside, the stream afterwards is the one before
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
        ):
            yield

    def drain(self) -> None:
        """Wait until the card has done all that it was asked for, so that no graph is in use when it is let go of."""
        torch.cuda.synchronize(self.device)

    @property
    def num_bytes(self) -> int:
        """Taken on the card by what was recorded, for as long as its owner lives."""
        segments = torch.cuda.memory_snapshot()
        return sum(one["total_size"] for one in segments if tuple(one.get("segment_pool_id", ())) == tuple(self._pool))


@contextmanager
def recording(what: str) -> Iterator[None]:
    """Say of what is recorded inside why it could not be.

    Raises:
        NoRoom: the card is short of memory. Its operations may be queued singly.
        ConfigError: it cannot be recorded. As a rule torch's random numbers and memory do not recover from that.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as e:
        raise no_room(what, str(e).partition(". ")[0]) from e
    except RuntimeError as e:
        raise ConfigError(f"{what} cannot be recorded as CUDA graphs: {_why_not(e)}") from e


def no_room(what: str, why: str) -> NoRoom:
    """For people, with a reason."""
    return NoRoom(f"no room on the card to record {what} as CUDA graphs, operations are queued singly: {why}")


def _why_not(error: RuntimeError) -> str:
    """What ended a recording, rather than that it was ended."""
    cause = (list(_causes(error)) or [error])[-1]
    reason = str(cause).partition("\n")[0].rstrip(".")
    words = f"{cause}".lower()
    if "out of memory" in words or "alloc_failed" in words or isinstance(cause, torch.cuda.OutOfMemoryError):
        question = "The card is short of memory."
    else:
        question = (
            "Does a trunk's forward ask for a value (.item(), if, print), or does another thread wait for the card or "
            "draw random numbers on it?"
        )
    return f"{reason}. {question} Start again without: --cuda-graphs off, in Python cuda_graphs=False."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _take_stream(device: torch.device) -> torch.cuda.Stream:
    """One on which no graph that lives was recorded; of high priority, as torch gives others out again and again."""
    free = _free_streams[device]
    return free.pop() if free else torch.cuda.Stream(device, priority=-1)
