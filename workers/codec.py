"""Encoding of messages as frames, with the check of frames against the schema that decoding them demands."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from workers.array_codec import Frame, Part, Room, view_arrays
from workers.errors import ProtocolError
from workers.protocol import (
    MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    MAX_INT,
    MAX_TEXT,
    SCHEMA,
    VERSION,
    Message,
    MessageKind,
)

_UNPACK_LIMITS = {"max_ext_len": 0, "max_bin_len": 0, "max_str_len": MAX_TEXT, "max_array_len": 64, "max_map_len": 64}
_pack = msgpack.Packer().pack
"""Made once, as that takes longer than to pack a header; a call is one piece to other threads."""
_HEADER_LENGTH = 4  # version, kind, fields, arrays


def check_outgoing(message: Message) -> None:
    """Refuse a message that the other side could not read.

    Raises:
        ProtocolError: it breaks `SCHEMA`.
    """
    kind = _kind(message.kind)
    _check_names(kind, message.fields)
    _check_values(kind, message.fields)
    for name, array in message.arrays.items():
        spec = kind.arrays.get(name)
        if spec is None:
            raise ProtocolError(f"{name[:40]}: unknown array, expected {', '.join(kind.arrays) or 'none'}.")
        if array.dtype != spec.numpy:
            raise ProtocolError(f"{name}: dtype {array.dtype.str!r}, expected {spec.dtype!r}.")
        if array.ndim != spec.ndim:
            raise ProtocolError(f"{name}: shape {array.shape} has {array.ndim} dimensions, expected {spec.ndim}.")
        if array.nbytes > MAX_FRAME_BYTES:
            raise ProtocolError(f"{name}: {array.nbytes:,} bytes, expected at most {MAX_FRAME_BYTES:,}.")
        if not array.flags.c_contiguous:
            raise ProtocolError(
                f"{name}: strides {array.strides}, expected a C-contiguous array; use ascontiguousarray."
            )
    _check_complete(kind, message.arrays)


def encode(message: Message) -> list[Frame]:
    """The frames of a message: its header and the arrays themselves, which are not copied.

    Raises:
        ProtocolError: the message breaks `SCHEMA`; a message that this side could not read is never sent.
    """
    check_outgoing(message)
    return encode_into(None, message)


def encode_into(room: Room | None, message: Message) -> list[Frame]:
    """The frames of a message that `check_outgoing` passed, with as many of its arrays as fit in shared memory.

    Args:
        room: in the berth that the message names; None if it names none. Arrays are copied there one after the other,
            except for those that were made there.
        message: its kind has a field `berth` if there is a room.
    """
    kind, arrays, fields = SCHEMA[message.kind], message.arrays, message.fields
    listed, frames = [], []
    for name, place in kind.array_places.items():
        array = arrays.get(name)
        if array is None:
            continue
        offset = None if room is None else room.put(array)
        listed.append((place, offset, *array.shape))
        if offset is None:
            frames.append(array.data)
    return [_pack((VERSION, message.kind, [fields[name] for name in kind.fields], listed)), *frames]


def decode(frames: Sequence[Frame], parts: Sequence[Part] | None = None) -> Message:
    """Check received frames against `SCHEMA`; arrays are views of shared memory, or of their frames if aligned there.

    Args:
        frames: as received.
        parts: of all berths, those that the other side writes; None where there is no ring.

    Raises:
        ProtocolError: the first thing that is wrong, beginning with the name of its field.
    """
    if not frames:
        raise ProtocolError("frames: got none, expected a header frame.")
    header = _unpack_header(frames[0])
    version = header[0]
    if type(version) is not int or version != VERSION:
        raise ProtocolError(
            f"v: got schema version {str(version)[:40]}, this side speaks {VERSION}; run one release on both sides."
        )
    if len(header) != _HEADER_LENGTH:
        raise ProtocolError(f"header: {len(header)} entries, expected version, kind, fields and arrays.")
    _, name, values, listed = header
    kind = _kind(name)
    fields = _named(kind, values)
    if not _are_plain(kind, values):
        _check_values(kind, fields)
    arrays = view_arrays(kind, listed, frames[1:], _part_of(fields.get("berth"), parts))
    _check_complete(kind, arrays)
    return Message(name, fields, arrays)


def flight_id_of(frames: Sequence[Frame]) -> int | None:
    """The flight of a message that `decode` refused, if it can be read at all: so that a refusal finds its chunk."""
    try:
        _, name, values, *_ = _unpack_header(frames[0])
        flight_id = _named(_kind(name), values).get("flight_id")
    except (ProtocolError, LookupError, ValueError):  # there is no header, or it is too short
        return None
    return flight_id if type(flight_id) is int and 0 <= flight_id <= MAX_INT else None


def _unpack_header(frame: Frame) -> list[Any]:
    """The entries of a header, at least one."""
    view = memoryview(frame)
    if view.nbytes > MAX_HEADER_BYTES:
        raise ProtocolError(f"header: {view.nbytes} bytes, expected at most {MAX_HEADER_BYTES}.")
    try:
        header = msgpack.unpackb(view, **_UNPACK_LIMITS)
    except (ValueError, msgpack.UnpackException, RecursionError) as e:
        raise ProtocolError(f"header: not a msgpack array within the limits ({type(e).__name__}: {e}).") from e
    if type(header) is not list or not header:
        raise ProtocolError(f"header: got {str(header)[:40]!r}, expected an array of version, kind, fields and arrays.")
    return header


def _kind(name: object) -> MessageKind:
    if not isinstance(name, str) or name not in SCHEMA:
        raise ProtocolError(f"kind: got {str(name)[:40]!r}, expected one of {', '.join(SCHEMA)}.")
    return SCHEMA[name]


def _named(kind: MessageKind, values: object) -> dict[str, Any]:
    """The fields of a message by their names."""
    if type(values) is not list or len(values) != len(kind.fields):
        raise ProtocolError(
            f"fields: got {str(values)[:40]!r}, expected an array of {', '.join(kind.fields) or 'none'}."
        )
    return dict(zip(kind.fields, values))  # noqa: B905  -- `strict` takes a third longer


def _check_names(kind: MessageKind, fields: Mapping[str, Any]) -> None:
    for name in fields:
        if name not in kind.fields:
            raise ProtocolError(f"{str(name)[:40]}: unknown field, expected {', '.join(kind.fields) or 'none'}.")
    for name in kind.fields:
        if name not in fields:
            raise ProtocolError(f"{name}: missing.")


def _are_plain(kind: MessageKind, values: list[Any]) -> bool:
    """Whether all fields are numbers within their limits, or null: so in all messages that are sent for each chunk."""
    if tuple(map(type, values)) not in kind.plain_types:
        return False
    for value in values:  # noqa: SIM110  -- a generator takes twice as long
        if value is not None and not 0 <= value <= MAX_INT:  # false for NaN
            return False
    return True


def _check_values(kind: MessageKind, fields: Mapping[str, Any]) -> None:
    for name, expected in kind.fields.items():
        _check_value(name, fields[name], expected)


def _check_value(name: str, value: Any, expected: type | tuple[type, ...]) -> None:
    got = type(value)
    if got is not expected and not (isinstance(expected, tuple) and got in expected):
        wanted = " or ".join(t.__name__ for t in (expected if isinstance(expected, tuple) else (expected,)))
        raise ProtocolError(f"{name}: got {str(value)[:40]!r} of type {got.__name__}, expected {wanted}.")
    if got is int and not 0 <= value <= MAX_INT:
        raise ProtocolError(f"{name}: got {value}, expected 0 to 2**63 - 1.")
    if got is float and not math.isfinite(value):
        raise ProtocolError(f"{name}: got {value}, expected a finite number.")
    if got is str and len(value.encode(errors="surrogatepass")) > MAX_TEXT:
        raise ProtocolError(f"{name}: text of {len(value)} characters, expected at most {MAX_TEXT} bytes.")


def _check_complete(kind: MessageKind, arrays: Mapping[str, np.ndarray]) -> None:
    if not kind.required_arrays <= arrays.keys():
        name = next(name for name in kind.arrays if name in kind.required_arrays and name not in arrays)
        raise ProtocolError(f"{name}: missing array.")


def _part_of(berth: int | None, parts: Sequence[Part] | None) -> Part | None:
    if berth is None:
        return None
    if parts is None:
        raise ProtocolError(f"berth: got {berth}, but this side has no ring.")
    if berth >= len(parts):
        raise ProtocolError(f"berth: got {berth}, expected less than {len(parts)}.")
    return parts[berth]
