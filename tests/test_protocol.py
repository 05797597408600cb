"""The wire protocol: round trips, lies and noise."""

import ast
import dataclasses
import pickle
import re
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from worker_system import make_chunk, make_reply

import workers
from workers import protocol
from workers.array_codec import Part, Room
from workers.chunk_messages import chunk_message, chunk_of, error_of, refusal_message, reply_message, reply_of
from workers.codec import check_outgoing, decode, encode, encode_into, flight_id_of
from workers.errors import ChunkError, MatrixMismatch, ProtocolError, RunError
from workers.memory import POISON_BYTE
from workers.protocol import MAX_HEADER_BYTES, MAX_INT, MAX_TEXT, SCHEMA, VERSION, Message, MessageKind

_INTS = st.integers(0, MAX_INT)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(max_size=50)
_VALUES = {int: _INTS, float: _FLOATS, str: _TEXTS, bool: st.booleans()}


_ROOMS = np.full((3, 1 << 16), POISON_BYTE, np.uint8)
"""The parts of three berths, as both sides map them."""
_PARTS = [Part(memory_P) for memory_P in _ROOMS]


def _values(expected: type | tuple[type, ...]) -> st.SearchStrategy:
    if expected is dict:
        return st.dictionaries(_TEXTS, st.one_of(_INTS, _FLOATS, _TEXTS), max_size=5)
    if isinstance(expected, tuple):
        return st.one_of(*(_VALUES.get(t, st.none()) for t in expected))
    return _VALUES[expected]


def _arrays(kind: MessageKind) -> st.SearchStrategy:
    one = {
        name: hnp.arrays(spec.dtype, hnp.array_shapes(min_dims=spec.ndim, max_dims=spec.ndim, min_side=0, max_side=9))
        for name, spec in kind.arrays.items()
    }
    optional = {name: one.pop(name) for name, spec in kind.arrays.items() if spec.optional}
    return st.fixed_dictionaries(one, optional=optional)


_MESSAGES = st.sampled_from(sorted(SCHEMA)).flatmap(
    lambda name: st.builds(
        Message,
        st.just(name),
        st.fixed_dictionaries(
            {
                field: st.sampled_from([None, 0, 2]) if field == "berth" else _values(expected)
                for field, expected in SCHEMA[name].fields.items()
            }
        ),
        _arrays(SCHEMA[name]),
    )
)


def _as_received(message: Message) -> list[bytes]:
    """Frames alone, or a header and a berth, as the message says."""
    check_outgoing(message)
    berth = message.fields.get("berth")
    return [bytes(frame) for frame in encode_into(None if berth is None else Room(_ROOMS[berth]), message)]


def _lent(message: Message, berth: int | None) -> Message:
    return dataclasses.replace(message, fields={**message.fields, "berth": berth})


def _assert_equal(got: Message, sent: Message) -> None:
    assert (got.kind, got.fields, set(got.arrays)) == (sent.kind, sent.fields, set(sent.arrays))
    for name, array in sent.arrays.items():
        assert got.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(got.arrays[name], array)


@given(_MESSAGES)
@settings(max_examples=150, deadline=None)
def test_every_message_survives_the_wire(message: Message) -> None:
    frames = _as_received(message)
    assert len(frames) == 1 or message.fields.get("berth") is None
    _assert_equal(decode(frames, _PARTS), message)


@given(st.lists(st.binary(max_size=200), max_size=5))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames, _PARTS)
    flight_id_of(frames)


