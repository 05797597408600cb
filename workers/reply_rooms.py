"""Where a worker puts what its REPLYs carry, in memory that the trunk reads."""

import numpy as np

from workers.array_codec import Room
from workers.prepared_chunk import Answer


class ReplyRooms:
    """The worker's part of each berth, and the arrays of a REPLY at its front: made once, not for each chunk.

    Args:
        replies_RP: uint8, of a ring.
        dim: columns of the feature gradient.

    Example:
        >>> room, answer = ReplyRooms(np.zeros((2, 4096), np.uint8), dim=8).of(1, num_examples=3)
        >>> answer.feature_grad_BD.shape, room.put(answer.loss_B)
        ((3, 8), 0)
    """

    def __init__(self, replies_RP: np.ndarray, dim: int) -> None:
        self._replies_RP, self._dim = replies_RP, dim
        self._latest: dict[int, tuple[int, Room, Answer]] = {}

    def of(self, berth: int, num_examples: int) -> tuple[Room, Answer | None]:
        """The room in a berth, and where in it the engine may put what a REPLY carries; None if it has too little."""
        latest = self._latest.get(berth)
        if latest is not None and latest[0] == num_examples:  # chunks are mostly alike
            return latest[1:]
        room = Room(self._replies_RP[berth])
        loss_B = room.make((num_examples,), np.float32)
        feature_grad_BD = room.make((num_examples, self._dim), np.float32)
        if loss_B is None or feature_grad_BD is None:
            return Room(self._replies_RP[berth]), None
        answer = Answer(loss_B, feature_grad_BD)
        self._latest[berth] = num_examples, room, answer
        return room, answer
