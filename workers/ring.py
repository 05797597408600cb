"""The ring: shared memory through which the arrays of chunks and replies pass on one host.

It is no ring buffer with a head and a tail, but a pool of buffers of one size, the berths: of the free ones, that used
last is used next. The name is that of `--transport ring`, an option that saved runs hold.

A berth has a request part, where the trunk puts the arrays of a chunk, and a reply part, where the worker puts those of
its answer. Headers go over ZeroMQ (`workers.protocol`) and are the doorbell. Which berth is whose, only the trunk knows
(`workers.berths`).

Concurrency: nothing is locked. What survives stopped, killed and late workers: a berth is free, or one worker's from
the CHUNK that names it until that worker answers this chunk, says BYE, or is known to be dead. Only the trunk writes
requests, only that worker writes the reply, and the reply is read only after the answer that names flight and berth. So
nothing is read while it is written; a lost worker that may wake up keeps its berths from everybody until it dies.

Legend: R berths, Q bytes of a request part, P bytes of a reply part.
"""

import mmap

from workers.config import TRANSPORTS
from workers.errors import ConfigError, MatrixMismatch
from workers.memory import ArraySpec, SharedArrays
from workers.protocol import ALIGNMENT_BYTES
from workers.settings import check_choice

_TAG_BYTES_PER_EXAMPLE = 4096
"""Room for positives, their weights and true ids; what needs more goes as frames. Unused pages are never taken."""
_MIN_BERTHS, _MAX_BERTHS = 4, 256
_MAX_BYTES = 256 << 20  # unless the fewest berths need more


class Ring:
    """The berths of one trunk and its workers. Make one with `create` (the owner of the pool) or `attach`.

    `requests_RQ` and `replies_RP` are uint8; row r is the request part, or the reply part, of berth r.
    """

    def __init__(self, arrays: SharedArrays) -> None:
        self._arrays = arrays
        self.fd = arrays.fd
        self.identity = arrays.identity
        self.requests_RQ, self.replies_RP = arrays["requests_RQ"], arrays["replies_RP"]

    @classmethod
    def create(cls, chunk_size: int, dim: int) -> "Ring":
        """A ring for chunks of up to `chunk_size` examples with features of length `dim`.

        Raises:
            MemoryError: it cannot be made.
        """
        features_bytes, loss_bytes = 4 * chunk_size * dim, 4 * chunk_size
        request_bytes = _whole_pages(features_bytes + chunk_size * _TAG_BYTES_PER_EXAMPLE)
        reply_bytes = _whole_pages(features_bytes + loss_bytes + ALIGNMENT_BYTES)
        num_berths = _MAX_BYTES // (request_bytes + reply_bytes)
        num_berths = min(max(num_berths, _MIN_BERTHS), _MAX_BERTHS)
        spec = {
            "requests_RQ": ArraySpec("|u1", (num_berths, request_bytes)),
            "replies_RP": ArraySpec("|u1", (num_berths, reply_bytes)),
        }
        return cls(SharedArrays.create(spec, reserve=False))

    @classmethod
    def attach(cls, fd: int) -> "Ring":
        """Map the ring behind an inherited descriptor, which stays open and yours.

        Raises:
            MatrixMismatch: it is no ring.
        """
        arrays = SharedArrays.attach(fd)
        shapes = {name: (spec.dtype, len(spec.shape)) for name, spec in arrays.spec.items()}
        if shapes != {"requests_RQ": ("|u1", 2), "replies_RP": ("|u1", 2)}:
            arrays.close()
            raise MatrixMismatch(f"ring: shared memory holds {shapes}; pass the descriptor of the owner's ring.")
        num_berths = len(arrays["requests_RQ"]), len(arrays["replies_RP"])
        if num_berths[0] != num_berths[1]:
            arrays.close()
            raise MatrixMismatch(f"ring: {num_berths[0]} requests for {num_berths[1]} replies.")
        return cls(arrays)

    @property
    def num_berths(self) -> int:
        """R."""
        return len(self.requests_RQ)

    def close(self) -> None:
        """Let go; the memory is given back when the last process does. Safe to call twice."""
        self._arrays.close()
        self.fd = -1


def make_ring(transport: str, chunk_size: int, dim: int) -> Ring | None:
    """The ring that a transport needs, for the owner of the pool; None for `zmq`.

    Raises:
        ConfigError: no such transport.
        MemoryError: the ring cannot be made.
    """
    check_choice("transport", transport, TRANSPORTS)
    return Ring.create(chunk_size, dim) if transport == "ring" else None


def check_reach(ring: Ring | None, endpoint: str) -> None:
    """Refuse a ring at an endpoint that is not one host's own.

    Raises:
        ConfigError: there is a ring and the endpoint is not `ipc://`.
    """
    if ring is not None and not endpoint.startswith("ipc://"):
        raise ConfigError(
            f"transport = 'ring' at the endpoint {endpoint!r}: shared memory reaches one host only. "
            "Use an endpoint ipc://..., or transport = 'zmq'."
        )


def _whole_pages(num_bytes: int) -> int:
    return -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