@given(_MESSAGES, st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_messages_are_refused_or_valid(message: Message, data: st.DataObject) -> None:
    frames = [bytearray(frame) for frame in _as_received(message)]
    for _ in range(data.draw(st.integers(1, 3))):
        frame = data.draw(st.sampled_from(frames))
        damage = data.draw(st.sampled_from(["flip", "cut", "grow", "drop", "repeat"]))
        if damage == "flip" and frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
        elif damage == "cut" and frame:
            del frame[data.draw(st.integers(0, len(frame) - 1)) :]
        elif damage == "grow":
            frame.extend(data.draw(st.binary(min_size=1, max_size=9)))
        elif damage == "drop" and len(frames) > 1:
            frames.pop()
        elif damage == "repeat":
            frames.append(bytearray(frame))
    try:
        got = decode(frames, _PARTS)
    except ProtocolError:
        return
    assert decode(_as_received(got), _PARTS).kind == got.kind  # what is let through obeys the schema
    for array in got.arrays.values():
        array.sum()  # and can be read


@given(
    st.recursive(
        st.one_of(_INTS, _FLOATS, _TEXTS, st.none()), lambda s: st.one_of(st.lists(s), st.dictionaries(_TEXTS, s))
    )
)
@settings(max_examples=200, deadline=None)
def test_any_msgpack_header_is_refused(header: object) -> None:
    with pytest.raises(ProtocolError):
        decode([msgpack.packb(header)])


def _chunk_header(lent: int | None = None, **changes: object) -> list[bytes]:
    """A CHUNK whose header says something else; fields may be gone, or more."""
    header_frame, *frames = _as_received(_lent(chunk_message(5, make_chunk()), lent))
    version, kind, values, listed = msgpack.unpackb(header_frame)
    fields = dict(zip(SCHEMA["CHUNK"].fields, values, strict=True))
    said = {"v": version, "kind": kind, "arrays": listed, **fields, **changes}
    version, kind, listed = (said.pop(name) for name in ("v", "kind", "arrays"))
    return [msgpack.packb([version, kind, [v for v in said.values() if v != "gone"], listed]), *frames]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"v": VERSION + 1}, "v"),
        ({"v": None}, "v"),
        ({"v": True}, "v"),
        ({"kind": "PICKLE"}, "kind"),
        ({"kind": ["CHUNK"]}, "kind"),
        ({"flight_id": "gone"}, "fields"),
        ({"flight_id": -1}, "flight_id"),
        ({"flight_id": 2**63}, "flight_id"),
        ({"flight_id": True}, "flight_id"),
        ({"step": 1.5}, "step"),
        ({"row_lr": float("nan")}, "row_lr"),
        ({"row_lr": 1}, "row_lr"),
        ({"update": 1}, "update"),
        ({"extra": 1}, "fields"),
        ({"arrays": {}}, "arrays"),
        ({"arrays": []}, "arrays"),
        ({"arrays": [7] * 5}, "arrays"),
        ({"arrays": [[0]] * 5}, "arrays"),
        ({"arrays": [[0, None]] * 5}, "features_BD"),
        ({"arrays": [[0, None, 8, 16, 1]] * 5}, "features_BD"),
        ({"arrays": [[0, None, 8, 17]] * 5}, "features_BD"),
        ({"arrays": [[0, None, -8, -16]] * 5}, "features_BD"),
        ({"arrays": [[0, None, 2**62, 8]] * 5}, "features_BD"),
        ({"arrays": [[0, None, 8.0, 16]] * 5}, "features_BD"),
        ({"arrays": [[0, None, [8, 16]]] * 5}, "features_BD"),
        ({"arrays": [[0, None, 8, 16]] * 5}, "arrays"),
        ({"arrays": [[8, None, 8]] * 5}, "arrays"),
        ({"arrays": [[-1, None, 8]] * 5}, "arrays"),
        ({"arrays": [[False, None, 8, 16]] * 5}, "arrays"),
        ({"arrays": [[None, None, 8]] * 5}, "arrays"),
    ],
)
def test_lies_in_the_header_are_named(changes: dict, field: str) -> None:
    with pytest.raises(ProtocolError, match=f"^{field}[:,] "):
        decode(_chunk_header(**changes))


_FEATURES_BYTES = 8 * 16 * 4


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"berth": 3}, "berth"),
        ({"berth": 2**62}, "berth"),
        ({"berth": -1}, "berth"),
        ({"berth": True}, "berth"),
        ({"berth": None}, "features_BD"),
        ({"arrays": [[0, 32, 8, 16]]}, "features_BD"),
        ({"arrays": [[0, -64, 8, 16]]}, "features_BD"),
        ({"arrays": [[0, 64.0, 8, 16]]}, "features_BD"),
        ({"arrays": [[0, True, 8, 16]]}, "features_BD"),
        ({"arrays": [[0, 2**63 - 64, 8, 16]]}, "features_BD"),
        ({"arrays": [[0, (1 << 16) - _FEATURES_BYTES + 64, 8, 16]]}, "features_BD"),
        ({"arrays": [[0, 0, 2**14, 16]]}, "features_BD"),
        ({"arrays": [[0, 0, 2**62, 16]]}, "features_BD"),
        ({"arrays": [[0, 64, 8, 16], [1, 0, 3]]}, "pos_ids"),
        ({"arrays": [[0, 0, 8, 16], [1, 448, 3]]}, "pos_ids"),
        ({"arrays": [[0, None, 8, 16]]}, "arrays"),
    ],
)
def test_lies_about_shared_memory_are_named(changes: dict, field: str) -> None:
    with pytest.raises(ProtocolError, match=f"^{field}[:,] "):
        decode(_chunk_header(lent=1, **changes), _PARTS)


