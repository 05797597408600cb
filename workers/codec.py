"""Encoding of messages as frames, with the check of frames against the schema that decoding them demands."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from workers.errors import ProtocolError
from workers.protocol import (
    MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    MAX_INT,
    MAX_TEXT,
    SCHEMA,
    VERSION,
    ArrayField,
    Message,
    MessageKind,
)

Frame = bytes | bytearray | memoryview

_UNPACK_LIMITS = {"max_ext_len": 0, "max_bin_len": 0, "max_str_len": MAX_TEXT, "max_array_len": 64, "max_map_len": 64}


def encode(message: Message) -> list[Frame]:
    """The frames of a message: its header and the arrays themselves, which are not copied.

    Raises:
        ProtocolError: the message breaks `SCHEMA`; a message that this side could not read is never sent.
    """
    kind = _kind(message.kind)
    _check_fields(kind, message.fields)
    listed = []
    for name, array in message.arrays.items():
        _check_array(kind, name, array.dtype.str, array.shape)
        if not array.flags.c_contiguous:
            raise ProtocolError(
                f"{name}: strides {array.strides}, expected a C-contiguous array; use ascontiguousarray."
            )
        listed.append([name, array.dtype.str, list(array.shape)])
    _check_complete(kind, message.arrays)
    header = {"v": VERSION, "kind": message.kind, **message.fields, "arrays": listed}
    return [msgpack.packb(header), *(array.data for array in message.arrays.values())]


def decode(frames: Sequence[Frame]) -> Message:
    """Check received frames against `SCHEMA`; arrays are views of their frames where these are aligned.

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
    arrays = _view_arrays(kind, listed, frames[1:])
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
        header = msgpack.unpackb(
            view, max_ext_len=0, max_bin_len=0, max_str_len=MAX_TEXT, max_array_len=64, max_map_len=64
        )
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
    for name in fields:
        if name not in kind.fields:
            raise ProtocolError(f"{str(name)[:40]}: unknown field, expected {', '.join(kind.fields) or 'none'}.")
    for name, expected in kind.fields.items():
        if name not in fields:
            raise ProtocolError(f"{name}: missing.")
        _check_value(name, fields[name], expected)


def _check_value(name: str, value: Any, expected: type | tuple[type, ...]) -> None:
    types = expected if isinstance(expected, tuple) else (expected,)
    if type(value) not in types:
        wanted = " or ".join(t.__name__ for t in types)
        raise ProtocolError(f"{name}: got {str(value)[:40]!r} of type {type(value).__name__}, expected {wanted}.")
    if isinstance(value, int) and not 0 <= value <= MAX_INT:
        raise ProtocolError(f"{name}: got {value}, expected 0 to 2**63 - 1.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ProtocolError(f"{name}: got {value}, expected a finite number.")
    if isinstance(value, str) and len(value.encode(errors="surrogatepass")) > MAX_TEXT:
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


def _view_arrays(kind: MessageKind, listed: object, frames: Sequence[Frame]) -> dict[str, np.ndarray]:
    if not isinstance(listed, list):
        raise ProtocolError(f"arrays: got a {type(listed).__name__}, expected a list of [name, dtype, shape].")
    if len(listed) != len(frames):
        raise ProtocolError(f"arrays: {len(listed)} named, {len(frames)} frames received.")
    arrays: dict[str, np.ndarray] = {}
    for entry, frame in zip(listed, frames, strict=True):
        if not isinstance(entry, list) or len(entry) != 3 or not isinstance(entry[2], list):
            raise ProtocolError(f"arrays: entry {str(entry)[:40]!r}, expected [name, dtype, shape].")
        name, dtype, shape = entry
        spec = _check_array(kind, name, dtype, shape)
        if name in arrays:
            raise ProtocolError(f"{name}: named twice.")
        arrays[name] = _view(name, spec, shape, memoryview(frame))
    _check_complete(kind, arrays)
    return arrays


def _view(name: str, spec: ArrayField, shape: list[Any], data: memoryview) -> np.ndarray:
    if not all(type(n) is int and 0 <= n <= MAX_FRAME_BYTES for n in shape):
        raise ProtocolError(f"{name}: shape {str(shape)[:40]}, expected lengths between 0 and {MAX_FRAME_BYTES}.")
    dtype = np.dtype(spec.dtype)
    expected_bytes = math.prod(shape) * dtype.itemsize  # Python integers: no overflow can make a lie come true
    if data.nbytes != expected_bytes:
        raise ProtocolError(
            f"{name}: frame of {data.nbytes} bytes, expected {expected_bytes} for shape {shape} of {spec.dtype}."
        )
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    # ZeroMQ packs small frames at odd addresses; to compiled kernels a misaligned or read-only array is another type.
    return array if array.flags.aligned and array.flags.writeable else array.copy()
