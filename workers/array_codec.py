"""Arrays of a message: where each lies, in shared memory or in a frame of its own.

A part of a berth is filled from the front. Whatever is said of an array by the other side is checked before a byte of
it is looked at: Python integers, so that no overflow can make a lie come true.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workers.errors import ProtocolError
from workers.protocol import ALIGNMENT_BYTES, MAX_FRAME_BYTES, ArrayField, MessageKind, align

Frame = bytes | bytearray | memoryview

_MISALIGNED = ALIGNMENT_BYTES - 1  # as a mask


class Room:
    """One part of a berth while a message is put there.

    Args:
        memory_P: uint8, this side's to write.
    """

    def __init__(self, memory_P: np.ndarray) -> None:
        self._memory_P, self._end = memory_P, 0
        self._made: dict[int, int] = {}

    def make(self, shape: tuple[int, ...], dtype: type) -> np.ndarray | None:
        """An array in the next free place, for `put` to find there; None if it does not fit."""
        offset = align(self._end)
        end = offset + math.prod(shape) * np.dtype(dtype).itemsize
        if end > len(self._memory_P):
            return None
        array = np.ndarray(shape, dtype, self._memory_P, offset)
        self._made[id(array)], self._end = offset, end
        return array

    def put(self, array: np.ndarray) -> int | None:
        """The offset of an array of `make`, or of a copy of any other; None if that does not fit."""
        offset = self._made.get(id(array))
        if offset is None and (copy := self.make(array.shape, array.dtype.type)) is not None:
            np.copyto(copy, array)
            offset = self._made[id(copy)]
        return offset


class Part:
    """One part of a berth while messages that were put there are read. Mostly they are alike: views of it are kept.

    Args:
        memory_P: uint8, the other side's to write.
    """

    def __init__(self, memory_P: np.ndarray) -> None:
        self._memory_P, self._num_bytes = memory_P, len(memory_P)
        self._views: dict[str, tuple[list[Any], np.ndarray, int]] = {}

    def view(self, name: str, spec: ArrayField, entry: list[Any], end: int) -> tuple[np.ndarray, int]:
        """An array that a header lists, and where it ends.

        Args:
            name: of the array.
            spec: of the array.
            entry: `[which, offset, *shape]`, whole numbers, as many as the array has dimensions.
            end: of the array before it.

        Raises:
            ProtocolError: it lies elsewhere.
        """
        kept, offset = self._views.get(name), entry[1]
        if kept is not None and kept[0] == entry and offset >= end:
            return kept[1:]
        num_bytes = math.prod(entry[2:], start=spec.itemsize)
        if offset < end or offset & _MISALIGNED:
            raise ProtocolError(f"{name}: offset {offset}, expected a multiple of {ALIGNMENT_BYTES} from {end} on.")
        if offset + num_bytes > self._num_bytes:
            raise ProtocolError(f"{name}: bytes {offset} to {offset + num_bytes} of a part of {self._num_bytes}.")
        view = np.ndarray(entry[2:], spec.numpy, self._memory_P, offset)
        self._views[name] = entry, view, offset + num_bytes
        return view, offset + num_bytes


def view_arrays(kind: MessageKind, listed: object, frames: Sequence[Frame], part: Part | None) -> dict[str, np.ndarray]:
    """The arrays that a header lists, as views of shared memory, or of their frames where these are aligned.

    Args:
        kind: of the message.
        listed: `[which, offset, *shape]` of each, as received.
        frames: of the arrays that have no offset, in their order.
        part: of the message's berth, that which the other side wrote; None if it has no berth.

    Raises:
        ProtocolError: names the array, or `arrays`.
    """
    if type(listed) is not list:
        raise ProtocolError(f"arrays: got a {type(listed).__name__}, expected a list of [which, offset, *shape].")
    arrays: dict[str, np.ndarray] = {}
    known, last, num_framed, end = kind.array_list, -1, 0, 0
    for entry in listed:
        if type(entry) is not list or len(entry) < 2:
            raise ProtocolError(f"arrays: entry {str(entry)[:40]!r}, expected [which, offset, *shape].")
        which, offset = entry[0], entry[1]
        if type(which) is not int or not last < which < len(known):
            raise ProtocolError(
                f"arrays: {str(which)[:40]!r} after {last}, expected one of {len(known)}, each once and rising."
            )
        last = which
        name, spec = known[which]
        if len(entry) != 2 + spec.ndim:
            raise ProtocolError(f"{name}: shape {str(entry[2:])[:40]} has not {spec.ndim} dimensions.")
        for n in entry[2:]:
            if type(n) is not int or not 0 <= n <= MAX_FRAME_BYTES:
                raise ProtocolError(f"{name}: shape {str(entry[2:])[:40]}, expected lengths of 0 to {MAX_FRAME_BYTES}.")
        if offset is None:
            if num_framed == len(frames):
                raise ProtocolError(f"arrays: more are named as frames than the {len(frames)} received.")
            arrays[name] = _view_frame(name, spec, entry[2:], memoryview(frames[num_framed]))
            num_framed += 1
            continue
        if type(offset) is not int:
            raise ProtocolError(f"{name}: offset {str(offset)[:40]!r}, expected a whole number or null.")
        if part is None:
            raise ProtocolError(f"{name}: offset {offset}, but the message names no berth.")
        arrays[name], end = part.view(name, spec, entry, end)
    if num_framed != len(frames):
        raise ProtocolError(f"arrays: {num_framed} named as frames, {len(frames)} frames received.")
    return arrays


def _view_frame(name: str, spec: ArrayField, shape: list[int], data: memoryview) -> np.ndarray:
    num_bytes = math.prod(shape, start=spec.itemsize)
    if data.nbytes != num_bytes:
        raise ProtocolError(
            f"{name}: frame of {data.nbytes} bytes, expected {num_bytes} for shape {shape} of {spec.dtype}."
        )
    array = np.frombuffer(data, dtype=spec.numpy).reshape(shape)
    # ZeroMQ packs small frames at odd addresses; to compiled kernels a misaligned or read-only array is another type.
    return array if array.flags.aligned and array.flags.writeable else array.copy()
