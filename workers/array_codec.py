"""Arrays of a message: where each lies, in shared memory or in a frame of its own.

A part of a berth is filled from the front. Whatever is said of an array by the other side is checked before a byte of
it is looked at: Python integers, so that no overflow can make a lie come true.
"""

import math
from collections.abc import Sequence
from typing import NoReturn

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


def view_arrays(
    kind: MessageKind, listed: object, frames: Sequence[Frame], memory_P: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The arrays that a header lists, as views of shared memory, or of their frames where these are aligned.

    Args:
        kind: of the message.
        listed: `[which, offset, *shape]` of each, as received.
        frames: of the arrays that have no offset, in their order.
        memory_P: uint8, the part of the message's berth that the other side wrote; None if it has no berth.

    Raises:
        ProtocolError: names the array, or `arrays`.
    """
    if type(listed) is not list:
        raise ProtocolError(f"arrays: got a {type(listed).__name__}, expected a list of [which, offset, *shape].")
    arrays: dict[str, np.ndarray] = {}
    known, last, num_framed, end = kind.array_list, -1, 0, 0
    room = 0 if memory_P is None else len(memory_P)
    for entry in listed:
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
            raise ProtocolError(f"{name}: shape {str(shape)[:40]} has {len(shape)} dimensions, expected {spec.ndim}.")
        num_bytes = spec.itemsize
        for n in shape:
            if type(n) is not int or not 0 <= n <= MAX_FRAME_BYTES:
                raise ProtocolError(f"{name}: shape {str(shape)[:40]}, expected lengths of 0 to {MAX_FRAME_BYTES}.")
            num_bytes *= n
        if offset is None:
            if num_framed == len(frames):
                raise ProtocolError(f"arrays: more are named as frames than the {len(frames)} received.")
            arrays[name] = _view_frame(name, spec, shape, num_bytes, memoryview(frames[num_framed]))
            num_framed += 1
            continue
        if (
            type(offset) is not int
            or offset < end
            or offset & _MISALIGNED
            or offset + num_bytes > room
            or memory_P is None
        ):
            _refuse_place(name, offset, num_bytes, memory_P, end)
        arrays[name] = np.ndarray(shape, spec.numpy, memory_P, offset)
        end = offset + num_bytes
    if num_framed != len(frames):
        raise ProtocolError(f"arrays: {num_framed} named as frames, {len(frames)} frames received.")
    return arrays


def _refuse_place(name: str, offset: object, num_bytes: int, memory_P: np.ndarray | None, end: int) -> NoReturn:
    if type(offset) is not int:
        raise ProtocolError(f"{name}: offset {str(offset)[:40]!r}, expected a whole number or null.")
    if memory_P is None:
        raise ProtocolError(f"{name}: offset {offset}, but the message names no berth.")
    if offset < end or offset % ALIGNMENT_BYTES:
        raise ProtocolError(f"{name}: offset {offset}, expected a multiple of {ALIGNMENT_BYTES} from {end} on.")
    raise ProtocolError(f"{name}: bytes {offset} to {offset + num_bytes} of a part of {len(memory_P)}.")


def _view_frame(name: str, spec: ArrayField, shape: list[int], num_bytes: int, data: memoryview) -> np.ndarray:
    if data.nbytes != num_bytes:
        raise ProtocolError(
            f"{name}: frame of {data.nbytes} bytes, expected {num_bytes} for shape {shape} of {spec.dtype}."
        )
    array = np.frombuffer(data, dtype=spec.numpy).reshape(shape)
    # ZeroMQ packs small frames at odd addresses; to compiled kernels a misaligned or read-only array is another type.
    return array if array.flags.aligned and array.flags.writeable else array.copy()