def test_a_last_place_that_just_fits_is_taken() -> None:
    last = (1 << 16) - 16 * 4
    listed = [[0, 0, 8, 16], [1, _FEATURES_BYTES, 24], [2, last, 16]]
    pos_offsets = decode(_chunk_header(lent=1, arrays=listed), _PARTS).arrays["pos_offsets"]
    assert pos_offsets.__array_interface__["data"][0] == _ROOMS[1].__array_interface__["data"][0] + last
    listed[2] = [2, last, 17]
    with pytest.raises(ProtocolError, match=r"^pos_offsets: bytes"):
        decode(_chunk_header(lent=1, arrays=listed), _PARTS)


def test_a_berth_without_a_ring_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"^berth: got 1, but this side has no ring"):
        decode(_chunk_header(lent=1))


def test_arrays_in_a_berth_are_not_copied() -> None:
    message = _lent(chunk_message(1, make_chunk()), 2)
    got = decode(_as_received(message), _PARTS)
    _assert_equal(got, message)
    for array in got.arrays.values():
        assert np.shares_memory(array, _ROOMS[2]) or array.size == 0
        assert array.flags.carray


def test_places_of_the_last_message_are_checked_again() -> None:
    """A view is kept of each array; what comes before it in the next message may be longer than it was."""
    first = [[0, 0, 8, 16], [1, _FEATURES_BYTES, 24], [2, _FEATURES_BYTES + 128, 9]]
    before = decode(_chunk_header(lent=1, arrays=first), _PARTS).arrays
    again = decode(_chunk_header(lent=1, arrays=first), _PARTS).arrays
    assert all(again[name] is array for name, array in before.items())
    with pytest.raises(ProtocolError, match=r"^pos_ids: offset"):
        decode(_chunk_header(lent=1, arrays=[[0, 0, 9, 16], *first[1:]]), _PARTS)
    shorter = decode(_chunk_header(lent=1, arrays=[[0, 0, 7, 16], [1, _FEATURES_BYTES, 23], first[2]]), _PARTS).arrays
    assert shorter["features_BD"].shape == (7, 16) and shorter["pos_ids"].shape == (23,)
    for loose in ([0, 0.0, 7, 16], [0, False, 7, 16], [0, 0, 7.0, 16]):
        with pytest.raises(ProtocolError, match=r"^features_BD: "):
            decode(_chunk_header(lent=1, arrays=[loose, *first[1:]]), _PARTS)


def test_array_made_in_its_room_is_sent_from_there() -> None:
    room = Room(_ROOMS[0])
    loss_B, grad_BD = room.make((8,), np.float32), room.make((8, 16), np.float32)
    message = reply_message(1, make_reply(make_chunk(), loss_B=loss_B, feature_grad_BD=grad_BD), 0)
    (header,) = encode_into(room, message)
    assert [entry[1] for entry in msgpack.unpackb(header)[3]] == [0, 64]
    grad_BD[:] = 7  # after it was encoded, so what arrives is no copy
    np.testing.assert_array_equal(decode([header], _PARTS).arrays["feature_grad_BD"], 7)


def test_what_does_not_fit_follows_as_a_frame() -> None:
    many = np.sort(np.arange(1 << 15, dtype=np.int32))
    offsets = np.array([0] * 8 + [len(many)], np.int32)
    message = _lent(chunk_message(1, make_chunk(true_ids=many, true_offsets=offsets)), 1)
    frames = _as_received(message)
    assert len(frames) == 2 and len(frames[1]) == many.nbytes
    _assert_equal(decode(frames, _PARTS), message)


def test_missing_array_is_named() -> None:
    header, features, *_ = _chunk_header()
    listed = msgpack.unpackb(header)[3][:1]
    with pytest.raises(ProtocolError, match=r"^pos_ids: missing array"):
        decode([_chunk_header(arrays=listed)[0], features])


def test_header_bombs_are_refused() -> None:
    deep = b"\x91" * 5000 + b"\xc0"
    wide = b"\xdd\xff\xff\xff\xff"  # an array of 2**32 - 1 elements, it says
    large = msgpack.packb({"v": "x" * MAX_HEADER_BYTES})
    others = [msgpack.packb(header) for header in ({b"v": 1}, {}, [], "x", [VERSION, "CHUNK"], [VERSION] * 5)]
    for bomb in (deep, wide, large, msgpack.packb(msgpack.ExtType(1, b"x")), *others):
        with pytest.raises(ProtocolError, match=r"^header: "):
            decode([bomb])


