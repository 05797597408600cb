"""Arrays of a message: where each lies, in shared memory or in a frame of its own.

A part of a berth is filled from the front. Whatever is said of an array by the other side is checked before a byte of
it is looked at: Python integers, so that no overflow can make a lie come true.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from workers.errors import ProtocolError
from workers.protocol import ALIGNMENT_BYTES, MAX_FRAME_BYTES, UNPACK_LIMITS, ArrayField, MessageKind, align

Frame = bytes | bytearray | memoryview

_MISALIGNED = ALIGNMENT_BYTES - 1  # as a mask


class Room:
    """One part of a berth while a message is put there.

    Args:
        memory_P: uint8, this side's to write.
    """

    def __init__(self, memory_P: np.ndarray) -> None:
        self._memory_P, self._end = memory_P, 0
        self._made: dict[int, tuple[np.ndarray, int]] = {}
        """By id: an array of this room, kept so that no other has its id, and its offset."""
        self.layouts: dict[tuple[object, ...], bytes] = {}
        """Names and ids of such arrays -> their layout: what was made once may be sent often."""

    def make(self, shape: tuple[int, ...], dtype: type) -> np.ndarray | None:
        """An array in the next free place, for `put` to find there; None if it does not fit."""
        offset = align(self._end)
        end = offset + math.prod(shape) * np.dtype(dtype).itemsize
        if end > len(self._memory_P):
            return None
        array = np.ndarray(shape, dtype, self._memory_P, offset)
        self._made[id(array)], self._end = (array, offset), end
        return array

    def put(self, array: np.ndarray) -> int | None:
        """The offset of an array of `make`, or of a copy of any other; None if that does not fit."""
        made = self._made.get(id(array))
        if made is not None:
            return made[1]
        copy = self.make(array.shape, array.dtype.type)
        if copy is None:
            return None
        np.copyto(copy, array)
        return self._made[id(copy)][1]

    def holds(self, arrays: Iterable[np.ndarray]) -> bool:
        """Whether all of these were made here."""
        return all(id(array) in self._made for array in arrays)


class Part:
    """One part of a berth while messages that were put there are read: the arrays of the last of them are kept.

    Replies differ in what their arrays hold alone, and so do chunks whose examples have equally many tags.

    Args:
        memory_P: uint8, the other side's to write.
    """

    def __init__(self, memory_P: np.ndarray) -> None:
        self._memory_P = memory_P
        self._kept: tuple[MessageKind | None, bytes, dict[str, np.ndarray]] = None, b"", {}

    def kept(self, kind: MessageKind, layout: bytes) -> dict[str, np.ndarray] | None:
        """The arrays of the last message, if this one is of its kind and has its layout to the byte."""
        last_kind, last_layout, arrays = self._kept
        return arrays if layout == last_layout and kind is last_kind else None

    def keep(self, kind: MessageKind, layout: bytes, arrays: dict[str, np.ndarray]) -> None:
        """Remember a message all of whose arrays lie here, and were found to be right."""
        self._kept = kind, layout, arrays

    def view(self, name: str, spec: ArrayField, offset: int, shape: list[int], end: int) -> tuple[np.ndarray, int]:
        """An array that a header lists, and where it ends.

        Args:
            name: of the array.
            spec: of the array.
            offset: where it lies.
            shape: whole numbers, as many as the array has dimensions.
            end: of the array before it.

        Raises:
            ProtocolError: it lies elsewhere.
        """
        if offset < end or offset & _MISALIGNED:
            raise ProtocolError(f"{name}: offset {offset}, expected a multiple of {ALIGNMENT_BYTES} from {end} on.")
        stop = offset + math.prod(shape, start=spec.itemsize)
        if stop > len(self._memory_P):
            raise ProtocolError(f"{name}: bytes {offset} to {stop} of a part of {len(self._memory_P)}.")
        return np.ndarray(shape, spec.numpy, self._memory_P, offset), stop


def lay_out(kind: MessageKind, arrays: Mapping[str, np.ndarray], room: Room | None) -> tuple[bytes, list[Frame]]:
    """The layout of a message's arrays, and those that follow as frames.

    Args:
        kind: of the message.
        arrays: contiguous, as its schema says.
        room: takes copies of as many as fit, but for those that were made there; None takes none.
    """
    key = (*arrays, *map(id, arrays.values()))
    if room is not None and (kept := room.layouts.get(key)) is not None:
        return kept, []
    listed: list[tuple[int | None, ...]] = []
    frames: list[Frame] = []
    for name, place in kind.array_places.items():
        array = arrays.get(name)
        if array is None:
            continue
        offset = None if room is None else room.put(array)
        listed.append((place, offset, *array.shape))
        if offset is None:
            frames.append(array.data)
    layout = msgpack.packb(listed)
    if room is not None and room.holds(arrays.values()):
        room.layouts[key] = layout
    return layout, frames


def view_arrays(kind: MessageKind, layout: object, frames: Sequence[Frame], part: Part | None) -> dict[str, np.ndarray]:
    """The arrays of a layout, as views of shared memory, or of their frames where these are aligned.

    Args:
        kind: of the message.
        layout: msgpack of `[which, offset, *shape]` of each, as received.
        frames: of the arrays that have no offset, in their order.
        part: of the message's berth, that which the other side wrote; None if it has no berth.

    Raises:
        ProtocolError: names the array, or `arrays`.
    """
    if type(layout) is not bytes:
        raise ProtocolError(f"arrays: got a {type(layout).__name__}, expected the bytes of a layout.")
    whole = None if frames else part  # all arrays must lie there
    if whole is not None and (kept := whole.kept(kind, layout)) is not None:
        return kept
    arrays: dict[str, np.ndarray] = {}
    known, last, num_framed, end = kind.array_list, -1, 0, 0
    for entry in _listed(layout):
        if type(entry) is not list or len(entry) < 2:
            raise ProtocolError(f"arrays: entry {str(entry)[:40]!r}, expected [which, offset, *shape].")
        which, offset, *shape = entry
        if type(which) is not int or not last < which < len(known):
            raise ProtocolError(
                f"arrays: {str(which)[:40]!r} after {last}, expected one of {len(known)}, each once and rising."
            )
        last = which
        name, spec = known[which]
        if len(shape) != spec.ndim:
            raise ProtocolError(f"{name}: shape {str(shape)[:40]} has not {spec.ndim} dimensions.")
        for n in shape:
            if type(n) is not int or not 0 <= n <= MAX_FRAME_BYTES:
                raise ProtocolError(f"{name}: shape {str(shape)[:40]}, expected lengths of 0 to {MAX_FRAME_BYTES}.")
        if offset is None:
            if num_framed == len(frames):
                raise ProtocolError(f"arrays: more are named as frames than the {len(frames)} received.")
            arrays[name] = _view_frame(name, spec, shape, memoryview(frames[num_framed]))
            num_framed += 1
            continue
        if type(offset) is not int:
            raise ProtocolError(f"{name}: offset {str(offset)[:40]!r}, expected a whole number or null.")
        if part is None:
            raise ProtocolError(f"{name}: offset {offset}, but the message names no berth.")
        arrays[name], end = part.view(name, spec, offset, shape, end)
    if num_framed != len(frames):
        raise ProtocolError(f"arrays: {num_framed} named as frames, {len(frames)} frames received.")
    check_complete(kind, arrays)
    if whole is not None:
        whole.keep(kind, layout, arrays)
    return arrays


def check_complete(kind: MessageKind, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse a message that lacks an array.

    Raises:
        ProtocolError: names it.
    """
    if not kind.required_arrays <= arrays.keys():
        name = next(name for name in kind.arrays if name in kind.required_arrays and name not in arrays)
        raise ProtocolError(f"{name}: missing array.")


def _listed(layout: bytes) -> list[Any]:
    try:
        listed = msgpack.unpackb(layout, **UNPACK_LIMITS)
    except (ValueError, msgpack.UnpackException, RecursionError) as e:
        raise ProtocolError(f"arrays: not a msgpack array within the limits ({type(e).__name__}: {e}).") from e
    if type(listed) is not list:
        raise ProtocolError(f"arrays: got a {type(listed).__name__}, expected a list of [which, offset, *shape].")
    return listed


def _view_frame(name: str, spec: ArrayField, shape: list[int], data: memoryview) -> np.ndarray:
    num_bytes = math.prod(shape, start=spec.itemsize)
    if data.nbytes != num_bytes:
        raise ProtocolError(
            f"{name}: frame of {data.nbytes} bytes, expected {num_bytes} for shape {shape} of {spec.dtype}."
        )
    array = np.frombuffer(data, dtype=spec.numpy).reshape(shape)
    # ZeroMQ packs small frames at odd addresses; to compiled kernels a misaligned or read-only array is another type.
    return array if array.flags.aligned and array.flags.writeable else array.copy()
