"""The wire protocol between a trunk (ROUTER, binds) and its workers (DEALER, connect).

     worker                                   trunk
    1  HELLO(name, matrix, ring, ...)   ────►         the socket identity is the name; `matrix` is a fingerprint,
                                                      `ring` the identity of the worker's ring, or null
    2                                   ◄────  WELCOME(head, heartbeat_s)
    3  READY()                          ────►         kernels are compiled; chunks may come
    4                                   ◄────  CHUNK(flight_id, berth, ...) + arrays
    5a REPLY(flight_id, berth, ...)     ────►         + arrays; a flight is one chunk on its way, and counts once
    5b REFUSED(flight_id, error, ...)   ────►         the message names the field; the worker lives on
    6  HEARTBEAT()                      ────►         whenever a worker had nothing to do for heartbeat_s
    7                                   ◄────  DRAIN()     answer every chunk that you have, then leave
    8  BYE()                            ────►         no chunk is left here, nor is a berth touched any more

A trunk refuses a worker of another matrix or ring, or whose first message it cannot read, by 5b in its own direction,
with flight_id null. A worker that is refused, or cannot read what it hears, before 2 ends. Nobody answers a REFUSED.

Frames of a message: a header, then one raw little-endian C-order frame for each array that the header does not place
in shared memory. A header is a msgpack array: version, kind, the kind's fields in the order of `SCHEMA`, and a list of
the message's arrays:

    [4, "CHUNK", [7, 3, ...], [[0, 0, 32, 128], [1, 16384, 160], ..., [6, null, 9000], ...]] | raw of true_ids | ...

Of an array it says which one of the kind's it is (they rise), where it lies, and its shape. It lies at a byte offset in
the request part (4) or the reply part (5a) of the message's berth, or, if that is null, in a frame. Offsets rise, are
multiples of 64, and arrays do not overlap. A message whose berth is null has frames alone: so over `--transport zmq`,
and where no berth is free.

Names and types of fields and arrays are not sent: a version stands for all of them.

    4   a CHUNK with a berth lends it to the worker, which may write its reply part until it answers
    5   any answer, 5a or 5b, hands it back; 5a names the same berth, even if its arrays follow as frames
    8   hands back whatever the worker still had; so does its death, and nothing else (see `workers.ring`)

`SCHEMA` below is the whole of it; `workers.codec` checks whatever arrives against it. Nothing is ever unpickled.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

VERSION = 4
MAX_HEADER_BYTES = 64 * 1024
MAX_FRAME_BYTES = 1 << 30
MAX_TEXT = 8192
MAX_INT = 2**63 - 1
ALIGNMENT_BYTES = 64
"""Of arrays in a berth: part of the protocol, and so the same whatever the cache lines of a machine are."""

_INT_OR_NONE = (int, type(None))
_PLAIN = frozenset({int, float, bool, type(None)})


def align(offset: int) -> int:
    """The first place from this offset on where an array in shared memory may begin."""
    return -(-offset // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


@dataclass(frozen=True, slots=True)
class ArrayField:
    """One array of a message kind."""

    dtype: str
    ndim: int
    optional: bool = False
    numpy: "np.dtype[Any]" = field(init=False)
    """The same type for NumPy."""
    itemsize: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numpy", np.dtype(self.dtype))
        object.__setattr__(self, "itemsize", self.numpy.itemsize)  # asked of NumPy it takes longer


@dataclass(frozen=True, slots=True)
class MessageKind:
    """The fields and arrays that one kind of message carries: all of them, and no others."""

    fields: Mapping[str, type | tuple[type, ...]] = field(default_factory=dict)
    arrays: Mapping[str, ArrayField] = field(default_factory=dict)
    array_list: tuple[tuple[str, ArrayField], ...] = field(init=False)
    array_places: Mapping[str, int] = field(init=False)
    required_arrays: frozenset[str] = field(init=False)
    plain_types: frozenset[tuple[type, ...]] = field(init=False)
    """What types the values of its fields may have, if these are numbers; none otherwise."""

    def __post_init__(self) -> None:
        choices = [expected if isinstance(expected, tuple) else (expected,) for expected in self.fields.values()]
        is_plain = _PLAIN.issuperset(itertools.chain(*choices))
        object.__setattr__(self, "plain_types", frozenset(itertools.product(*choices) if is_plain else ()))
        object.__setattr__(self, "array_list", tuple(self.arrays.items()))
        object.__setattr__(self, "array_places", {name: place for place, name in enumerate(self.arrays)})
        required = frozenset(name for name, spec in self.arrays.items() if not spec.optional)
        object.__setattr__(self, "required_arrays", required)


SCHEMA: dict[str, MessageKind] = {
    "HELLO": MessageKind({"name": str, "index": int, "matrix": str, "ring": (str, type(None))}),
    "WELCOME": MessageKind({"head": dict, "heartbeat_s": float}),
    "READY": MessageKind(),
    "CHUNK": MessageKind(
        {
            "flight_id": int,
            "berth": _INT_OR_NONE,
            "step": int,
            "chunk": int,
            "seed": int,
            "num_negatives": int,
            "row_lr": float,
            "update": bool,
        },
        {
            "features_BD": ArrayField("<f4", 2),
            "pos_ids": ArrayField("<i4", 1),
            "pos_offsets": ArrayField("<i4", 1),
            "pos_weights": ArrayField("<f4", 1, optional=True),
            "example_weights": ArrayField("<f4", 1, optional=True),
            "items_B": ArrayField("<i8", 1, optional=True),
            "true_ids": ArrayField("<i4", 1, optional=True),
            "true_offsets": ArrayField("<i4", 1, optional=True),
        },
    ),
    "REPLY": MessageKind(
        {
            "flight_id": int,
            "berth": _INT_OR_NONE,
            "rows_written": int,
            "accidental_hits": int,
            "staleness_chunks": int,
            "draw_ns": int,
            "kernel_ns": int,
        },
        {"loss_B": ArrayField("<f4", 1), "feature_grad_BD": ArrayField("<f4", 2)},
    ),
    "REFUSED": MessageKind({"flight_id": _INT_OR_NONE, "error": str, "message": str}),
    "HEARTBEAT": MessageKind(),
    "DRAIN": MessageKind(),
    "BYE": MessageKind(),
}


@dataclass(slots=True)  # not frozen: that would take three times as long to make, some of them per chunk
class Message:
    """A checked message: its kind, and exactly the fields and arrays of that kind (optional arrays may be absent)."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
