"""Encoding of messages as frames, with the check of frames against the schema that decoding them demands."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from workers.errors import ProtocolError
from workers.protocol import (
    ALIGNMENT_BYTES,
    MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    MAX_INT,
    MAX_TEXT,
    SCHEMA,
    VERSION,
    ArrayField,
    Message,
    MessageKind,
    align,
)

Frame = bytes | bytearray | memoryview

_UNPACK_LIMITS = {"max_ext_len": 0, "max_bin_len": 0, "max_str_len": MAX_TEXT, "max_array_len": 64, "max_map_len": 64}


def check_outgoing(message: Message) -> None:
    """Refuse a message that the other side could not read.

    Raises:
        ProtocolError: it breaks `SCHEMA`.
    """
    kind = _kind(message.kind)
    _check_fields(kind, message.fields)
    for name, array in message.arrays.items():
        _check_array(kind, name, array.dtype.str, array.shape)
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


def encode_into(room: np.ndarray | None, message: Message) -> list[Frame]:
    """The frames of a message that `check_outgoing` passed, with as many of its arrays as fit in shared memory.

    Args:
        room: uint8, the part of the message's berth that is this side's to write; None if it has no berth. Arrays are
            copied there one after the other, but one that lies there already is left where it is.
        message: its field `berth` says whose room it is.
    """
    listed, frames, end = [], [], 0
    for name, array in message.arrays.items():
        offset = None if room is None else _put(array, room, end)
        listed.append([name, array.dtype.str, array.shape, offset])
        if offset is None:
            frames.append(array.data)
        else:
            end = align(offset + array.nbytes)
    return [msgpack.packb({"v": VERSION, "kind": message.kind, **message.fields, "arrays": listed}), *frames]


def decode(frames: Sequence[Frame], rooms: np.ndarray | None = None) -> Message:
    """Check received frames against `SCHEMA`; arrays are views of shared memory, or of their frames if aligned there.

    Args:
        frames: as received.
        rooms: uint8, the parts of all berths that the other side writes; None where there is no ring.

    Raises:
        ProtocolError: the first thing that is wrong, beginning with the name of its field.
    """
    if not frames:
        raise ProtocolError("frames: got none, expected a header frame.")
    header = _unpack_header(frames[0])
    version = header.pop("v", None)
    if type(version) is not int or version != VERSION:
        raise ProtocolError(
            f"v: got schema version {version!r}, this side speaks {VERSION}; run one release on both sides."
        )
    name, listed = header.pop("kind", None), header.pop("arrays", None)
    kind = _kind(name)
    _check_fields(kind, header)
    arrays = _view_arrays(kind, listed, frames[1:], _room_of(header.get("berth"), rooms))
    return Message(str(name), header, arrays)


def tag_of(frames: Sequence[Frame]) -> int | None:
    """The tag of a message that `decode` refused, if it can be read at all: so that a refusal finds its chunk."""
    try:
        tag = _unpack_header(frames[0]).get("tag") if frames else None
    except ProtocolError:
        return None
    return tag if type(tag) is int and 0 <= tag <= MAX_INT else None


def _unpack_header(frame: Frame) -> dict[str, Any]:
    view = memoryview(frame)
    if view.nbytes > MAX_HEADER_BYTES:
        raise ProtocolError(f"header: {view.nbytes} bytes, expected at most {MAX_HEADER_BYTES}.")
    try:
        header = msgpack.unpackb(view, **_UNPACK_LIMITS)
    except (ValueError, msgpack.UnpackException, RecursionError) as e:
        raise ProtocolError(f"header: not a msgpack map within the limits ({type(e).__name__}: {e}).") from e
    if not isinstance(header, dict):
        raise ProtocolError(f"header: got a {type(header).__name__}, expected a map.")
    return header


def _kind(name: object) -> MessageKind:
    if not isinstance(name, str) or name not in SCHEMA:
        raise ProtocolError(f"kind: got {str(name)[:40]!r}, expected one of {', '.join(SCHEMA)}.")
    return SCHEMA[name]


def _check_fields(kind: MessageKind, fields: Mapping[str, Any]) -> None:
    if fields.keys() != kind.fields.keys():
        for name in fields:
            if name not in kind.fields:
                raise ProtocolError(f"{str(name)[:40]}: unknown field, expected {', '.join(kind.fields) or 'none'}.")
        for name in kind.fields:
            if name not in fields:
                raise ProtocolError(f"{name}: missing.")
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


def _check_array(kind: MessageKind, name: object, dtype: object, shape: Sequence[int]) -> ArrayField:
    spec = kind.arrays.get(name) if isinstance(name, str) else None
    if spec is None:
        raise ProtocolError(f"{str(name)[:40]}: unknown array, expected {', '.join(kind.arrays) or 'none'}.")
    if dtype != spec.dtype:
        raise ProtocolError(f"{name}: dtype {str(dtype)[:40]!r}, expected {spec.dtype!r}.")
    if len(shape) != spec.ndim:
        raise ProtocolError(f"{name}: shape {tuple(shape)} has {len(shape)} dimensions, expected {spec.ndim}.")
    return spec


def _check_complete(kind: MessageKind, arrays: Mapping[str, np.ndarray]) -> None:
    for name, spec in kind.arrays.items():
        if name not in arrays and not spec.optional:
            raise ProtocolError(f"{name}: missing array.")


def _put(array: np.ndarray, room: np.ndarray, end: int) -> int | None:
    """The offset of the array in the room, where it is copied unless it lies there; None if it does not fit."""
    if array.base is room.base and 0 <= (offset := _address(array) - _address(room)) < len(room):
        assert offset >= end and offset % ALIGNMENT_BYTES == 0, "arrays made in a room rise like those of the message"
        return offset
    if end + array.nbytes > len(room):
        return None
    np.copyto(np.ndarray(array.shape, array.dtype, room, end), array)
    return end


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _room_of(berth: int | None, rooms: np.ndarray | None) -> np.ndarray | None:
    if berth is None:
        return None
    if rooms is None:
        raise ProtocolError(f"berth: got {berth}, but this side has no ring.")
    if berth >= len(rooms):
        raise ProtocolError(f"berth: got {berth}, expected less than {len(rooms)}.")
    return rooms[berth]


def _view_arrays(
    kind: MessageKind, listed: object, frames: Sequence[Frame], room: np.ndarray | None
) -> dict[str, np.ndarray]:
    if not isinstance(listed, list):
        raise ProtocolError(f"arrays: got a {type(listed).__name__}, expected a list of [name, dtype, shape, offset].")
    arrays: dict[str, np.ndarray] = {}
    num_framed = end = 0
    for entry in listed:
        if not isinstance(entry, list) or len(entry) != 4 or not isinstance(entry[2], list):
            raise ProtocolError(f"arrays: entry {str(entry)[:40]!r}, expected [name, dtype, shape, offset].")
        name, dtype, shape, offset = entry
        spec = _check_array(kind, name, dtype, shape)
        if name in arrays:
            raise ProtocolError(f"{name}: named twice.")
        num_bytes = _num_bytes(name, spec, shape)
        if offset is None:
            if num_framed == len(frames):
                raise ProtocolError(f"arrays: more named than the {len(frames)} frames received.")
            arrays[name] = _view_frame(name, spec, shape, num_bytes, memoryview(frames[num_framed]))
            num_framed += 1
        else:
            end = _check_place(name, offset, num_bytes, room, end)
            assert room is not None  # or the place was refused
            arrays[name] = np.ndarray(shape, spec.dtype, room, offset)
    if num_framed != len(frames):
        raise ProtocolError(f"arrays: {num_framed} named as frames, {len(frames)} frames received.")
    _check_complete(kind, arrays)
    return arrays


def _num_bytes(name: str, spec: ArrayField, shape: list[Any]) -> int:
    num_bytes = int(spec.dtype[-1])
    for n in shape:
        if type(n) is not int or not 0 <= n <= MAX_FRAME_BYTES:
            raise ProtocolError(f"{name}: shape {str(shape)[:40]}, expected lengths between 0 and {MAX_FRAME_BYTES}.")
        num_bytes *= n  # Python integers: no overflow can make a lie come true
    return num_bytes


def _check_place(name: str, offset: object, num_bytes: int, room: np.ndarray | None, end: int) -> int:
    """The end of an array in the room; `end` is where the array before it ends."""
    if type(offset) is not int:
        raise ProtocolError(f"{name}: offset {str(offset)[:40]!r}, expected a whole number or null.")
    if room is None:
        raise ProtocolError(f"{name}: offset {offset}, but the message names no berth.")
    if offset < end or offset % ALIGNMENT_BYTES:
        raise ProtocolError(f"{name}: offset {offset}, expected a multiple of {ALIGNMENT_BYTES} from {end} on.")
    if offset + num_bytes > len(room):
        raise ProtocolError(f"{name}: bytes {offset} to {offset + num_bytes} of a part of {len(room)}.")
    return offset + num_bytes


def _view_frame(name: str, spec: ArrayField, shape: list[int], num_bytes: int, data: memoryview) -> np.ndarray:
    if data.nbytes != num_bytes:
        raise ProtocolError(
            f"{name}: frame of {data.nbytes} bytes, expected {num_bytes} for shape {shape} of {spec.dtype}."
        )
    array = np.frombuffer(data, dtype=spec.dtype).reshape(shape)
    # ZeroMQ packs small frames at odd addresses; to compiled kernels a misaligned or read-only array is another type.
    return array if array.flags.aligned and array.flags.writeable else array.copy()