def test_the_header_that_the_protocol_shows_is_one_of_this_version() -> None:
    """Its features and positives lie in a berth, its true tags follow as a frame."""
    pattern = r'\[(\d+), "CHUNK", \[7, 3, .*\[\[(\d), 0, 32, 128\], \[(\d), (\d+), 160\], .*\[(\d), null'
    shown = re.search(pattern, str(protocol.__doc__))
    assert shown is not None
    places = SCHEMA["CHUNK"].array_places
    after_features = protocol.align(32 * 128 * SCHEMA["CHUNK"].arrays["features_BD"].itemsize)
    expected = VERSION, places["features_BD"], places["pos_ids"], after_features, places["true_ids"]
    assert tuple(map(int, shown.groups())) == expected
    assert list(SCHEMA["CHUNK"].fields)[:2] == ["flight_id", "berth"]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (trace,)

    frames = [pickle.dumps(Bomb())] * 3
    with pytest.raises(ProtocolError):
        decode(frames)
    assert not trace.exists()
    for source in Path(workers.__path__[0]).glob("*.py"):
        nodes = list(ast.walk(ast.parse(source.read_text())))
        imported = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        imported |= {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
        called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert not {"pickle", "marshal", "shelve", "dill", "cloudpickle", "eval", "exec"} & (imported | called), source


def test_the_flight_is_found_in_a_message_of_another_version() -> None:
    assert flight_id_of(_chunk_header(v=99)) == 5
    assert flight_id_of(_chunk_header(flight_id=-1)) is None


@pytest.mark.parametrize("offset_bytes", range(8))
def test_misaligned_frames_become_aligned_arrays(offset_bytes: int) -> None:
    message = chunk_message(1, make_chunk(items_B=np.arange(8), true_ids=None, true_offsets=None))
    frames = []
    for frame in _as_received(message):
        padded = bytearray(offset_bytes) + frame
        frames.append(memoryview(padded)[offset_bytes:])
    got = decode(frames)
    _assert_equal(got, message)
    for array in got.arrays.values():
        assert array.flags.aligned and array.flags.writeable and array.flags.c_contiguous


def test_large_aligned_frames_are_not_copied() -> None:
    frames = [memoryview(bytearray(frame)) for frame in _as_received(chunk_message(1, make_chunk()))]
    features_BD = decode(frames).arrays["features_BD"]
    assert np.shares_memory(features_BD, np.frombuffer(frames[1], np.uint8))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"features_BD": np.zeros((8, 16))}, "features_BD"),
        ({"features_BD": np.zeros(8, np.float32)}, "features_BD"),
        ({"features_BD": np.zeros((16, 8), np.float32).T}, "features_BD"),
        ({"features_BD": np.broadcast_to(np.float32(0), (1 << 14, (1 << 14) + 1))}, "features_BD: 1,073,807,360 bytes"),
        ({"pos_ids": np.zeros(8, np.int64)}, "pos_ids"),
        ({"seed": -1}, "seed"),
        ({"step": 2**63}, "step"),
        ({"row_lr": np.inf}, "row_lr"),
    ],
)
def test_what_could_not_be_read_is_not_sent(changes: dict, field: str) -> None:
    with pytest.raises(ProtocolError, match=f"^{field}[:,] "):
        encode(chunk_message(1, make_chunk(**changes)))


def test_chunks_and_replies_keep_every_field() -> None:
    chunk = make_chunk(3, pos_weights=np.linspace(0, 1, 24, dtype=np.float32))
    got = chunk_of(decode(_as_received(chunk_message(9, chunk))))
    for field in dataclasses.fields(chunk):
        np.testing.assert_array_equal(getattr(got, field.name), getattr(chunk, field.name), err_msg=field.name)
    reply = make_reply(chunk)
    back = reply_of(decode(_as_received(reply_message(9, reply))), chunk)
    for field in dataclasses.fields(reply):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(reply, field.name), err_msg=field.name)


def test_reply_of_another_shape_is_refused() -> None:
    message = reply_message(1, make_reply(make_chunk(), loss_B=np.zeros(7, np.float32)))
    with pytest.raises(ProtocolError, match=r"^loss_B: "):
        reply_of(message, make_chunk())


@pytest.mark.parametrize("error", [ChunkError("pos_ids: bad"), ProtocolError("v: 2"), MatrixMismatch("matrix: other")])
def test_refusals_keep_type_and_text(error: Exception) -> None:
    got = error_of(decode(_as_received(refusal_message(1, error))))
    assert (type(got), str(got)) == (type(error), str(error))


def test_refusals_of_unknown_type_or_great_length_are_still_refusals() -> None:
    assert type(error_of(refusal_message(None, RunError("x")))) is ProtocolError
    encode(refusal_message(1, ChunkError("ü" * 10 * MAX_TEXT)))
