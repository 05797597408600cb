"""What is queued on a card, recorded as a CUDA graph instead."""

import gc
import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_free_streams: defaultdict[torch.device, list[torch.cuda.Stream]] = defaultdict(list)
"""To record on, by device; each owner of graphs that lives has one of its own. For each stream on which it multiplies
cuBLAS keeps a workspace, in the memory of the graph that is recorded there first: no other graph may need it when that
is gone."""


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


def _take_stream(device: torch.device) -> torch.cuda.Stream:
    """One on which no graph that lives was recorded; of high priority, as torch gives others out again and again."""
    free = _free_streams[device]
    return free.pop() if free else torch.cuda.Stream(device, priority=-1)
