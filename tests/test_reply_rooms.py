"""Where a worker puts its replies: the same place from chunk to chunk, another when a chunk has another size."""

import numpy as np
import pytest

from workers.codec import encode_into
from workers.protocol import Message
from workers.reply_rooms import ReplyRooms

DIM, PART_BYTES = 8, 4096


@pytest.fixture
def memory_RP():
    return np.zeros((3, PART_BYTES), np.uint8)


def test_arrays_of_a_berth_are_made_once_and_lie_in_its_part(memory_RP):
    rooms = ReplyRooms(memory_RP, DIM)
    room, answer = rooms.of(1, 5)
    answer.loss_B[:], answer.feature_grad_BD[:] = 1.0, 2.0
    assert memory_RP[1].any() and not memory_RP[[0, 2]].any()
    again_room, again = rooms.of(1, 5)
    assert again_room is room and again.loss_B is answer.loss_B and again.feature_grad_BD is answer.feature_grad_BD


def test_another_size_gets_other_arrays_at_the_front_of_the_part(memory_RP):
    rooms = ReplyRooms(memory_RP, DIM)
    for num_examples in (5, 9, 5, 1):
        room, answer = rooms.of(1, num_examples)
        assert answer.loss_B.shape == (num_examples,) and answer.feature_grad_BD.shape == (num_examples, DIM)
        assert room.put(answer.loss_B) == 0


def test_what_has_too_little_room_is_sent_as_frames_or_by_half(memory_RP):
    room, answer = ReplyRooms(memory_RP, DIM).of(0, PART_BYTES)
    assert answer is None
    loss_B, feature_grad_BD = np.ones(PART_BYTES, np.float32), np.ones((PART_BYTES, DIM), np.float32)
    fields = dict.fromkeys(("flight_id", "berth", "rows_written", "accidental_hits", "staleness_chunks", "draw_ns"), 0)
    reply = Message("REPLY", {**fields, "kernel_ns": 0}, {"loss_B": loss_B, "feature_grad_BD": feature_grad_BD})
    assert len(encode_into(room, reply)) == 3 and not memory_RP.any()


def test_a_reply_of_another_chunk_in_the_same_berth_refers_to_its_own_arrays(memory_RP):
    rooms = ReplyRooms(memory_RP, DIM)
    for berth in (0, 1, 0):
        room, answer = rooms.of(berth, 4)
        assert [room.put(answer.loss_B), room.put(answer.feature_grad_BD)] == [0, 64]
