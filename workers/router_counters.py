"""What a router has seen since its start."""

from dataclasses import dataclass


@dataclass(slots=True)
class RouterCounters:
    """Only ever counted up."""

    chunks_submitted: int = 0
    chunks_resent: int = 0
    """Chunks sent again because their worker was lost: their rows may have been updated twice."""
    chunks_in_frames: int = 0
    """Chunks with arrays that the ring had no room for: they, or all of their arrays, were sent as frames."""
    replies_ignored: int = 0
    """Answers to chunks that were answered, or given up, before."""
    messages_ignored: int = 0
    """Messages that broke the protocol or came from nobody we know."""
    workers_lost: int = 0
    max_staleness_chunks: int = 0
    """The most updates that any chunk missed, as counted by its worker."""
